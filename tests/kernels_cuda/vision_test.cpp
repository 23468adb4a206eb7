#include "kernels/cuda/vision.h"

#include "kernels_cuda/kernel_test.h"

namespace xcomposer::cuda {
namespace {

template <typename T>
class VisionRows : public StoredKernelTest<T> {};
TYPED_TEST_SUITE(VisionRows, StoredTypes);

class VisionPixels : public KernelTest {};

TEST_F(VisionPixels, BecomePlanesOfLevels) {
  for (const int64_t pixels : {1, 127, 129}) {
    Random random(5);
    const auto levels = random.Normal<float>(3 * 256, 1);
    std::vector<uint8_t> rgb;
    for (int64_t i = 0; i < 3 * pixels; ++i) rgb.push_back(static_cast<uint8_t>(37 * i + 11));
    const auto found = InEveryWay([&](const Context& context) {
      const Array<float> table(levels);
      const Array<uint8_t> bytes(rgb);
      const Array<float> out(static_cast<size_t>(3 * pixels));
      EXPECT_EQ(
          Finish(NormalisePixels(
              {.rgb = bytes.data(), .levels = table.data(), .out = out.data(), .pixels = pixels},
              context)),
          "");
      return out.Read();
    });
    for (int64_t i = 0; i < 3 * pixels; ++i) {
      const uint8_t value = rgb[static_cast<size_t>(i)];
      ASSERT_EQ(found[static_cast<size_t>(i % 3 * pixels + i / 3)],
                levels[static_cast<size_t>(256 * (i % 3)) + value])
          << pixels << " pixels, byte " << i;
    }
  }
}

TYPED_TEST(VisionRows, PatchesAreRows) {
  using T = TypeParam;
  struct Case {
    int64_t views, grid, patch, row_length;
  };
  // A padded row, one without padding, and the model's own patch of 588 numbers.
  for (const Case& c :
       {Case{2, 3, 3, 32}, Case{1, 2, 4, 48}, Case{1, 2, 14, 592}, Case{1, 1, 20, 1208}}) {
    const int64_t side = c.grid * c.patch;
    const auto pixels = Random(1).Normal<float>(static_cast<size_t>(c.views * 3 * side * side), 1);
    const auto actual = InEveryWay([&](const Context& context) {
      const Array<float> views(pixels);
      const Array<T> out(static_cast<size_t>(c.views * c.grid * c.grid * c.row_length));
      EXPECT_EQ(Finish(PatchRows({.views = views.data(),
                                  .out = out.data(),
                                  .views_count = c.views,
                                  .grid = c.grid,
                                  .patch = c.patch,
                                  .row_length = c.row_length,
                                  .format = FormatOf<T>()},
                                 context)),
                "");
      return out.Read();
    });
    std::vector<T> expected;
    for (int64_t view = 0; view < c.views; ++view) {
      for (int64_t py = 0; py < c.grid; ++py) {
        for (int64_t px = 0; px < c.grid; ++px) {
          for (int64_t channel = 0; channel < 3; ++channel) {
            for (int64_t y = py * c.patch; y < (py + 1) * c.patch; ++y) {
              for (int64_t x = px * c.patch; x < (px + 1) * c.patch; ++x) {
                expected.push_back(Narrow<T>(
                    pixels[static_cast<size_t>(((view * 3 + channel) * side + y) * side + x)]));
              }
            }
          }
          for (int64_t k = 3 * c.patch * c.patch; k < c.row_length; ++k) expected.push_back(T{0});
        }
      }
    }
    EXPECT_TRUE(SameBits(actual, expected)) << c.patch;
  }
}

TYPED_TEST(VisionRows, EmbeddingAddsPositions) {
  using T = TypeParam;
  for (const int64_t columns : {8, 1032}) {
    constexpr int64_t kViews = 2;
    constexpr int64_t kPatches = 5;
    Random random(2);
    const auto products = random.Normal<float>(static_cast<size_t>(kViews * kPatches * columns), 1);
    const auto first = random.Normal<T>(static_cast<size_t>(columns), 1);
    const auto positions = random.Normal<T>(static_cast<size_t>((kPatches + 1) * columns), 1);
    const auto actual = InEveryWay([&](const Context& context) {
      const Array<float> patches(products);
      const auto class_embedding = Constant(first);
      const auto position_embedding = Constant(positions);
      const Array<float> out(static_cast<size_t>(kViews * (kPatches + 1) * columns));
      EXPECT_EQ(Finish(VisionEmbed({.patches = patches.data(),
                                    .class_embedding = class_embedding.data(),
                                    .position_embedding = position_embedding.data(),
                                    .out = out.data(),
                                    .views_count = kViews,
                                    .patch_count = kPatches,
                                    .columns = columns,
                                    .format = FormatOf<T>()},
                                   context)),
                "");
      return out.Read();
    });
    size_t i = 0;
    for (int64_t view = 0; view < kViews; ++view) {
      for (int64_t place = 0; place <= kPatches; ++place) {
        for (int64_t c = 0; c < columns; ++c, ++i) {
          const float base =
              place == 0
                  ? Widen(first[static_cast<size_t>(c)])
                  : products[static_cast<size_t>((view * kPatches + place - 1) * columns + c)];
          ASSERT_EQ(actual[i], base + Widen(positions[static_cast<size_t>(place * columns + c)]));
        }
      }
    }
  }
}

TYPED_TEST(VisionRows, ClassRowsAreDropped) {
  using T = TypeParam;
  for (const int64_t columns : {8, 1032}) {
    constexpr int64_t kViews = 2;
    constexpr int64_t kPatches = 3;
    const auto rows =
        Random(3).Normal<float>(static_cast<size_t>(kViews * (kPatches + 1) * columns), 1);
    const auto actual = InEveryWay([&](const Context& context) {
      const Array<float> features(rows);
      const Array<T> out(static_cast<size_t>(kViews * kPatches * columns));
      EXPECT_EQ(
          Finish(DropClass({features.data(), out.data(), kViews, kPatches, columns, FormatOf<T>()},
                           context)),
          "");
      return out.Read();
    });
    std::vector<T> expected;
    for (int64_t row = 0; row < kViews * (kPatches + 1); ++row) {
      if (row % (kPatches + 1) == 0) continue;
      for (int64_t c = 0; c < columns; ++c) {
        expected.push_back(Narrow<T>(rows[static_cast<size_t>(row * columns + c)]));
      }
    }
    EXPECT_TRUE(SameBits(actual, expected));
  }
}

template <typename T>
struct Picture {
  int64_t grid, columns, tile_rows, tile_columns;
  std::vector<float> features;
  std::vector<T> sub_gn, glb_gn;

