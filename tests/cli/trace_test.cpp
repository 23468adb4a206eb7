// trace: what it says of requests that end early. The tensors themselves are the goldens' matter.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "cli/program.h"

namespace xcomposer::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string kDemo = XCOMPOSER_SOURCE_DIR "/demo/checkpoint";

// Ids in, so that a build without a tokenizer traces too.
constexpr const char* kRequest =
    R"({"token_ids": [1, 5, 6, 7], "generate": {"do_sample": false, "max_new_tokens": 2, "eos_token_id": []}})";

std::vector<std::string> TraceInto(const TemporaryFolder& folder, std::vector<std::string> more) {
  std::vector<std::string> arguments = {"trace",
                                        "--model",
                                        kDemo,
                                        "--request",
                                        folder.Write("r.json", kRequest),
                                        "--out",
                                        folder / "t.safetensors"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

TEST(Trace, SaysHowTheRequestEnded) {
  const TemporaryFolder folder;
  const ProgramOutput run = RunProgram(TraceInto(folder, {}));
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("ended by: length\n"));
  EXPECT_THAT(run.err, IsEmpty());
}

TEST(Trace, ThatADeadlineCutIsNotTakenForWhole) {
  const TemporaryFolder folder;
  const std::vector<std::string> arguments =
      TraceInto(folder, {"--deadline", "0.000001", "--quiet"});
  const ProgramOutput run = RunProgram(arguments);
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("ended by: deadline\n"));
  EXPECT_THAT(run.err, HasSubstr("warning: the deadline passed"));
  std::vector<std::string> as_json = arguments;
  as_json.push_back("--json");
  const ProgramOutput cut = RunProgram(as_json);
  EXPECT_EQ(cut.Json()["finish_reason"], "deadline");
  EXPECT_EQ(cut.Json()["tensors"], json::array());
  EXPECT_THAT(cut.err, HasSubstr("warning: the deadline passed"));
}

}  // namespace
}  // namespace xcomposer::testing
