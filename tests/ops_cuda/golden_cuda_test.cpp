// Whole recorded cases through the CUDA ops and kernels: some of them under the emulator, all of
// them on a GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <optional>
#include <span>

#include "checkpoint/checkpoint.h"
#include "ops_cuda/margin_rule.h"
#include "ops_cuda/stage_executor.h"
#include "pipeline/checkpoint_weights.h"
#include "pipeline/golden_case.h"
#include "pipeline/golden_run.h"
#include "support/cuda_device.h"
#include "support/largest_difference.h"
#include "support/rounded_ops.h"

namespace xcomposer {
namespace {

namespace fs = std::filesystem;

constexpr size_t kEmulatedSteps = 4;

/// On a machine that only runs the program the folder of the build is not there: the environment
/// may name another one.
fs::path Goldens() {
  const char* named = std::getenv("XCOMPOSER_SHARED_DIR");
  return fs::path(named != nullptr ? named : XCOMPOSER_SHARED_DIR) / "data/goldens";
}

const fs::path kGoldens = Goldens();

struct CaseName {
  std::string kind;
  std::string name;
  KvShape kv;
};

/// One case three times: in float32, with float16 storage and otherwise exact, and as CUDA has it.
class CudaGolden : public testing::TestWithParam<CaseName> {
 protected:
  void SetUp() override {
    if (!fs::exists(kGoldens)) GTEST_SKIP() << "no goldens in " << kGoldens;
    cuda_testing::RequireDevice();
    if (IsSkipped()) return;
    golden_ = LoadGoldenCase(kGoldens / GetParam().kind, GetParam().name);
    if (cuda_testing::IsEmulated()) {  // the rest of the steps are like these
      golden_.output_ids.resize(std::min(golden_.output_ids.size(), kEmulatedSteps));
    }
    checkpoint_ = Checkpoint::Open(golden_.folder / "model");
    config_ = LoadConfig(golden_.folder / "model", HeadersOf(*checkpoint_));
  }

  CheckpointWeights Weights() const {
    return CheckpointWeights(*checkpoint_, {}, {}, WeightStorage::kFloat16, {});
  }

  GoldenRun OnCpu() {
    CheckpointWeights weights = Weights();
    StageExecutor executor(config_, weights, GetParam().kv, at::kCPU);
    return RunGolden(executor, golden_, config_);
  }

  GoldenRun OnCuda() {
    const cuda_testing::CudaRun cuda;
    CheckpointWeights host = Weights();
    cuda_testing::DeviceWeights weights(host, at::kHalf);
    StageExecutor executor(config_, weights, GetParam().kv,
                           at::TensorOptions().device(cuda_testing::CudaDevice()).dtype(at::kHalf));
    ReplayingRecorder recorder;
    executor.RecordSteps(recorder);
    const GoldenRun run = RunGolden(executor, golden_, config_);
    // Rows of an adapter take the products apart, and their steps are not recorded.
    const bool decodes =
        golden_.use_cache && golden_.infer_mode == "base" && golden_.output_ids.size() > 3;
    EXPECT_TRUE(!decodes || recorder.replayed > 0);
    return run;
  }

  GoldenCase golden_;
  std::optional<Checkpoint> checkpoint_;
  ModelConfig config_;
};

/// The field's rule: at most twice the error of the plain computation that stores the same things.
void ExpectWithinTwice(const std::string& tap, std::span<const float> cuda,
                       std::span<const float> rounded, std::span<const float> exact) {
  const double budget = 2 * LargestDifference(rounded, exact);
  const double error = LargestDifference(cuda, exact);
  EXPECT_LE(error, budget + 1e-6) << tap;
  std::cout << "tap " << tap << " error " << error << " of " << budget << "\n";
}

TEST_P(CudaGolden, TapsAndIds) {
  const GoldenRun exact = OnCpu();
  const GoldenRun rounded = [&] {
    const RoundedOps scope;
    return OnCpu();
  }();
  const GoldenRun cuda = OnCuda();
  ASSERT_EQ(exact.taps.size(), cuda.taps.size());
  for (const auto& [name, tap] : exact.taps) {
    if (name.find(".rgb") != std::string::npos || name == "im_mask") {
      EXPECT_EQ(cuda.taps.at(name).values, tap.values) << name;
    } else {
      ExpectWithinTwice(name, cuda.taps.at(name).values, rounded.taps.at(name).values, tap.values);
    }
  }
  EXPECT_EQ(exact.ids, golden_.output_ids);
  const ComparedIds ids = CompareIds(golden_, exact, rounded, cuda);
  EXPECT_EQ(ids.fault, "");
  size_t scores = exact.logits.size();
  if (!exact.ids.empty()) scores = scores / exact.ids.size() * ids.rows;
  ASSERT_LE(scores, std::min(cuda.logits.size(), rounded.logits.size()));
  std::cout << "scores of " << ids.rows << " of " << exact.ids.size() << " steps compared\n";
  ExpectWithinTwice("logits", std::span(cuda.logits).first(scores),
                    std::span(rounded.logits).first(scores), std::span(exact.logits).first(scores));
}

TEST(LargestDifference, IsNoNumberWhereOneOfTheRowsHasNone) {
  const auto from_zeros = [](const std::vector<float>& row) {
    return LargestDifference(row, std::vector<float>(row.size()));
  };
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(from_zeros({100, -200, 0.5f}), 200);
  EXPECT_TRUE(std::isnan(from_zeros({100, kNan, 0.1f})));
  EXPECT_TRUE(std::isnan(from_zeros({0, kNan})));
  EXPECT_TRUE(std::isnan(from_zeros({kNan, 0})));
  EXPECT_EQ(LargestDifference(std::vector<float>(2), std::vector<float>(3)),
            std::numeric_limits<double>::infinity());
}

/// Two steps over three ids, of which the first has been seen.
class MarginRule : public testing::Test {
 protected:
  MarginRule() {
    golden_.penalty_ids = {0};
    golden_.repetition_penalty = 2.0;
    exact_.logits = {8, 3, 1, 0, 2, 1};  // the penalty halves 8: margins 1 and 1
    exact_.ids = {0, 1};
    rounded_ = exact_;
    cuda_ = exact_;
  }
  ComparedIds Compared() const { return CompareIds(golden_, exact_, rounded_, cuda_); }

