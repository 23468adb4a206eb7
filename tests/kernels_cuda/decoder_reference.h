#pragma once

#include "bench/cuda/decoder.h"
#include "kernels_cuda/number_table.h"

namespace xcomposer::cuda {

/// The decoder row by row, without a cache.
template <typename Number>
class DecoderReference {
 public:
  DecoderReference(const Decoder& decoder, const DeviceMemory& memory)
      : decoder_(decoder), from_(memory) {}

  /// Logits of the last of the rows of `ids`; -1 takes the next row of `features`, to which the
  /// adapters apply.
  std::vector<Number> LastLogits(const std::vector<int32_t>& ids,
                                 const Table<Number>& features) const {
    const DecoderShape& s = decoder_.shape;
    const Table<Number> embeddings = from_.Read(decoder_.tok_embeddings, s.vocab, s.hidden);
    Table<Number> hidden(static_cast<int64_t>(ids.size()), s.hidden);
    std::vector<bool> picture;
    int64_t taken = 0;
    for (int64_t t = 0; t < hidden.rows; ++t) {
      const int32_t id = ids[static_cast<size_t>(t)];
      picture.push_back(id < 0);
      for (int64_t c = 0; c < s.hidden; ++c) {
        hidden.At(t, c) = id < 0 ? features.At(taken, c) : embeddings.At(id, c);
      }
      if (id < 0) ++taken;
    }
    for (const DecoderLayer& layer : decoder_.layers) Layer(layer, picture, hidden);
    const Table<Number> normed = Norm(hidden, decoder_.norm);
    const Table<Number> logits = Times(normed, from_.Matrix(decoder_.output));
    return {logits.values.end() - s.vocab, logits.values.end()};
  }

 private:
  void Layer(const DecoderLayer& layer, const std::vector<bool>& picture,
             Table<Number>& hidden) const {
    const Table<Number> x = Norm(hidden, layer.attention_norm);
    const Table<Number> mixed = Attention(Rounded(Project(layer.wqkv, x, picture)));
    AddTo(hidden, Project(layer.wo, mixed, picture));
    const Table<Number> y = Norm(hidden, layer.ffn_norm);
    Table<Number> gate = Rounded(Project(layer.w1, y, picture));
    const Table<Number> up = Rounded(Project(layer.w3, y, picture));
    for (size_t i = 0; i < gate.values.size(); ++i) {
      const Number g = gate.values[i];
      gate.values[i] = StoredAs(g / (1 + std::exp(-g)) * up.values[i]);
    }
    AddTo(hidden, Project(layer.w2, gate, picture));
  }

  Table<Number> Norm(const Table<Number>& hidden, const void* weight) const {
    const std::vector<Number> w = from_.Vector(weight, hidden.columns);
    Table<Number> out(hidden.rows, hidden.columns);
    for (int64_t t = 0; t < hidden.rows; ++t) {
      Number squares = 0;
      for (int64_t c = 0; c < hidden.columns; ++c) squares += hidden.At(t, c) * hidden.At(t, c);
      const Number mean = squares / static_cast<Number>(hidden.columns);
      const Number factor = 1 / std::sqrt(mean + static_cast<Number>(decoder_.shape.eps));
      for (int64_t c = 0; c < hidden.columns; ++c) {
        out.At(t, c) = StoredAs(hidden.At(t, c) * factor * w[static_cast<size_t>(c)]);
      }
    }
    return out;
  }

  /// W x, and for rows of pictures W x + B (scale A x), in one sum.
  Table<Number> Project(const AdaptedLinear& linear, const Table<Number>& x,
                        const std::vector<bool>& picture) const {
    Table<Number> y = Times(x, from_.Matrix(linear.weight));
    Table<Number> low = Times(x, from_.Matrix(linear.a));
    for (Number& value : low.values) value *= static_cast<Number>(decoder_.shape.adapter_scale);
    const Table<Number> high = Times(Rounded(low), from_.Matrix(linear.b));
    for (int64_t t = 0; t < y.rows; ++t) {
      if (!picture[static_cast<size_t>(t)]) continue;
      for (int64_t n = 0; n < y.columns; ++n) y.At(t, n) += high.At(t, n);
    }
    return y;
  }

  /// qkv (T, per key-value head: its queries, key, value).
  Table<Number> Attention(const Table<Number>& qkv) const {
    const HeadShape& h = decoder_.shape.heads;
    const int64_t group = h.heads / h.kv_heads;
    Table<Number> q(qkv.rows, h.heads * h.head_dim);
    Table<Number> k(qkv.rows, h.kv_heads * h.head_dim);
    Table<Number> v = k;
    for (int64_t t = 0; t < qkv.rows; ++t) {
      for (int64_t kv = 0; kv < h.kv_heads; ++kv) {
        const int64_t first = kv * (group + 2) * h.head_dim;
        for (int64_t g = 0; g < group; ++g) {
          Rotate(qkv, t, first + g * h.head_dim, q, (kv * group + g) * h.head_dim);
        }
        Rotate(qkv, t, first + group * h.head_dim, k, kv * h.head_dim);
        for (int64_t d = 0; d < h.head_dim; ++d) {
          v.At(t, kv * h.head_dim + d) = qkv.At(t, first + (group + 1) * h.head_dim + d);
        }
      }
    }
    Table<Number> out(qkv.rows, h.heads * h.head_dim);
    for (int64_t t = 0; t < qkv.rows; ++t) {
      for (int64_t head = 0; head < h.heads; ++head) {
        Attend(&q.At(t, head * h.head_dim), k, v, head / group * h.head_dim, h.head_dim, t + 1,
               &out.At(t, head * h.head_dim));
      }
    }
    return out;
  }

  void Rotate(const Table<Number>& from, int64_t row, int64_t from_column, Table<Number>& to,
              int64_t to_column) const {
    const DecoderShape& s = decoder_.shape;
    const int64_t half = s.heads.head_dim / 2;
    for (int64_t j = 0; j < half; ++j) {
      // The angle is formed in float32, as the model has it.
      const float inverse = 1.0f / std::pow(s.rope_base, 2.0f * static_cast<float>(j) /
                                                             static_cast<float>(s.heads.head_dim));
      const auto angle = static_cast<Number>(static_cast<float>(row) * inverse);
      const Number low = from.At(row, from_column + j);
      const Number high = from.At(row, from_column + j + half);
      to.At(row, to_column + j) = StoredAs(low * std::cos(angle) - high * std::sin(angle));
      to.At(row, to_column + j + half) = StoredAs(high * std::cos(angle) + low * std::sin(angle));
    }
  }

  const Decoder& decoder_;
  const Source<Number> from_;
};

}  // namespace xcomposer::cuda
