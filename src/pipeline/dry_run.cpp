#include "pipeline/dry_run.h"

#include <c10/core/InferenceMode.h>

#include "base/check.h"
#include "config/rope.h"
#include "model/random_weights.h"
#include "pipeline/stage.h"
#include "pipeline/torch_errors.h"

namespace xcomposer {

void DryRun(const ModelConfig& config) {
  const c10::InferenceMode inference;
  Translated("running dry", [&] {
    MetaWeights weights(config.quantization);
    Stage stage(config, {.first_layer = 0, .end_layer = config.layers}, weights,
                {.blocks = 1 << 16, .block_size = 16}, at::Device(at::kMeta));
    Picture picture{config.vision.tile, config.vision.tile, {}};
    picture.rgb.resize(static_cast<size_t>(3 * picture.width * picture.height));
    const at::Tensor features = stage.Encode(picture);  // (S, C)
    const int64_t rows = features.size(0);

    Batch batch;
    batch.ids.assign(static_cast<size_t>(rows + 2), config.bos_id);
    batch.features.push_back({.first_row = 1, .row_count = rows});
    SequenceSlice sequence;
    sequence.row_count = rows + 2;
    sequence.rope_base = RopeBase(config, rows + 2);
    for (int32_t block = 0; block * 16 < rows + 2; ++block) sequence.block_table.push_back(block);
    batch.sequences.push_back(sequence);

    at::Tensor hidden = stage.Embed(batch, [&](FeatureHandle) { return features; });  // (T, C)
    stage.Run(hidden, batch);
    const Logits logits = stage.Score(hidden, batch);
    Check(logits.rows == 1 && logits.vocab == config.vocab_size, "a dry run gave ", logits.rows,
          " x ", logits.vocab, " scores");
  });
}

}  // namespace xcomposer
