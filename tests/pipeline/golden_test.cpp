#include <cmath>
#include <fstream>
#include <iostream>

#include "checkpoint/checkpoint.h"
#include "golden_case.h"
#include "golden_run.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "pipeline/pipeline.h"
#include "support/largest_difference.h"

namespace xcomposer {
namespace {

namespace fs = std::filesystem;

struct CaseName {
  std::string kind;
  std::string name;
};

const fs::path kGoldens = fs::path(XCOMPOSER_SHARED_DIR) / "data/goldens";

std::vector<CaseName> AllCases() {
  std::vector<CaseName> cases;
  for (const fs::path& folder : GoldenFolders(kGoldens)) {
    for (const std::string& name : GoldenCaseNames(folder)) {
      cases.push_back({folder.filename().string(), name});
    }
  }
  if (cases.empty()) cases.push_back({"no", "goldens"});
  return cases;
}

/// Rows `rows` of the first axis.
std::vector<float> PickRows(const GoldenTensor& tensor, const std::vector<int64_t>& rows) {
  const auto width = static_cast<int64_t>(tensor.values.size()) / tensor.shape[0];
  std::vector<float> picked;
  for (const int64_t row : rows) {
    const float* from = tensor.values.data() + row * width;
    picked.insert(picked.end(), from, from + width);
  }
  return picked;
}

/// The part of (crops, tokens, width) that a case recorded.
std::vector<float> PickVit(const GoldenTensor& tensor, const GoldenTensors& image) {
  if (image.count("vit_crops") == 0) return tensor.values;
  std::vector<float> picked;
  const int64_t tokens = tensor.shape[1];
  const int64_t width = tensor.shape[2];
  for (const int64_t crop : image.at("vit_crops").AsIndices()) {
    for (const int64_t token : image.at("vit_tokens").AsIndices()) {
      const float* from = tensor.values.data() + (crop * tokens + token) * width;
      picked.insert(picked.end(), from, from + width);
    }
  }
  return picked;
}

/// A float32 engine and the float32 reference lie on either side of the float64 result, each by as
/// much as its order of summation happens to give. precision.json holds the reference's largest
/// distance over all cases of the kind; ours may be as large again, with half as much on top for
/// the other order. Where a tap has no entry: 1e-4 of its rms, which is the bound of the goldens'
/// description.
double Budget(const fs::path& folder, const std::string& tap, double rms) {
  std::ifstream in(folder / "precision.json");
  const nlohmann::json json = nlohmann::json::parse(in, nullptr, false);
  const double bound = 1e-4 * rms;
  if (json.is_discarded() || !json.contains("taps")) return bound;
  std::string general = tap.rfind("layer", 0) == 0 ? "layer.out" : tap;
  for (const std::string& name : {tap, general, "image0." + tap}) {
    if (json["taps"].contains(name)) {
      return std::min(bound, 2.5 * json["taps"][name]["float64"].get<double>());
    }
  }
  return bound;
}

void PrintTo(const CaseName& name, std::ostream* out) { *out << name.kind << ' ' << name.name; }

bool IsBfloat16(const Checkpoint& checkpoint) {
  const TensorEntry* output = checkpoint.Find("output.weight");
  return output != nullptr && output->dtype == DType::kBF16;
}

class Golden : public testing::TestWithParam<CaseName> {
 protected:
  void Compare(const std::string& tap, const std::vector<float>& mine,
               const std::vector<float>& theirs) {
    ASSERT_EQ(mine.size(), theirs.size()) << tap;
    double squares = 0;
    for (const double number : theirs) squares += number * number;
    const double worst = LargestDifference(mine, theirs);
    const double rms = std::sqrt(squares / static_cast<double>(theirs.size()));
    const double budget = Budget(kGoldens / GetParam().kind, tap, rms);
    EXPECT_LE(worst, budget) << tap << ", rms " << rms;
    std::cout << "tap " << GetParam().kind << " " << tap << " error " << worst << " = "
              << worst / rms << " of the rms, " << worst / budget << " of the budget\n";
  }

