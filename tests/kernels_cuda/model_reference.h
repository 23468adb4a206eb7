#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "bench/cuda/decoder.h"
#include "bench/cuda/vision_pass.h"
#include "kernels_cuda/kernel_test.h"

// The model in the order of its paper, one number after the other. With Number = double it is what
// the kernels are compared with; with float, rounded to float16 wherever the kernels store, the
// plain computation of the same precision.
namespace xcomposer::cuda {

template <typename Number>
struct Table {
  int64_t rows = 0;
  int64_t columns = 0;
  std::vector<Number> values;

  Table(int64_t rows, int64_t columns)
      : rows(rows), columns(columns), values(static_cast<size_t>(rows * columns)) {}
  Number& At(int64_t row, int64_t column) {
    return values[static_cast<size_t>(row * columns + column)];
  }
  Number At(int64_t row, int64_t column) const {
    return values[static_cast<size_t>(row * columns + column)];
  }
};

template <typename Number>
Number StoredAs(Number x) {
  if constexpr (std::is_same_v<Number, double>) return x;
  return static_cast<Number>(Round<Half>(x));
}

/// Numbers on the device as Number.
template <typename Number>
class Source {
 public:
  explicit Source(const DeviceMemory& memory) : memory_(memory) {}

  Table<Number> Matrix(const WeightMatrix& m) const { return Read(m.data, m.rows, m.columns); }
  std::vector<Number> Vector(const void* data, int64_t count) const {
    return Read(data, 1, count).values;
  }
  Table<Number> Read(const void* data, int64_t rows, int64_t columns) const {
    const std::vector<Half> host = memory_.Read(static_cast<const Half*>(data), rows * columns);
    Table<Number> out(rows, columns);
    for (size_t i = 0; i < host.size(); ++i) out.values[i] = static_cast<Number>(Widen(host[i]));
    return out;
  }

 private:
  const DeviceMemory& memory_;
};

/// x W^T, not rounded.
template <typename Number>
Table<Number> Times(const Table<Number>& x, const Table<Number>& w) {
  Table<Number> y(x.rows, w.rows);
  for (int64_t i = 0; i < x.rows; ++i) {
    for (int64_t n = 0; n < w.rows; ++n) {
      Number sum = 0;
      for (int64_t k = 0; k < x.columns; ++k) sum += x.At(i, k) * w.At(n, k);
      y.At(i, n) = sum;
    }
  }
  return y;
}

template <typename Number>
Table<Number> Rounded(Table<Number> x) {
  for (Number& value : x.values) value = StoredAs(value);
  return x;
}

/// Softmax over the first `keys` of the scores, mixing `values`' columns first .. first + width.
template <typename Number>
void Attend(const Number* q, const Table<Number>& k, const Table<Number>& v, int64_t first,
            int64_t width, int64_t keys, Number* out) {
  std::vector<Number> weights;
  for (int64_t t = 0; t < keys; ++t) {
    Number score = 0;
    for (int64_t d = 0; d < width; ++d) score += q[d] * k.At(t, first + d);
    weights.push_back(score / std::sqrt(static_cast<Number>(width)));
  }
  const Number largest = *std::max_element(weights.begin(), weights.end());
  Number sum = 0;
  for (Number& w : weights) {
    w = std::exp(w - largest);
    sum += w;
  }
  for (int64_t d = 0; d < width; ++d) {
    Number mixed = 0;
    for (int64_t t = 0; t < keys; ++t) {
      mixed += StoredAs(weights[static_cast<size_t>(t)]) * v.At(t, first + d);
    }
    out[d] = StoredAs(mixed / sum);
  }
}

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
    const DecoderShape& s = decoder_.shape;
    const Table<Number> x = Norm(hidden, layer.attention_norm);
    const Table<Number> mixed = Attention(Project(layer.wqkv, layer.wqkv.weight, x, picture, true));
    AddTo(hidden, Project(layer.wo, layer.wo.weight, mixed, picture, false));
    const Table<Number> y = Norm(hidden, layer.ffn_norm);
    const Table<Number> both = from_.Matrix(layer.w1_and_w3);
    Table<Number> w1(s.inner, s.hidden);
    Table<Number> w3(s.inner, s.hidden);
    const auto middle = both.values.begin() + s.inner * s.hidden;
    w1.values.assign(both.values.begin(), middle);
    w3.values.assign(middle, both.values.end());
    Table<Number> gate = WithAdapter(Rounded(Times(y, w1)), layer.w1, y, picture, true);
    const Table<Number> up = WithAdapter(Rounded(Times(y, w3)), layer.w3, y, picture, true);
    for (size_t i = 0; i < gate.values.size(); ++i) {
      const Number g = gate.values[i];
      gate.values[i] = StoredAs(g / (1 + std::exp(-g)) * up.values[i]);
    }
    AddTo(hidden, Project(layer.w2, layer.w2.weight, gate, picture, false));
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

