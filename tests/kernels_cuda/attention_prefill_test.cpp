#include "kernels/cuda/attention_prefill.h"

#include "kernels_cuda/attention_case.h"

namespace xcomposer::cuda {
namespace {

template <typename T>
class PrefillAttentionOf : public StoredKernelTest<T> {};
TYPED_TEST_SUITE(PrefillAttentionOf, StoredTypes);

/// Those that the device has.
std::vector<PrefillTiling> Tilings(int64_t head_dim) {
  std::vector<PrefillTiling> tilings = {PrefillTiling::kBySize, PrefillTiling::k64Rows,
                                        PrefillTiling::k128Rows};
  if (!Ways()[0].warpgroup_products) return tilings;
  tilings.push_back(PrefillTiling::kWarpgroups);
  if (head_dim == 64) tilings.push_back(PrefillTiling::kThreeWarpgroups);
  return tilings;
}

/// So few multiprocessors that blocks stay for all tiles, where there are eight or more.
Context WithFewBlocks(Context context, PrefillTiling tiling) {
  if (tiling >= PrefillTiling::kWarpgroups) context.multiprocessors = 1;
  return context;
}

template <typename T>
void Check(const PagedCase<T>& test) {
  std::vector<int32_t> first_rows;
  std::vector<int32_t> row_counts;
  std::vector<int32_t> positions;
  int32_t row = 0;
  for (const auto& s : test.sequences) {
    first_rows.push_back(row);
    row_counts.push_back(static_cast<int32_t>(s.rows));
    positions.push_back(static_cast<int32_t>(s.position));
    row += static_cast<int32_t>(s.rows);
  }
  const Doubles exact = test.Attend(false);
  const Doubles naive = test.Attend(true);
  const int64_t width = test.shape.heads * test.shape.head_dim;
  const int64_t stride = width + 24;  // of the result, with room beside its rows
  for (const PrefillTiling tiling : Tilings(test.shape.head_dim)) {
    const auto actual = InEveryWay([&](const Context& way) {
      const Context context = WithFewBlocks(way, tiling);
      const Array<T> q(test.q);
      const Array<T> keys(test.keys);
      const Array<T> values(test.values);
      const Array<int32_t> tables(test.tables);
      const Array<int32_t> first(first_rows);
      const Array<int32_t> counts(row_counts);
      const Array<int32_t> at(positions);
      const Array<T> out(static_cast<size_t>(test.rows() * stride));
      EXPECT_EQ(Finish(PrefillAttention({.q = q.data(),
                                         .cache = {keys.data(), values.data(), tables.data(),
                                                   test.table_stride, test.block_size},
                                         .first_rows = first.data(),
                                         .row_counts = counts.data(),
                                         .positions = at.data(),
                                         .sequences = static_cast<int64_t>(test.sequences.size()),
                                         .rows = test.rows(),
                                         .shape = test.shape,
                                         .out = out.data(),
                                         .out_stride = stride,
                                         .format = FormatOf<T>(),
                                         .tiling = tiling},
                                        context)),
                "");
      return out.Read();
    });
    std::vector<T> dense;
    for (auto r = actual.begin(); r != actual.end(); r += stride) {
      dense.insert(dense.end(), r, r + width);
      for (int64_t i = width; i < stride; ++i) ASSERT_TRUE(std::isnan(Widen(r[i])));
    }
    ExpectWithinBudget(dense, exact, naive,
                       "head_dim " + std::to_string(test.shape.head_dim) + ", block size " +
                           std::to_string(test.block_size) + ", tiling " +
                           std::to_string(static_cast<int>(tiling)));
  }
}

// Whole prompts, chunks with keys before them, single rows and an empty sequence; ends within a
// tile, at its end and one past it.
TYPED_TEST(PrefillAttentionOf, RaggedChunksAgreeWithDouble) {
  using T = TypeParam;
  Check(PagedCase<T>({2, 1, 64}, 16, {{65, 0}, {0, 9}, {1, 130}, {64, 63}}, 1));
  Check(PagedCase<T>({2, 2, 128}, 32, {{17, 0}, {19, 100}}, 2));
  // A first row that sees all keys of a tile of 64 or 128 but the last, which would get a fair
  // weight.
  Check(PagedCase<T>({1, 1, 64}, 16, {{3, 62}}, 15, 0.2f));
  Check(PagedCase<T>({1, 1, 64}, 16, {{3, 126}}, 18, 0.2f));
  // Rows that see less than the first 64 keys, while the last ones see more.
  Check(PagedCase<T>({4, 2, 128}, 7, {{20, 52}}, 3));
}

// A block's rows are query rows times the heads that share keys.
TYPED_TEST(PrefillAttentionOf, TilesEndWithinAtAndPastTheirRows) {
  using T = TypeParam;
  Check(PagedCase<T>({1, 1, 64}, 64, {{127, 0}, {128, 2}}, 5));
  Check(PagedCase<T>({4, 1, 128}, 16, {{15, 0}, {16, 3}, {33, 30}}, 6));
  // 21 or 42 query rows of three heads, which do not fill the tile.
  Check(PagedCase<T>({6, 2, 64}, 16, {{43, 0}, {22, 5}}, 7));
  // So many heads share keys that each goes by itself.
  Check(PagedCase<T>({65, 1, 64}, 16, {{3, 2}}, 8));
}

// Blocks smaller than a tile's step, larger than a tile, and neither dividing the other.
TYPED_TEST(PrefillAttentionOf, BlocksOfAnySize) {
  using T = TypeParam;
  for (const int64_t size : {1, 3, 48, 64, 100, 256}) {
    Check(PagedCase<T>({2, 2, 64}, size, {{9, 190}, {70, 0}}, 9 + static_cast<uint64_t>(size)));
  }
  Check(PagedCase<T>({2, 1, 128}, 48, {{5, 150}}, 10));
}

// More tiles of keys than places in the ring, several times over, and blocks of one, two and again
// one group with rows.
TYPED_TEST(PrefillAttentionOf, TilesFollowOneAnotherInABlock) {
  using T = TypeParam;
  Check(PagedCase<T>({2, 2, 64}, 16, {{40, 290}, {130, 120}, {3, 0}, {100, 30}}, 16));
  Check(PagedCase<T>({4, 2, 128}, 32, {{70, 200}, {20, 300}, {64, 0}}, 17));
}

// A chunk late in a long sequence: few rows and many tiles of keys.
TYPED_TEST(PrefillAttentionOf, FewRowsAndManyKeys) {
  using T = TypeParam;
  Check(PagedCase<T>({4, 2, 128}, 32, {{3, 701}, {1, 639}, {2, 0}}, 11));
}

TYPED_TEST(PrefillAttentionOf, SequencesWithoutRowsWriteNothing) {
  using T = TypeParam;
  Check(PagedCase<T>({2, 1, 64}, 16, {{0, 9}, {0, 0}, {2, 5}, {0, 70}}, 12));
  Check(PagedCase<T>({2, 1, 64}, 16, {{0, 9}, {0, 0}}, 13));
}

TYPED_TEST(PrefillAttentionOf, LargeScoresDoNotOverflow) {
  using T = TypeParam;
  Check(PagedCase<T>({1, 1, 64}, 16, {{30, 70}}, 4, 6.0f));
}

// Each tile of keys brings larger scores than the ones before: by less than what the reference of
// the weights lets pass, and by more.
TYPED_TEST(PrefillAttentionOf, TheLargestScoreGrows) {
  using T = TypeParam;
  for (const float growth : {1.2f, 3.0f}) {
    PagedCase<T> test({1, 1, 64}, 64, {{6, 250}}, 14);
    for (int64_t key = 0; key < 256; ++key) {
      const float scale = std::pow(growth, static_cast<float>(key / 64 - 2));
      for (int64_t d = 0; d < 64; ++d) {
        T& x = test.keys[test.At(0, key, 0, d)];
        x = Narrow<T>(Widen(x) * scale);
      }
    }
    Check(test);
  }
}

/// The same problem as a paged case: a view is a sequence of one block whose rows see all keys.
template <typename T>
void CheckViews(int64_t views, int64_t rows, int64_t heads, int64_t dim, uint64_t seed) {
  const int64_t width = heads * dim;
  const int64_t stride = 3 * width;
  const auto packed = Random(seed).Normal<T>(static_cast<size_t>(views * rows * stride), 1.0f);
  const auto at = [&](int64_t view, int64_t row, int64_t part, int64_t head, int64_t d) {
    return static_cast<double>(Widen(
        packed[static_cast<size_t>((view * rows + row) * stride + part * width + head * dim + d)]));
  };
  Doubles exact;
  Doubles naive;
  for (int64_t view = 0; view < views; ++view) {
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t head = 0; head < heads; ++head) {
        Doubles scores;
        Doubles rounded;
        for (int64_t key = 0; key < rows; ++key) {
          double score = 0;
          for (int64_t d = 0; d < dim; ++d) {
            score += at(view, row, 0, head, d) * at(view, key, 1, head, d);
          }
          scores.push_back(score / std::sqrt(static_cast<double>(dim)));
          rounded.push_back(Round<T>(scores.back()));
        }
        for (Doubles* weights : {&scores, &rounded}) {
          const double largest = *std::max_element(weights->begin(), weights->end());
          double sum = 0;
          for (double& weight : *weights) sum += weight = std::exp(weight - largest);
          for (double& weight : *weights) weight /= sum;
        }
        for (int64_t d = 0; d < dim; ++d) {
          double mixed = 0;
          double naive_mixed = 0;
          for (int64_t key = 0; key < rows; ++key) {
            const double value = at(view, key, 2, head, d);
            mixed += scores[static_cast<size_t>(key)] * value;
            naive_mixed += Round<T>(rounded[static_cast<size_t>(key)]) * value;
          }
          exact.push_back(mixed);
          naive.push_back(Round<T>(naive_mixed));
        }
      }
    }
  }
  for (const PrefillTiling tiling : Tilings(dim)) {
    const auto actual = InEveryWay([&](const Context& way) {
      const Context context = WithFewBlocks(way, tiling);
      const Array<T> in(packed);
      const Array<T> out(static_cast<size_t>(views * rows * width));
      EXPECT_EQ(Finish(VisionAttention({.q = in.data(),
                                        .k = in.data() + width,
                                        .v = in.data() + 2 * width,
                                        .stride = stride,
                                        .out = out.data(),
                                        .views = views,
                                        .rows = rows,
                                        .heads = heads,
                                        .head_dim = dim,
                                        .format = FormatOf<T>(),
                                        .tiling = tiling},
                                       context)),
                "");
      return out.Read();
    });
    ExpectWithinBudget(
        actual, exact, naive,
        std::to_string(rows) + " rows, tiling " + std::to_string(static_cast<int>(tiling)));
  }
}

