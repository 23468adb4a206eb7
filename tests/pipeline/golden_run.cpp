#include "golden_run.h"

#include <algorithm>
#include <set>

#include "config/rope.h"
#include "input/image_decoder.h"
#include "input/image_processor.h"
#include "input/video.h"

namespace xcomposer {
namespace {

/// One sequence with blocks 0, 1, 2, ... of the pool.
class OneSequence {
 public:
  OneSequence(Executor& executor, const GoldenCase& golden, const ModelConfig& config)
      : executor_(executor), golden_(golden), config_(config) {}

  void AddFeature(EncodedPicture picture) { pictures_.push_back(picture); }

  /// Runs `ids` at positions `position` and on, in chunks; the scores of the last row, or of all
  /// rows.
  std::vector<float> Run(const std::vector<int32_t>& ids, int64_t position, bool all_rows,
                         TapSink taps) {
    const auto rows = static_cast<int64_t>(ids.size());
    const double base = RopeBase(config_, position + rows);
    std::vector<float> scores;
    for (int64_t first = 0; first < rows; first += executor_.limits().max_batch_rows) {
      const int64_t count = std::min(executor_.limits().max_batch_rows, rows - first);
      Batch batch;
      batch.ids.assign(ids.begin() + first, ids.begin() + first + count);
      SequenceSlice slice;
      slice.row_count = count;
      slice.position = position + first;
      slice.rope_base = base;
      slice.adapter = golden_.infer_mode == "web"     ? Adapter::kWeb
                      : golden_.infer_mode == "write" ? Adapter::kWrite
                                                      : Adapter::kBase;
      slice.wants_logits = first + count == rows;
      const int64_t block_size = executor_.limits().block_size;
      for (int32_t b = 0; b * block_size < slice.position + count; ++b)
        slice.block_table.push_back(b);
      batch.sequences.push_back(slice);
      batch.features = Features(ids, first, count);
      batch.all_logits = all_rows;
      batch.taps = taps;
      const Logits logits = executor_.Forward(batch);
      scores.insert(scores.end(), logits.values.begin(), logits.values.end());
    }
    return scores;
  }

 private:
  /// Runs of -1 are pictures in order; the chunk [first, first + count) sees its part of each.
  std::vector<FeatureSpan> Features(const std::vector<int32_t>& ids, int64_t first,
                                    int64_t count) const {
    std::vector<FeatureSpan> spans;
    size_t picture = 0;
    int64_t used = 0;
    for (int64_t row = 0; row < first + count; ++row) {
      if (ids[static_cast<size_t>(row)] >= 0) continue;
      if (used == pictures_[picture].rows) {
        ++picture;
        used = 0;
      }
      if (row >= first) {
        if (spans.empty() || used == 0 ||
            spans.back().first_row + spans.back().row_count != row - first) {
          spans.push_back({row - first, 0, pictures_[picture].feature, used});
        }
        ++spans.back().row_count;
      }
      ++used;
    }
    return spans;
  }

  Executor& executor_;
  const GoldenCase& golden_;
  const ModelConfig& config_;
  std::vector<EncodedPicture> pictures_;
};

int32_t PenalisedArgmax(std::vector<float> scores, const std::set<int32_t>& seen, double penalty) {
  const auto p = static_cast<float>(penalty);
  for (const int32_t id : seen) {
    float& score = scores[static_cast<size_t>(id)];
    score = score < 0 ? score * p : score / p;
  }
  return static_cast<int32_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

TapSink Collect(GoldenTensors& taps) {
  TapSink sink;
  sink.wants = [](const std::string&) { return true; };
  sink.put = [&taps](Tap&& tap) {
    GoldenTensor& into = taps[tap.name];
    if (into.shape.empty()) {
      into.shape = tap.shape;
    } else {
      into.shape[0] += tap.shape[0];
    }
    into.values.insert(into.values.end(), tap.values.begin(), tap.values.end());
    into.values.insert(into.values.end(), tap.bytes.begin(), tap.bytes.end());
  };
  return sink;
}

}  // namespace

Picture PictureOf(const GoldenCase& golden, size_t image, const ModelConfig& config) {
  const GoldenTensors& taps = golden.image_taps[image];
  if (const auto rgb = taps.find("rgb"); rgb != taps.end()) {
    Picture picture{rgb->second.shape[1], rgb->second.shape[0], {}};
    picture.rgb.assign(rgb->second.values.begin(), rgb->second.values.end());
    return picture;
  }
  PictureRule rule = PictureRuleFor(ToString(config.kind), config.vision.tile);
  if (golden.hd_num) rule.hd_num = *golden.hd_num;
  if (config.kind == Kind::k25_7b && golden.images.size() > 1)
    rule.hd_num = kHdNumOfSeveralPictures;
  const std::string name = golden.images[image];
  if (golden.is_video[image]) {  // exact only from the recorded canvas, whose labels need a font
    return ProcessCanvas(LoadImage((golden.folder / (name + "_canvas.png")).string()), rule);
  }
  const auto shared = golden.folder.parent_path().parent_path() / name;
  const auto file = std::filesystem::exists(shared) ? shared : golden.folder / name;
  return ProcessPicture(LoadImage(file.string()), rule);
}

GoldenRun RunGolden(Executor& executor, const GoldenCase& golden, const ModelConfig& config) {
  GoldenRun run;
  const TapSink taps = Collect(run.taps);
  OneSequence sequence(executor, golden, config);
  for (size_t i = 0; i < golden.images.size(); ++i) {
    const std::string prefix = "image" + std::to_string(i);
    sequence.AddFeature(executor.Encode(PictureOf(golden, i, config), prefix, taps, {}));
  }
  std::vector<int32_t> ids = golden.input_ids;
  run.logits = sequence.Run(ids, 0, golden.forward_only, taps);
  if (golden.forward_only || golden.num_beams > 1) return run;

  std::set<int32_t> seen(golden.penalty_ids.begin(), golden.penalty_ids.end());
  std::vector<float> scores = run.logits;
  const double prompt_base = RopeBase(config, static_cast<int64_t>(ids.size()));
  while (run.ids.size() < golden.output_ids.size()) {
    const int32_t id = PenalisedArgmax(scores, seen, golden.repetition_penalty);
    run.ids.push_back(id);
    seen.insert(id);
    if (run.ids.size() == golden.output_ids.size()) break;
    const auto position = static_cast<int64_t>(ids.size());
    ids.push_back(id);
    // Without a cache the published code rotates all keys anew; that shows once the base has
    // changed.
    const bool anew = !golden.use_cache && RopeBase(config, position + 1) != prompt_base;
    scores = anew ? sequence.Run(ids, 0, false, {}) : sequence.Run({id}, position, false, {});
    run.logits.insert(run.logits.end(), scores.begin(), scores.end());
  }
  return run;
}

}  // namespace xcomposer
