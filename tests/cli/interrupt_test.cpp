// Ctrl-C before there is anything to keep: an error like any other, on the stream where errors go.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "cli/program.h"

namespace xcomposer::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string kDemo = XCOMPOSER_SOURCE_DIR "/demo/checkpoint";

void ExpectCancelled(std::vector<std::string> arguments) {
  ProgramInput input;
  input.interrupt_when_handled = true;
  const ProgramOutput text = RunProgram(arguments, input);
  EXPECT_EQ(text.exit_code, 130);
  EXPECT_THAT(text.err, HasSubstr("xcomposer: cancelled error: interrupted"));
  arguments.push_back("--json");
  const ProgramOutput as_json = RunProgram(arguments, input);
  EXPECT_EQ(as_json.exit_code, 130);
  EXPECT_THAT(as_json.err, IsEmpty());
  const json printed = json::parse(as_json.out, nullptr, false);
  ASSERT_TRUE(printed.contains("error")) << as_json.out;
  EXPECT_EQ(printed["error"]["kind"], "cancelled");
}

TEST(Interrupt, OfATraceIsAnError) {
  const TemporaryFolder folder;
  // The prompt alone takes far longer than the signal.
  json request = {{"token_ids", std::vector<int>(4000, 5)}, {"call", "forward"}};
  const std::string out = folder / "t.safetensors";
  ExpectCancelled({"trace", "--model", kDemo, "--request", folder.Write("r.json", request.dump()),
                   "--out", out, "--taps", "im_mask"});
  EXPECT_FALSE(std::filesystem::exists(out));
}

TEST(Interrupt, OfAVerificationIsAnError) {
  // A hole of a file, which takes no room and seconds to read.
  const TemporaryFolder folder;
  std::filesystem::copy(kDemo + "/config.json", folder / "config.json");
  const std::string header =
      R"({"padding": {"dtype": "U8", "shape": [2147483648], "data_offsets": [0, 2147483648]}})";
  std::string length(8, '\0');
  length[0] = static_cast<char>(header.size());
  const std::string file = folder.Write("model.safetensors", length + header);
  std::filesystem::resize_file(file, 8 + header.size() + 2147483648);
  ExpectCancelled({"inspect", "--model", folder / "", "--verify"});
}

}  // namespace
}  // namespace xcomposer::testing
