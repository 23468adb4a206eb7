#include "bench/cuda/decoder.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

namespace xcomposer::cuda {
namespace {

/// Results of the size of the inputs, whatever the width.
float Deviation(int64_t columns) { return 1.0f / std::sqrt(static_cast<float>(columns)); }

WeightMatrix Rows(const WeightMatrix& matrix, int64_t first, int64_t count) {
  WeightMatrix rows = matrix;
  rows.data = Behind(matrix.data, first * matrix.row_stride);
  rows.rows = count;
  return rows;
}

WeightMatrix Columns(const WeightMatrix& matrix, int64_t first, int64_t count) {
  WeightMatrix columns = matrix;
  columns.data = Behind(matrix.data, first);
  columns.columns = count;
  return columns;
}

/// First factors of the sizes that make the adapters' part a quarter of the product's, whose weight
/// has numbers of b's size.
WeightMatrix FirstFactors(int64_t rows, int64_t columns, int64_t rank, DeviceMemory& memory) {
  return memory.Matrix(rows, columns, 0.25f * Deviation(rank));
}

AdaptedLinear WithBehind(const WeightMatrix& joined, const WeightMatrix& a) {
  return {Columns(joined, 0, a.columns), a, Columns(joined, a.columns, a.rows), joined};
}

AdaptedLinear WithBefore(const WeightMatrix& joined, const WeightMatrix& a) {
  return {Columns(joined, a.rows, a.columns), a, Columns(joined, 0, a.rows), joined};
}

DecoderLayer MakeLayer(const DecoderShape& s, DeviceMemory& memory) {
  const int64_t rank = s.adapter_rank;
  const auto joined = [&](int64_t rows, int64_t columns) {
    return memory.Matrix(rows, columns + rank, Deviation(columns));
  };
  const auto adapted = [&](int64_t rows, int64_t columns) {
    const WeightMatrix both = joined(rows, columns);
    return WithBehind(both, FirstFactors(rank, columns, rank, memory));
  };
  DecoderLayer layer;
  layer.attention_norm = memory.Weight(s.hidden, 1.0f, 0.1f);
  layer.ffn_norm = memory.Weight(s.hidden, 1.0f, 0.1f);
  layer.wqkv = adapted(s.qkv(), s.hidden);
  layer.wo = adapted(s.hidden, s.mixed());
  const WeightMatrix gate_up = joined(2 * s.inner, s.hidden);
  const WeightMatrix down = FirstFactors(2 * rank, s.hidden, rank, memory);
  layer.w1 = WithBefore(Rows(gate_up, 0, s.inner), Rows(down, 0, rank));
  layer.w3 = WithBehind(Rows(gate_up, s.inner, s.inner), Rows(down, rank, rank));
  layer.w2 = adapted(s.hidden, s.inner);
  return layer;
}

}  // namespace

Decoder::Decoder(const DecoderShape& sizes, DeviceMemory& memory) : shape(sizes) {
  tok_embeddings = memory.Weight(shape.vocab * shape.hidden, 0.0f, 1.0f);
  for (int64_t l = 0; l < shape.layers; ++l) layers.push_back(MakeLayer(shape, memory));
  norm = memory.Weight(shape.hidden, 1.0f, 0.1f);
  output = memory.Matrix(shape.vocab, shape.hidden, Deviation(shape.hidden));
  std::vector<float> inverse;
  for (int64_t j = 0; j < shape.heads.head_dim / 2; ++j) {
    inverse.push_back(
        1.0f / std::pow(shape.rope_base,
                        2.0f * static_cast<float>(j) / static_cast<float>(shape.heads.head_dim)));
  }
  inverse_frequencies = memory.Written(inverse);
}

KvCache::KvCache(const DecoderShape& shape, int64_t sequence_count, int64_t positions,
                 DeviceMemory& memory)
    : sequences(sequence_count),
      context(positions),
      block_size_(shape.block_size),
      table_stride_((positions + shape.block_size - 1) / shape.block_size),
      host_tables_(static_cast<size_t>(sequence_count * table_stride_)) {
  std::iota(host_tables_.begin(), host_tables_.end(), 0);
  std::shuffle(host_tables_.begin(), host_tables_.end(), std::mt19937_64(1));
  tables_ = memory.Written(host_tables_);
  const int64_t numbers = sequences * table_stride_ * block_size_ * shape.kv();
  for (int64_t l = 0; l < shape.layers; ++l) {
    keys_.push_back(memory.RandomStored(numbers, 1.0f));
    values_.push_back(memory.RandomStored(numbers, 1.0f));
  }
}

PagedCache KvCache::Layer(int64_t layer) const {
  return {keys(layer), values(layer), tables_, table_stride_, block_size_};
}

int64_t KvCache::Slot(int64_t sequence, int64_t position) const {
  const int64_t entry = sequence * table_stride_ + position / block_size_;
  return int64_t{host_tables_[static_cast<size_t>(entry)]} * block_size_ + position % block_size_;
}

}  // namespace xcomposer::cuda
