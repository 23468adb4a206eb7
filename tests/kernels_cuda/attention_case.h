#pragma once

#include "kernels/cuda/paged_cache.h"
#include "kernels/cuda/rope_kv.h"
#include "kernels_cuda/kernel_test.h"

namespace xcomposer::cuda {

/// Sequences over a paged cache: blocks in random order, NaN in every place that no key owns, and
/// block tables that name no block past a sequence's end.
template <typename T>
struct PagedCase {
  struct Sequence {
    int64_t rows = 1;      ///< of the batch
    int64_t position = 0;  ///< of the first one
    int64_t keys() const { return position + rows; }
  };

  HeadShape shape;
  int64_t block_size;
  std::vector<Sequence> sequences;
  std::vector<int32_t> tables;  // (sequences, table_stride)
  int64_t table_stride = 1;
  std::vector<T> q;  // (rows, heads, head_dim)
  std::vector<T> keys;
  std::vector<T> values;

  PagedCase(const HeadShape& shape, int64_t block_size, std::vector<Sequence> all, uint64_t seed,
            float scale = 1.0f)
      : shape(shape), block_size(block_size), sequences(std::move(all)) {
    Random random(seed);
    int64_t blocks = 0;
    for (const Sequence& s : sequences) {
      const int64_t own = (s.keys() + block_size - 1) / block_size;
      blocks += own;
      table_stride = std::max(table_stride, own + 1);
    }
    std::vector<int32_t> order;
    for (int64_t b = 0; b < blocks; ++b) order.push_back(static_cast<int32_t>(b));
    random.Shuffle(order);
    tables.assign(sequences.size() * static_cast<size_t>(table_stride), -1000000);
    const auto cache_size =
        static_cast<size_t>(blocks * block_size * shape.kv_heads * shape.head_dim);
    keys = random.Normal<T>(cache_size, scale);
    values = random.Normal<T>(cache_size, 1.0f);
    size_t next = 0;
    for (size_t i = 0; i < sequences.size(); ++i) {
      const int64_t count = sequences[i].keys();
      for (int64_t k = 0; k < count; k += block_size) {
        tables[i * static_cast<size_t>(table_stride) + static_cast<size_t>(k / block_size)] =
            order[next++];
      }
      for (int64_t k = count; k % block_size != 0; ++k) {
        for (int64_t kv = 0; kv < shape.kv_heads; ++kv) {
          for (int64_t d = 0; d < shape.head_dim; ++d) {
            keys[At(i, k, kv, d)].bits = 0xFFFF;
            values[At(i, k, kv, d)].bits = 0xFFFF;
          }
        }
      }
    }
    q = random.Normal<T>(static_cast<size_t>(rows() * shape.heads * shape.head_dim), scale);
  }

  int64_t rows() const {
    int64_t sum = 0;
    for (const Sequence& s : sequences) sum += s.rows;
    return sum;
  }

  size_t At(size_t sequence, int64_t key, int64_t kv, int64_t d) const {
    const int64_t block = tables[sequence * static_cast<size_t>(table_stride) +
                                 static_cast<size_t>(key / block_size)];
    return static_cast<size_t>(
        ((block * block_size + key % block_size) * shape.kv_heads + kv) * shape.head_dim + d);
  }

  /// The whole result in float64, or as the plain half-precision code has it: scores stored,
  /// softmax in float32, weights stored.
  Doubles Attend(bool naive) const {
    Doubles out;
    int64_t row = 0;
    for (size_t i = 0; i < sequences.size(); ++i) {
      for (int64_t r = 0; r < sequences[i].rows; ++r, ++row) {
        for (int64_t h = 0; h < shape.heads; ++h) {
          AttendRow(naive, i, row, h, sequences[i].position + r + 1, out);
        }
      }
    }
    return out;
  }

 private:
  void AttendRow(bool naive, size_t sequence, int64_t row, int64_t head, int64_t count,
                 Doubles& out) const {
    const int64_t kv = head / (shape.heads / shape.kv_heads);
    const int64_t dim = shape.head_dim;
    const T* query = q.data() + (row * shape.heads + head) * dim;
    Doubles scores;
    for (int64_t k = 0; k < count; ++k) {
      double score = 0;
      for (int64_t d = 0; d < dim; ++d) {
        score += double{Widen(query[d])} * double{Widen(keys[At(sequence, k, kv, d)])};
      }
      score = (naive ? Round<T>(score) : score) / std::sqrt(static_cast<double>(dim));
      scores.push_back(naive ? Round<T>(score) : score);
    }
    const double largest = scores.empty() ? 0 : *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (double& score : scores) sum += score = std::exp(score - largest);
    for (int64_t d = 0; d < dim; ++d) {
      double mixed = 0;
      for (int64_t k = 0; k < count; ++k) {
        const double weight = scores[static_cast<size_t>(k)] / sum;
        mixed +=
            (naive ? Round<T>(weight) : weight) * double{Widen(values[At(sequence, k, kv, d)])};
      }
      out.push_back(naive ? Round<T>(mixed) : mixed);
    }
  }
};

}  // namespace xcomposer::cuda