  /// Token (i, j) of a view: its four neighbours side by side.
  void PushToken(int64_t view, int64_t i, int64_t j, std::vector<T>& out) const {
    for (int64_t dy = 0; dy < 2; ++dy) {
      for (int64_t dx = 0; dx < 2; ++dx) {
        const int64_t patch = (2 * i + dy) * grid + 2 * j + dx;
        const int64_t row = view * (grid * grid + 1) + 1 + patch;
        for (int64_t c = 0; c < columns; ++c) {
          out.push_back(Narrow<T>(features[static_cast<size_t>(row * columns + c)]));
        }
      }
    }
  }
  std::vector<T> Merged() const {
    const int64_t m = grid / 2;
    std::vector<T> out;
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < m; ++j) PushToken(0, i, j, out);
      out.insert(out.end(), sub_gn.begin(), sub_gn.end());
    }
    out.insert(out.end(), glb_gn.begin(), glb_gn.end());
    for (int64_t a = 0; a < tile_rows; ++a) {
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t b = 0; b < tile_columns; ++b) {
          for (int64_t j = 0; j < m; ++j) PushToken(1 + a * tile_columns + b, i, j, out);
        }
        out.insert(out.end(), sub_gn.begin(), sub_gn.end());
      }
    }
    return out;
  }
};

