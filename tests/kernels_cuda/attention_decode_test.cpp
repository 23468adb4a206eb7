#include "kernels/cuda/attention_decode.h"

#include "kernels_cuda/attention_case.h"

namespace xcomposer::cuda {
namespace {

template <typename T>
class DecodeAttentionOf : public StoredKernelTest<T> {};
TYPED_TEST_SUITE(DecodeAttentionOf, StoredTypes);

/// Runs twice on the same counters, which must be zero again after the first time.
template <typename T>
std::vector<T> Attend(const PagedCase<T>& test, int64_t splits, const Context& context) {
  const Array<T> q(test.q);
  const Array<T> keys(test.keys);
  const Array<T> values(test.values);
  const Array<int32_t> tables(test.tables);
  std::vector<int32_t> at;
  for (const auto& s : test.sequences) at.push_back(static_cast<int32_t>(s.position));
  const Array<int32_t> positions(at);
  const auto sequences = static_cast<int64_t>(test.sequences.size());
  const Array<float> partial(
      static_cast<size_t>(DecodePartialFloats(test.shape, sequences, splits)));
  const Array<int32_t> counters(
      std::vector<int32_t>(static_cast<size_t>(sequences * test.shape.kv_heads), 0));
  std::vector<T> first;
  for (int round = 0; round < 2; ++round) {
    const Array<T> out(test.q.size());
    EXPECT_EQ(Finish(DecodeAttention({.q = q.data(),
                                      .cache = {keys.data(), values.data(), tables.data(),
                                                test.table_stride, test.block_size},
                                      .positions = positions.data(),
                                      .shape = test.shape,
                                      .sequences = sequences,
                                      .splits = splits,
                                      .partial = partial.data(),
                                      .counters = counters.data(),
                                      .out = out.data(),
                                      .format = FormatOf<T>()},
                                     context)),
              "");
    if (round == 0) {
      first = out.Read();
    } else {
      EXPECT_TRUE(SameBits(first, out.Read()));
    }
  }
  return first;
}

template <typename T>
void Check(const PagedCase<T>& test, int64_t splits) {
  const auto actual =
      InEveryWay([&](const Context& context) { return Attend(test, splits, context); });
  ExpectWithinBudget(
      actual, test.Attend(false), test.Attend(true),
      std::to_string(splits) + " splits, head_dim " + std::to_string(test.shape.head_dim));
}

// Lengths that end within a tile, at its end and just after it; the last sequence is a short one.
TYPED_TEST(DecodeAttentionOf, RaggedSequencesAgreeWithDouble) {
  using T = TypeParam;
  const PagedCase<T> wide({8, 2, 128}, 16, {{1, 0}, {1, 95}, {1, 214}, {1, 17}}, 1);
  for (const int64_t splits : {1, 2, 5}) Check(wide, splits);
  Check(PagedCase<T>({3, 1, 64}, 7, {{1, 96}, {1, 293}}, 2), 3);
  Check(PagedCase<T>({8, 1, 64}, 32, {{1, 100}}, 3), 2);
  Check(PagedCase<T>({6, 1, 128}, 5, {{1, 70}}, 4), 1);
}

// More parts than the last block's warps look at in one go, each of a single tile; and blocks of
// one key. The longest sequence ends within a part, the others leave blocks without work.
TYPED_TEST(DecodeAttentionOf, ManyPartsArePutTogether) {
  using T = TypeParam;
  Check(PagedCase<T>({2, 1, 64}, 72, {{1, 3180}, {1, 600}, {1, 5}}, 7), 40);
  Check(PagedCase<T>({5, 1, 128}, 1, {{1, 580}}, 8), 9);
}

// The largest score lies in one part, so that all that the others summed up counts for nothing; and
// in the last tile of a warp that takes several.
TYPED_TEST(DecodeAttentionOf, OnePartMayOutweighAllOthers) {
  using T = TypeParam;
  for (const int64_t best : {3, 250, 511}) {
    PagedCase<T> test({4, 1, 64}, 16, {{1, 511}}, 9);
    for (int64_t d = 0; d < 64; ++d) {
      for (int64_t h = 0; h < 4; ++h) test.q[static_cast<size_t>(h * 64 + d)] = Narrow<T>(2.0f);
      test.keys[test.At(0, best, 0, d)] = Narrow<T>(3.0f);
    }
    for (const int64_t splits : {1, 3, 8}) Check(test, splits);
  }
}

// Scores so far apart that a softmax without its largest would overflow.
TYPED_TEST(DecodeAttentionOf, LargeScoresDoNotOverflow) {
  using T = TypeParam;
  Check(PagedCase<T>({4, 2, 64}, 16, {{1, 140}}, 5, 6.0f), 2);
}

TYPED_TEST(DecodeAttentionOf, UnusedRowsGiveZeros) {
  using T = TypeParam;
  PagedCase<T> test({4, 2, 64}, 16, {{1, 20}, {1, -1}, {1, 3}}, 6);
  // The unused row's queries mean nothing.
  for (size_t i = 256; i < 512; ++i) test.q[i].bits = 0xFFFF;
  const auto actual = InEveryWay([&](const Context& context) { return Attend(test, 2, context); });
  for (size_t i = 256; i < 512; ++i) ASSERT_EQ(actual[i].bits, 0);
  for (size_t i = 0; i < 256; ++i) ASSERT_FALSE(std::isnan(Widen(actual[i])));
}

TYPED_TEST(DecodeAttentionOf, RefusesWhatItHasNoKernelFor) {
  using T = TypeParam;
  const Array<T> x(64);
  DecodeAttentionParams params{.q = x.data(),
                               .cache = {x.data(), x.data(), nullptr, 1, 16},
                               .shape = {9, 1, 64},
                               .sequences = 1,
                               .out = x.data(),
                               .format = FormatOf<T>()};
  EXPECT_EQ(DecodeAttention(params, Ways()[0]), cudaErrorInvalidValue);
  params.shape = {3, 2, 64};
  EXPECT_EQ(DecodeAttention(params, Ways()[0]), cudaErrorInvalidValue);
  params.shape = {2, 2, 64};
  params.splits = 0;
  EXPECT_EQ(DecodeAttention(params, Ways()[0]), cudaErrorInvalidValue);
  params.splits = 1;
  params.sequences = 0;
  EXPECT_EQ(Finish(DecodeAttention(params, Ways()[0])), "");
  params.sequences = -1;
  EXPECT_EQ(DecodeAttention(params, Ways()[0]), cudaErrorInvalidValue);
  params.sequences = 1;
  params.shape = {2, 2, 96};
  EXPECT_EQ(DecodeAttention(params, Ways()[0]), cudaErrorNotSupported);
  params.shape = {2, 2, 64};
  params.cache.values = x.data() + 1;
  EXPECT_EQ(DecodeAttention(params, Ways()[0]), cudaErrorMisalignedAddress);
}

class DecodeSplitsTest : public KernelTest {};

TEST_F(DecodeSplitsTest, FillTheDeviceButLeaveNoScraps) {
  const Context context{.multiprocessors = 132};
  // A wave of 264 blocks, or a tile for each warp.
  EXPECT_EQ(DecodeSplits(1, 8, 1, context), 1);
  EXPECT_EQ(DecodeSplits(1, 8, 97, context), 2);
  EXPECT_EQ(DecodeSplits(1, 8, 1024, context), 11);
  EXPECT_EQ(DecodeSplits(1, 8, 100000, context), 33);
  EXPECT_EQ(DecodeSplits(8, 8, 300, context), 4);
  EXPECT_EQ(DecodeSplits(8, 8, 8192, context), 4);
  EXPECT_EQ(DecodeSplits(1, 1, 100000, context), 62);  // of 1632 keys, the last of 448
  EXPECT_EQ(DecodeSplits(1, 8, 8192, context), 29);    // of 288
  EXPECT_EQ(DecodeSplits(1, 8, 0, context), 1);
  EXPECT_EQ(DecodeSplits(0, 8, 8192, context), 43);
  EXPECT_EQ(DecodeSplits(32, 8, 8192, context), 1);
  // One wave would be full to two thirds: two.
  EXPECT_EQ(DecodeSplits(22, 8, 8192, context), 3);
  EXPECT_EQ(DecodeSplits(22, 8, 100, context), 2);
  // More heads than blocks in a wave; no number of waves that is full; more than four waves.
  EXPECT_EQ(DecodeSplits(64, 8, 8192, context), 1);
  EXPECT_EQ(DecodeSplits(1, 320, 8192, context), 3);
  EXPECT_EQ(DecodeSplits(256, 8, 8192, context), 1);
}

}  // namespace
}  // namespace xcomposer::cuda
