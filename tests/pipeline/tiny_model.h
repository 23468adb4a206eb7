#pragma once

#include <vector>

#include "batch/batch.h"
#include "batch/executor.h"
#include "config/model_config.h"
#include "config/rope.h"

namespace xcomposer {

/// A model of the kind with every feature of the real one and ugly small sizes: 3 layers, heads of
/// 16, grouped queries, a vision tower of 2 layers.
inline ModelConfig TinyModel(Kind kind) {
  ModelConfig config;
  config.kind = kind;
  config.hidden_size = 96;
  config.layers = 3;
  config.heads = 6;
  config.kv_heads = 2;
  config.intermediate_size = 136;
  config.vocab_size = 211;
  config.rms_norm_eps = 1e-5;
  config.rope = {
      .scaling = RopeConfig::Scaling::kDynamic, .theta = 1e6, .factor = 2.0, .max_positions = 4096};
  config.max_length = 4096;
  config.bos_id = 1;
  config.eos_id = 2;
  config.pad_id = 2;
  const bool tiled = kind == Kind::k4khd7b || kind == Kind::k25_7b;
  config.vision = {.hidden_size = 64,
                   .layers = 2,
                   .heads = 1,
                   .intermediate_size = 88,
                   .patch = 14,
                   .tile = tiled ? 56 : 70,
                   .layer_norm_eps = 1e-5,
                   .tiled = tiled};
  for (PloraShape& plora : config.plora) plora = {.rank = 8, .scale = 1.0};
  if (kind == Kind::k4khd7b) config.plora[0] = {.rank = 3, .scale = 2.0};
  if (kind == Kind::k25_7b) config.adapters = {.sft = 5, .dpo = 4, .web = 7};
  return config;
}

/// A picture of the right size with a pattern that differs from pixel to pixel.
inline Picture TinyPicture(const ModelConfig& config) {
  Picture picture;
  picture.width = config.vision.tiled ? 2 * config.vision.tile : config.vision.tile;
  picture.height = config.vision.tile;
  for (int64_t i = 0; i < picture.width * picture.height * 3; ++i) {
    picture.rgb.push_back(static_cast<uint8_t>((i * i / 7 + 31 * i) % 256));
  }
  return picture;
}

/// A sequence that is run piece by piece.
struct TinySequence {
  std::vector<int32_t> ids;  ///< -1 at picture rows
  EncodedPicture picture;
  std::vector<int32_t> blocks;
  Adapter adapter = Adapter::kBase;
};

/// `count` ids of which, from row 2 on, as many are picture rows as `picture` has.
inline TinySequence MakeSequence(int64_t count, EncodedPicture picture,
                                 std::vector<int32_t> blocks) {
  TinySequence sequence;
  for (int64_t i = 0; i < count; ++i) {
    const bool from_picture = i >= 2 && i < 2 + picture.rows;
    sequence.ids.push_back(from_picture ? -1 : static_cast<int32_t>((i * 37 + count) % 211));
  }
  sequence.picture = picture;
  sequence.blocks = std::move(blocks);
  return sequence;
}

/// Adds rows [begin, end) of the sequence to the batch.
inline void AddSlice(Batch& batch, const TinySequence& sequence, int64_t begin, int64_t end,
                     const ModelConfig& config) {
  SequenceSlice slice;
  slice.first_row = batch.rows();
  slice.row_count = end - begin;
  slice.position = begin;
  slice.rope_base = RopeBase(config, static_cast<int64_t>(sequence.ids.size()));
  slice.adapter = sequence.adapter;
  slice.block_table = sequence.blocks;
  batch.sequences.push_back(slice);
  for (int64_t i = begin; i < end; ++i) {
    const bool from_picture = sequence.ids[static_cast<size_t>(i)] < 0;
    if (from_picture && (i == begin || sequence.ids[static_cast<size_t>(i - 1)] >= 0)) {
      batch.features.push_back({batch.rows(), 0, sequence.picture.feature, i - 2});
    }
    if (from_picture) ++batch.features.back().row_count;
    batch.ids.push_back(sequence.ids[static_cast<size_t>(i)]);
  }
}

}  // namespace xcomposer