TYPED_TEST(VisionRows, MergeFollowsTheSpecification) {
  using T = TypeParam;
  struct Case {
    int64_t grid, columns, tile_rows, tile_columns;
  };
  for (const Case& c : {Case{4, 8, 2, 3}, Case{6, 16, 1, 1}, Case{2, 264, 3, 1}}) {
    Random random(4);
    const int64_t views = 1 + c.tile_rows * c.tile_columns;
    Picture<T> picture{
        c.grid,
        c.columns,
        c.tile_rows,
        c.tile_columns,
        random.Normal<float>(static_cast<size_t>(views * (c.grid * c.grid + 1) * c.columns), 1),
        random.Normal<T>(static_cast<size_t>(4 * c.columns), 1),
        random.Normal<T>(static_cast<size_t>(4 * c.columns), 1)};
    const int64_t rows = MergedRows(c.grid, c.tile_rows, c.tile_columns);
    // (h w + 1) m^2 + 1 + (h + 1) m
    const int64_t m = c.grid / 2;
    EXPECT_EQ(rows, views * m * m + 1 + (c.tile_rows + 1) * m);
    const auto actual = InEveryWay([&](const Context& context) {
      const Array<float> features(picture.features);
      const auto sub_gn = Constant(picture.sub_gn);
      const auto glb_gn = Constant(picture.glb_gn);
      const Array<T> out(static_cast<size_t>(rows * 4 * c.columns));
      EXPECT_EQ(Finish(Merge({.features = features.data(),
                              .sub_gn = sub_gn.data(),
                              .glb_gn = glb_gn.data(),
                              .out = out.data(),
                              .grid = c.grid,
                              .columns = c.columns,
                              .tile_rows = c.tile_rows,
                              .tile_columns = c.tile_columns,
                              .format = FormatOf<T>()},
                             context)),
                "");
      return out.Read();
    });
    EXPECT_TRUE(SameBits(actual, picture.Merged())) << c.grid;
  }
}

TYPED_TEST(VisionRows, RefuseWhatTheyCannotLoad) {
  using T = TypeParam;
  const Array<T> x(64);
  const Array<float> y(64);
  const Context context = Ways()[0];
  EXPECT_EQ(PatchRows({y.data(), x.data(), 1, 1, 3, 24, FormatOf<T>()}, context),
            cudaErrorInvalidValue);
  EXPECT_EQ(PatchRows({y.data(), x.data(), -1, 1, 2, 16, FormatOf<T>()}, context),
            cudaErrorInvalidValue);
  EXPECT_EQ(Finish(PatchRows({y.data(), x.data(), 0, 1, 2, 16, FormatOf<T>()}, context)), "");
  EXPECT_EQ(Finish(DropClass({y.data(), x.data(), 0, 1, 8, FormatOf<T>()}, context)), "");
  EXPECT_EQ(Merge({y.data(), x.data(), x.data(), x.data(), 2, 12, 1, 1, FormatOf<T>()}, context),
            cudaErrorInvalidValue);
  EXPECT_EQ(
      VisionEmbed({y.data(), x.data() + 1, x.data(), y.data(), 1, 1, 8, FormatOf<T>()}, context),
      cudaErrorMisalignedAddress);
  EXPECT_EQ(PatchRows({y.data(), x.data() + 1, 1, 1, 2, 16, FormatOf<T>()}, context),
            cudaErrorMisalignedAddress);
  EXPECT_EQ(VisionEmbed({y.data(), x.data(), x.data(), y.data(), 1, 1, 12, FormatOf<T>()}, context),
            cudaErrorInvalidValue);
  EXPECT_EQ(DropClass({y.data() + 1, x.data(), 1, 1, 8, FormatOf<T>()}, context),
            cudaErrorMisalignedAddress);
  EXPECT_EQ(Merge({y.data(), x.data(), x.data(), x.data(), 3, 8, 1, 1, FormatOf<T>()}, context),
            cudaErrorInvalidValue);
}

}  // namespace
}  // namespace xcomposer::cuda