TYPED_TEST(PrefillAttentionOf, ViewsSeeAllOfThemselves) {
  CheckViews<TypeParam>(2, 67, 2, 64, 1);
  CheckViews<TypeParam>(1, 64, 1, 64, 2);
  CheckViews<TypeParam>(3, 5, 1, 64, 3);
  CheckViews<TypeParam>(1, 130, 1, 128, 4);
  CheckViews<TypeParam>(1, 128, 1, 64, 5);
  CheckViews<TypeParam>(2, 97, 1, 64, 6);  // a warp without rows, another with one
}

// Of three groups two have rows in a view's last tile, which a block that stays takes before the
// view's first: the third group is ahead of the others then.
TYPED_TEST(PrefillAttentionOf, AGroupWithoutRowsWaitsForTheOthers) {
  CheckViews<TypeParam>(2, 266, 2, 64, 7);
  CheckViews<TypeParam>(4, 193, 1, 64, 8);  // one group, then three
}

TYPED_TEST(PrefillAttentionOf, RefusesWhatItHasNoKernelFor) {
  using T = TypeParam;
  const Array<T> x(64);
  VisionAttentionParams params{x.data(), x.data(), x.data(),      64, x.data(), 1, 1,
                               1,        64,       FormatOf<T>(), {}};
  params.stride = 56;
  EXPECT_EQ(VisionAttention(params, Ways()[0]), cudaErrorInvalidValue);
  params.stride = 68;
  EXPECT_EQ(VisionAttention(params, Ways()[0]), cudaErrorInvalidValue);
  params.stride = 1024;
  params.rows = 1 << 22;
  EXPECT_EQ(VisionAttention(params, Ways()[0]), cudaErrorInvalidValue);
  params.rows = 1;
  params.stride = 96;
  params.head_dim = 96;
  EXPECT_EQ(VisionAttention(params, Ways()[0]), cudaErrorNotSupported);
  params.head_dim = 64;
  params.k = x.data() + 1;
  EXPECT_EQ(VisionAttention(params, Ways()[0]), cudaErrorMisalignedAddress);
  PrefillAttentionParams paged{.q = x.data(),
                               .cache = {x.data(), x.data(), nullptr, 1, 16},
                               .shape = {3, 2, 64},
                               .out = x.data(),
                               .format = FormatOf<T>()};
  EXPECT_EQ(PrefillAttention(paged, Ways()[0]), cudaErrorInvalidValue);
  paged.shape = {0, 2, 64};
  EXPECT_EQ(PrefillAttention(paged, Ways()[0]), cudaErrorInvalidValue);
  paged.rows = -1;
  paged.shape = {2, 2, 64};
  EXPECT_EQ(PrefillAttention(paged, Ways()[0]), cudaErrorInvalidValue);
  paged.rows = 0;
  EXPECT_EQ(Finish(PrefillAttention(paged, Ways()[0])), "");
  for (const int64_t stride : {120, 132}) {
    paged.out_stride = stride;
    EXPECT_EQ(PrefillAttention(paged, Ways()[0]), cudaErrorInvalidValue);
  }
  paged.out_stride = 0;
  paged.cache.block_size = 0;
  EXPECT_EQ(PrefillAttention(paged, Ways()[0]), cudaErrorInvalidValue);
  paged.cache.block_size = 16;
  paged.out = x.data() + 1;
  EXPECT_EQ(PrefillAttention(paged, Ways()[0]), cudaErrorMisalignedAddress);
  paged.out = x.data();
  paged.shape = {2, 2, 80};
  EXPECT_EQ(PrefillAttention(paged, Ways()[0]), cudaErrorNotSupported);
  paged.tiling = PrefillTiling::kWarpgroups;
  EXPECT_EQ(PrefillAttention(paged, Ways()[0]), cudaErrorNotSupported);
}

TYPED_TEST(PrefillAttentionOf, WarpgroupsNeedTheirProducts) {
  using T = TypeParam;
  const Array<T> x(64);
  Context context = Ways()[0];
  context.warpgroup_products = false;
  EXPECT_EQ(VisionAttention({.q = x.data(),
                             .k = x.data(),
                             .v = x.data(),
                             .stride = 64,
                             .out = x.data(),
                             .views = 1,
                             .rows = 1,
                             .heads = 1,
                             .head_dim = 64,
                             .format = FormatOf<T>(),
                             .tiling = PrefillTiling::kWarpgroups},
                            context),
            cudaErrorNotSupported);
  EXPECT_EQ(PrefillAttention({.q = x.data(),
                              .cache = {x.data(), x.data(), nullptr, 1, 16},
                              .shape = {2, 2, 64},
                              .out = x.data(),
                              .format = FormatOf<T>(),
                              .tiling = PrefillTiling::kWarpgroups},
                             context),
            cudaErrorNotSupported);
}

}  // namespace
}  // namespace xcomposer::cuda