  void CompareAll(bool pack_bf12);
};

void Golden::CompareAll(bool pack_bf12) {
  if (GetParam().kind == "no") GTEST_SKIP() << "no goldens in " << kGoldens;
  const GoldenCase golden = LoadGoldenCase(kGoldens / GetParam().kind, GetParam().name);
  if (!golden.fresh_rope)
    GTEST_SKIP() << "shows the state that an earlier request left in the reference";
  const Checkpoint checkpoint = Checkpoint::Open(golden.folder / "model");
  const ModelConfig config = LoadConfig(golden.folder / "model", HeadersOf(checkpoint));
  if (pack_bf12 && !IsBfloat16(checkpoint)) GTEST_SKIP() << "no bfloat16 weights to pack";
  PipelineOptions options;
  options.kv = {.blocks = 400, .block_size = 16};
  options.pack_bf12 = pack_bf12;
  Pipeline pipeline(checkpoint, config, EvenDeviceMap(config, {"cpu"}), options);
  const GoldenRun run = RunGolden(pipeline, golden, config);

  for (size_t i = 0; i < golden.images.size(); ++i) {
    const GoldenTensors& image = golden.image_taps[i];
    const std::string prefix = "image" + std::to_string(i) + ".";
    if (image.count("vit")) {
      Compare("vit", PickVit(run.taps.at(prefix + "vit"), image), image.at("vit").values);
    }
    if (image.count("embeds")) {
      const GoldenTensor& embeds = run.taps.at(prefix + "embeds");
      Compare("embeds",
              image.count("embeds_rows") ? PickRows(embeds, image.at("embeds_rows").AsIndices())
                                         : embeds.values,
              image.at("embeds").values);
    }
  }
  EXPECT_EQ(run.taps.at("im_mask").values, golden.taps.at("im_mask").values);
  const auto compare_rows = [&](const std::string& tap, const std::string& rows) {
    if (golden.taps.count(tap) == 0) return;
    Compare(tap, PickRows(run.taps.at(tap), golden.taps.at(rows).AsIndices()),
            golden.taps.at(tap).values);
  };
  compare_rows("inputs_embeds", "inputs_embeds_rows");
  for (int64_t k = 0; k < config.layers; ++k) {
    compare_rows("layer" + std::to_string(k) + ".out", "layer_rows");
  }
  compare_rows("final_norm.out", "layer_rows");

  const int64_t vocab = config.vocab_size;
  GoldenTensor logits{{static_cast<int64_t>(run.logits.size()) / vocab, vocab}, run.logits};
  if (golden.forward_only) {
    Compare("prefill_logits", PickRows(logits, golden.taps.at("prefill_rows").AsIndices()),
            golden.taps.at("prefill_logits").values);
    return;
  }
  GoldenTensor theirs = golden.taps.at("logits");
  if (golden.num_beams > 1)
    theirs.values.resize(static_cast<size_t>(vocab));  // the first beam's first step
  if (golden.taps.count("logits_cols")) {
    std::vector<float> columns;
    for (int64_t step = 0; step < logits.shape[0]; ++step) {
      for (const int64_t c : golden.taps.at("logits_cols").AsIndices()) {
        columns.push_back(logits.values[static_cast<size_t>(step * vocab + c)]);
      }
    }
    logits.values = columns;
  }
  if (golden.num_beams == 1) {
    EXPECT_EQ(run.ids, golden.output_ids);
  }
  Compare("logits", logits.values, theirs.values);
}

TEST_P(Golden, TapsAndIds) { CompareAll(false); }

// The same numbers in 12 bits: the same budget.
TEST_P(Golden, TapsAndIdsOfPackedWeights) { CompareAll(true); }

INSTANTIATE_TEST_SUITE_P(, Golden, testing::ValuesIn(AllCases()), [](const auto& info) {
  std::string name = info.param.kind + "_" + info.param.name;
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
});

}  // namespace
}  // namespace xcomposer
