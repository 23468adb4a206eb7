#pragma once

#include <utility>
#include <vector>

#include "batch/executor.h"
#include "config/model_config.h"
#include "model/kv_cache.h"
#include "tiny_model.h"

namespace xcomposer {

/// What RunForked needs of a KV pool.
inline constexpr KvShape kForkedPool = {.blocks = 64, .block_size = 4};

/// Two prompts and the rows after them, one of which goes on in a copied block.
inline std::vector<float> RunForked(Executor& executor, const ModelConfig& config) {
  const EncodedPicture picture = executor.Encode(TinyPicture(config), "image0", {}, {});
  TinySequence a = MakeSequence(picture.rows + 7, picture, {});
  for (int32_t b = 0; b < 16; ++b) a.blocks.push_back(b);
  const TinySequence b = MakeSequence(10, {}, {20, 30, 25});
  std::vector<Batch> batches(3);
  AddSlice(batches[0], a, 0, picture.rows + 5, config);
  AddSlice(batches[0], b, 0, 6, config);
  AddSlice(batches[1], b, 6, 7, config);
  TinySequence fork = b;
  fork.blocks[1] = 40;
  batches[2].copies = {{30, 40}};
  AddSlice(batches[2], fork, 6, 7, config);
  AddSlice(batches[2], a, picture.rows + 5, picture.rows + 6, config);
  std::vector<float> scores;
  for (Batch& batch : batches) {
    executor.Submit(std::move(batch));
    const std::vector<float> values = executor.Collect().values;
    scores.insert(scores.end(), values.begin(), values.end());
  }
  executor.Release(picture.feature);
  return scores;
}

}  // namespace xcomposer
