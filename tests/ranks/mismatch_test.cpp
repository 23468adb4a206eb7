// Ranks that were started with something else than the others: named with the field by all of them,
// before anything is loaded, and welcome again once they have the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "ranks/rank_group.h"

namespace xcomposer::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
namespace fs = std::filesystem;

constexpr int kRanks = 3;
constexpr int kOther = 2;  // the rank that differs

class Mismatch : public RankGroup {
 protected:
  Mismatch() : RankGroup(kRanks), expected_(WholeRun()) {}
  ~Mismatch() override {
    std::error_code ignored;
    if (!copy_.empty()) fs::remove_all(copy_, ignored);
  }

  /// Every rank names the one that differs and what it differs in.
  void ExpectDifference(const std::string& field) {
    StartRun();
    for (int rank = 0; rank < kRanks; ++rank) {
      const std::string end = EndOf(rank);
      EXPECT_THAT(end, StartsWith("error rank rank=2 ")) << Transcripts();
      EXPECT_THAT(end, HasSubstr(" field=" + field + ": ")) << Transcripts();
      EXPECT_THAT(PrintedInRun(rank), Not(HasSubstr("loading")));
    }
  }

  /// A copy of the checkpoint that `change` has changed.
  std::string ChangedModel(const std::function<void(const fs::path&)>& change) {
    std::string pattern = (fs::temp_directory_path() / "xcomposer_model_XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    copy_ = pattern;
    fs::copy(DemoModel(), copy_);
    change(copy_);
    return copy_;
  }

  const std::string expected_;
  fs::path copy_;
};

TEST_F(Mismatch, AnotherPlan) {
  Set(kOther, "devices", "cpu,cpu");
  ExpectDifference("plan");
  Set(kOther, "devices", "cpu");
  EXPECT_EQ(WholeRun(), expected_);
}

TEST_F(Mismatch, AnotherPrecision) {
  const char* const precisions[][3] = {{"kv_precision", "int8", "auto"},
                                       {"weight_precision", "bf12", "stored"},
                                       {"activations", "bf16", "fp32"}};
  for (const auto& [name, other, usual] : precisions) {
    SCOPED_TRACE(name);
    Set(kOther, name, other);
    ExpectDifference("plan");
    SetAll(name, other);
    EXPECT_NE(WholeRun(), "");
    SetAll(name, usual);
    EXPECT_EQ(WholeRun(), expected_);
  }
}

TEST_F(Mismatch, AnotherVersion) {
  Set(kOther, "version", "0.0.7");
  ExpectDifference("version");
  Set(kOther, "version", "");
  EXPECT_EQ(WholeRun(), expected_);
}

TEST_F(Mismatch, AnotherConfiguration) {
  Set(kOther, "model", ChangedModel([](const fs::path& folder) {
        std::ofstream(folder / "config.json", std::ios::app) << "\n";
      }));
  ExpectDifference("config");
  Set(kOther, "model", DemoModel());
  EXPECT_EQ(WholeRun(), expected_);
}

TEST_F(Mismatch, OtherWeights) {
  Set(kOther, "model", ChangedModel([](const fs::path& folder) {
        std::fstream file(folder / "model.safetensors",
                          std::ios::in | std::ios::out | std::ios::binary);
        file.seekg(-1, std::ios::end);
        const auto last = static_cast<char>(file.get());
        file.seekp(-1, std::ios::end);
        file.put(static_cast<char>(last ^ 1));
      }));
  ExpectDifference("weights");
  Set(kOther, "model", DemoModel());
  EXPECT_EQ(WholeRun(), expected_);
}

TEST_F(Mismatch, ATokenizerThatRankZeroCannotReadIsNamedToAll) {
  Set(0, "model", ChangedModel([](const fs::path& folder) {
        std::ofstream(folder / "tokenizer.model") << "nothing";
      }));
  StartRun();
  for (int rank = 0; rank < kRanks; ++rank) {
    const std::string end = EndOf(rank);
    EXPECT_THAT(end, StartsWith("error tokenizer rank=0 ")) << Transcripts();
  }
  Set(0, "model", DemoModel());
  EXPECT_EQ(WholeRun(), expected_);
}

TEST_F(Mismatch, AnotherSecretGetsNothing) {
  for (const int other : {0, 1, 2}) {
    SCOPED_TRACE(other);
    SetAll("secret", "a secret of all ranks");
    Set(other, "secret", "a secret of nobody else");
    StartRun();
    for (int rank = 0; rank < kRanks; ++rank) {
      const std::string end = EndOf(rank);
      // Seen from a rank with another secret than all others it is they who differ.
      const std::string named = rank == other ? "[0-2]" : std::to_string(other);
      EXPECT_THAT(end, ::testing::MatchesRegex("error (rank|transport) rank=" + named +
                                               " stage=[0-9]+ step=[0-9]+ .*"))
          << "rank " << rank << "\n"
          << Transcripts();
      EXPECT_THAT(end, HasSubstr("secret")) << "rank " << rank;
      EXPECT_THAT(PrintedInRun(rank), Not(HasSubstr("loading"))) << "rank " << rank;
    }
  }
  SetAll("secret", "a secret of all ranks");
  EXPECT_EQ(WholeRun(), expected_);
}

TEST_F(Mismatch, ASecretInAFileIsTheSameAsInText) {
  const fs::path folder = ChangedModel([](const fs::path& folder) {
    std::ofstream(folder / "secret") << "a secret of all ranks\n";
  });
  for (const int rank : {0, 1}) Set(rank, "secret_file", folder / "secret");
  Set(2, "secret", "a secret of all ranks");
  EXPECT_EQ(WholeRun(), expected_);
  Set(0, "secret_file", folder / "none");
  StartRun({0});
  EXPECT_THAT(EndOf(0), AllOf(StartsWith("error usage "), HasSubstr("secret file")));
}

}  // namespace
}  // namespace xcomposer::testing