  GoldenCase golden_;
  GoldenRun exact_, rounded_, cuda_;
};

TEST_F(MarginRule, AsksForEqualIdsWhereTheMarginDecides) {
  EXPECT_EQ(Compared().fault, "");
  EXPECT_EQ(Compared().rows, 2u);
  rounded_.logits[0] += 0.1f;  // scores may err by 0.4
  cuda_.ids = {1, 2};
  EXPECT_NE(Compared().fault.find("id 0 is 1, expected 0"), std::string::npos) << Compared().fault;
  cuda_.ids = {0, 2};
  EXPECT_NE(Compared().fault.find("id 1 is 2, expected 1"), std::string::npos) << Compared().fault;
}

TEST_F(MarginRule, ComparesUpToTheFirstStepThatIsNotDecided) {
  rounded_.logits[0] += 0.25f;  // scores may err by 1
  cuda_.ids = {1, 2};
  EXPECT_EQ(Compared().fault, "");
  EXPECT_EQ(Compared().rows, 1u);
  cuda_.ids = {0, 2};
  EXPECT_NE(Compared().fault, "");  // the second step's scores are exact
}

TEST_F(MarginRule, StopsWherePlainFloat16TakesAnotherId) {
  rounded_.ids = {1, 1};
  cuda_.ids = {0, 2};
  EXPECT_EQ(Compared().fault, "");
  EXPECT_EQ(Compared().rows, 1u);
}

TEST_F(MarginRule, ScoresThatAreNoNumbersExcuseNoOtherId) {
  rounded_.logits[1] = std::numeric_limits<float>::quiet_NaN();
  cuda_.ids = {1, 2};
  EXPECT_NE(Compared().fault, "");
}

TEST_F(MarginRule, RefusesRunsOfOtherLengths) {
  cuda_.ids = {0};
  EXPECT_NE(Compared().fault, "");
}

/// What the emulator can do in seconds: text with a penalty, an adapter, a picture.
std::vector<CaseName> EmulatedCases() {
  return {{"2.5-7b", "z_text_penalty", {.blocks = 4, .block_size = 16}},
          {"2.5-7b", "i_web_adapter", {.blocks = 4, .block_size = 16}},
          {"2-7b", "image_greedy", {.blocks = 40, .block_size = 16}}};
}

std::vector<CaseName> AllCases() {
  std::vector<CaseName> cases;
  for (const fs::path& folder : GoldenFolders(kGoldens)) {
    const std::string kind = folder.filename().string();
    if (kind.find("4bit") != std::string::npos) continue;  // no kernels for packed weights
    for (const std::string& name : GoldenCaseNames(folder)) {
      if (name.find("beam") != std::string::npos || name == "b_short_after_a") continue;
      cases.push_back({kind, name, {.blocks = 400, .block_size = 16}});
    }
  }
  if (cases.empty()) cases.push_back({"no", "goldens", {}});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(, CudaGolden,
                         testing::ValuesIn(cuda_testing::IsEmulated() ? EmulatedCases()
                                                                      : AllCases()),
                         [](const auto& info) {
                           std::string name = info.param.kind + "_" + info.param.name;
                           for (char& c : name)
                             c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
                           return name;
                         });

}  // namespace
}  // namespace xcomposer