  Table<Number> Project(const AdaptedLinear& linear, const WeightMatrix& weight,
                        const Table<Number>& x, const std::vector<bool>& picture,
                        bool stored) const {
    Table<Number> y = Times(x, from_.Matrix(weight));
    return WithAdapter(stored ? Rounded(y) : y, linear, x, picture, stored);
  }

  Table<Number> WithAdapter(Table<Number> y, const AdaptedLinear& linear, const Table<Number>& x,
                            const std::vector<bool>& picture, bool stored) const {
    const Table<Number> low = Rounded(Times(x, from_.Matrix(linear.a)));
    const Table<Number> high = Times(low, from_.Matrix(linear.b));
    for (int64_t t = 0; t < y.rows; ++t) {
      if (!picture[static_cast<size_t>(t)]) continue;
      for (int64_t n = 0; n < y.columns; ++n) {
        const Number sum =
            y.At(t, n) + static_cast<Number>(decoder_.shape.adapter_scale) * high.At(t, n);
        y.At(t, n) = stored ? StoredAs(sum) : sum;
      }
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

  static void AddTo(Table<Number>& hidden, const Table<Number>& more) {
    for (size_t i = 0; i < hidden.values.size(); ++i) hidden.values[i] += more.values[i];
  }

  const Decoder& decoder_;
  const Source<Number> from_;
};

template <typename Number>
class VisionReference {
 public:
  VisionReference(const VisionTower& tower, const DeviceMemory& memory)
      : tower_(tower), from_(memory) {}

  /// `pixels` (n, 3, side, side) -> the projector's rows.
  Table<Number> Features(const std::vector<float>& pixels, std::optional<Tiling> tiling) const {
    const int64_t views = tiling ? 1 + tiling->rows * tiling->columns : 1;
    std::vector<Table<Number>> towers;
    for (int64_t view = 0; view < views; ++view) towers.push_back(View(pixels, view));
    Table<Number> merged = tiling ? Merged(towers, *tiling) : WithoutClass(towers[0]);
    Table<Number> x = Product(tower_.project0, merged);
    for (Number& value : x.values) {
      value = StoredAs(value * (1 + std::erf(value / std::sqrt(Number{2}))) / 2);
    }
    return Product(tower_.project2, x);
  }

 private:
  Table<Number> View(const std::vector<float>& pixels, int64_t view) const {
    const VisionShape& s = tower_.shape;
    Table<Number> rows(s.patches(), s.patch_row());
    for (int64_t p = 0; p < s.patches(); ++p) {
      int64_t column = 0;
      for (int64_t channel = 0; channel < 3; ++channel) {
        for (int64_t y = 0; y < s.patch; ++y) {
          for (int64_t x = 0; x < s.patch; ++x) {
            const int64_t line = p / s.grid * s.patch + y;
            const int64_t at =
                ((view * 3 + channel) * s.side() + line) * s.side() + p % s.grid * s.patch + x;
            rows.At(p, column++) = StoredAs(static_cast<Number>(pixels[static_cast<size_t>(at)]));
          }
        }
      }
    }
    const Table<Number> patches = Times(rows, from_.Matrix(tower_.patch_embedding));
    const Table<Number> positions =
        from_.Read(tower_.position_embedding, s.patches() + 1, s.hidden);
    const std::vector<Number> first = from_.Vector(tower_.class_embedding, s.hidden);
    Table<Number> hidden(s.patches() + 1, s.hidden);
    for (int64_t t = 0; t < hidden.rows; ++t) {
      for (int64_t c = 0; c < s.hidden; ++c) {
        hidden.At(t, c) =
            (t == 0 ? first[static_cast<size_t>(c)] : patches.At(t - 1, c)) + positions.At(t, c);
      }
    }
    hidden = Norm(hidden, tower_.pre_norm);
    for (const VisionLayer& layer : tower_.layers) Layer(layer, hidden);
    return hidden;
  }

  void Layer(const VisionLayer& layer, Table<Number>& hidden) const {
    const VisionShape& s = tower_.shape;
    const Table<Number> qkv = Product(layer.qkv, Rounded(Norm(hidden, layer.norm1)));
    Table<Number> parts[3] = {hidden, hidden, hidden};
    for (int64_t t = 0; t < hidden.rows; ++t) {
      for (int64_t c = 0; c < 3 * s.hidden; ++c) {
        parts[c / s.hidden].At(t, c % s.hidden) = qkv.At(t, c);
      }
    }
    const int64_t dim = s.hidden / s.heads;
    Table<Number> mixed = hidden;
    for (int64_t t = 0; t < hidden.rows; ++t) {
      for (int64_t head = 0; head < s.heads; ++head) {
        Attend(&parts[0].At(t, head * dim), parts[1], parts[2], head * dim, dim, hidden.rows,
               &mixed.At(t, head * dim));
      }
    }
    AddTo(hidden, Product(layer.out, mixed));
    Table<Number> inner = Product(layer.fc1, Rounded(Norm(hidden, layer.norm2)));
    for (Number& x : inner.values) {
      x = StoredAs(x / (1 + std::exp(static_cast<Number>(-1.702) * x)));
    }
    AddTo(hidden, Product(layer.fc2, inner));
  }

  Table<Number> Norm(const Table<Number>& x, const LayerNormWeights& weights) const {
    const std::vector<Number> w = from_.Vector(weights.weight, x.columns);
    const std::vector<Number> b = from_.Vector(weights.bias, x.columns);
    Table<Number> out = x;
    for (int64_t t = 0; t < x.rows; ++t) {
      Number mean = 0;
      for (int64_t c = 0; c < x.columns; ++c) mean += x.At(t, c);
      mean /= static_cast<Number>(x.columns);
      Number variance = 0;
      for (int64_t c = 0; c < x.columns; ++c) {
        variance += (x.At(t, c) - mean) * (x.At(t, c) - mean);
      }
      variance /= static_cast<Number>(x.columns);
      const Number factor = 1 / std::sqrt(variance + static_cast<Number>(tower_.shape.eps));
      for (int64_t c = 0; c < x.columns; ++c) {
        const auto i = static_cast<size_t>(c);
        out.At(t, c) = (x.At(t, c) - mean) * factor * w[i] + b[i];
      }
    }
    return out;
  }

  Table<Number> Product(const BiasedLinear& linear, const Table<Number>& x) const {
    Table<Number> y = Times(x, from_.Matrix(linear.weight));
    const std::vector<Number> bias = from_.Vector(linear.bias, y.columns);
    for (int64_t t = 0; t < y.rows; ++t) {
      for (int64_t n = 0; n < y.columns; ++n) y.At(t, n) += bias[static_cast<size_t>(n)];
    }
    return Rounded(y);
  }

  Table<Number> WithoutClass(const Table<Number>& view) const {
    Table<Number> out(view.rows - 1, view.columns);
    out.values.assign(view.values.begin() + view.columns, view.values.end());
    return Rounded(out);
  }

  /// The global view's tokens with sub_gn after each row, glb_gn, then the tiles' as one picture.
  Table<Number> Merged(const std::vector<Table<Number>>& views, const Tiling& tiling) const {
    const VisionShape& s = tower_.shape;
    const int64_t m = s.grid / 2;
    const int64_t width = 4 * s.hidden;
    const std::vector<Number> sub = from_.Vector(tower_.sub_gn, width);
    const std::vector<Number> glb = from_.Vector(tower_.glb_gn, width);
    std::vector<Number> rows;
    const auto token = [&](const Table<Number>& view, int64_t i, int64_t j) {
      for (const int64_t at : {0, 1, 2, 3}) {
        const int64_t patch = (2 * i + at / 2) * s.grid + 2 * j + at % 2;
        for (int64_t c = 0; c < s.hidden; ++c) rows.push_back(StoredAs(view.At(patch + 1, c)));
      }
    };
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < m; ++j) token(views[0], i, j);
      rows.insert(rows.end(), sub.begin(), sub.end());
    }
    rows.insert(rows.end(), glb.begin(), glb.end());
    for (int64_t line = 0; line < tiling.rows * m; ++line) {
      for (int64_t column = 0; column < tiling.columns * m; ++column) {
        const int64_t tile = line / m * tiling.columns + column / m;
        token(views[static_cast<size_t>(1 + tile)], line % m, column % m);
      }
      rows.insert(rows.end(), sub.begin(), sub.end());
    }
    Table<Number> out(static_cast<int64_t>(rows.size()) / width, width);
    out.values = rows;
    return out;
  }

  static void AddTo(Table<Number>& hidden, const Table<Number>& more) {
    for (size_t i = 0; i < hidden.values.size(); ++i) hidden.values[i] += more.values[i];
  }

  const VisionTower& tower_;
  const Source<Number> from_;
};

}  // namespace xcomposer::cuda
