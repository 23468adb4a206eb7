#pragma once

#include <optional>

#include "bench/cuda/vision_pass.h"
#include "kernels_cuda/number_table.h"

namespace xcomposer::cuda {

/// The tower view by view, the merge of tiles and the projector.
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

  const VisionTower& tower_;
  const Source<Number> from_;
};

}  // namespace xcomposer::cuda
