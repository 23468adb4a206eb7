#include "kernels/cuda/attention_decode.h"

#include "kernels_cuda/attention_case.h"

namespace xcomposer::cuda {
namespace {

template <typename T>
class DecodeAttentionOf : public StoredKernelTest<T> {};
TYPED_TEST_SUITE(DecodeAttentionOf, StoredTypes);

/// Runs twice on the same counters, which must be zero again after the first time.
template <typename T>
std::vector<T> Attend(const PagedCase<T>& test, const DecodeSharing& sharing,
                      const Context& context) {
  const Array<T> q(test.q);
  const Array<T> keys(test.keys);
  const Array<T> values(test.values);
  const Array<int32_t> tables(test.tables);
  std::vector<int32_t> at;
  for (const auto& s : test.sequences) at.push_back(static_cast<int32_t>(s.position));
  const Array<int32_t> positions(at);
  const auto sequences = static_cast<int64_t>(test.sequences.size());
  const Array<float> partial(
      static_cast<size_t>(DecodePartialFloats(test.shape, sequences, sharing.splits)));
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
                                      .sharing = sharing,
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
  const Doubles exact = test.Attend(false);
  const Doubles naive = test.Attend(true);
  for (const int warps : {4, 6}) {
    const auto actual = InEveryWay([&](const Context& context) {
      return Attend(test, {splits, warps}, context);
    });
    ExpectWithinBudget(actual, exact, naive,
                       std::to_string(splits) + " splits of " + std::to_string(warps) +
                           " warps, head_dim " + std::to_string(test.shape.head_dim));
  }
}

// Lengths that end within a tile, at its end and just after it; the last sequence is a short one.
TYPED_TEST(DecodeAttentionOf, RaggedSequencesAgreeWithDouble) {
  using T = TypeParam;
  const PagedCase<T> wide({8, 2, 128}, 16, {{1, 0}, {1, 63}, {1, 150}, {1, 17}}, 1);
  for (const int64_t splits : {1, 2, 5}) Check(wide, splits);
  Check(PagedCase<T>({3, 1, 64}, 7, {{1, 64}, {1, 197}}, 2), 3);
  Check(PagedCase<T>({8, 1, 64}, 32, {{1, 100}}, 3), 2);
  Check(PagedCase<T>({6, 1, 128}, 5, {{1, 70}}, 4), 1);
}

// More parts than the last block's warps look at in one go, each of a single tile; and blocks of
// one key. The longest sequence ends within a part, the others leave blocks without work.
TYPED_TEST(DecodeAttentionOf, ManyPartsArePutTogether) {
  using T = TypeParam;
  Check(PagedCase<T>({2, 1, 64}, 48, {{1, 2100}, {1, 600}, {1, 5}}, 7), 40);
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
  const auto actual =
      InEveryWay([&](const Context& context) { return Attend(test, {.splits = 2}, context); });
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
  params.sharing.splits = 0;
  EXPECT_EQ(DecodeAttention(params, Ways()[0]), cudaErrorInvalidValue);
  params.sharing = {.splits = 1, .warps = 5};
  EXPECT_EQ(DecodeAttention(params, Ways()[0]), cudaErrorInvalidValue);
  params.sharing = {};
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

class DecodeSharingTest : public KernelTest {};

TEST_F(DecodeSharingTest, FillsTheDeviceButLeavesNoScraps) {
  const Context context{.multiprocessors = 132};
  const auto expect = [&](int64_t sequences, int64_t kv_heads, int64_t keys, int64_t splits,
                          int warps = 4) {
    const DecodeSharing sharing = ShareDecoding(sequences, kv_heads, keys, context);
    EXPECT_EQ(sharing.splits, splits) << sequences << " x " << kv_heads << ", " << keys;
    EXPECT_EQ(sharing.warps, warps) << sequences << " x " << kv_heads << ", " << keys;
  };
  // A wave of 396 blocks, or a tile for each warp.
  expect(1, 8, 1, 1);
  expect(1, 8, 65, 2);
  expect(1, 8, 1024, 16);
  expect(1, 8, 100000, 49);
  expect(8, 8, 300, 5);
  expect(8, 8, 8192, 6);
  expect(1, 1, 100000, 63);  // of 1600 keys, the last of 800
  expect(1, 8, 8192, 43);    // of 192
  expect(1, 8, 0, 1);
  expect(0, 8, 8192, 64);
  // A wave of four warps would be full to two thirds, one of six warps is full.
  expect(32, 8, 8192, 1, 6);
  expect(32, 8, 100, 1, 6);
  // Neither: three waves. More heads than blocks in a wave; no number of waves that is full; more
  // than four waves.
  expect(37, 8, 8192, 4);
  expect(64, 8, 8192, 3);
  expect(1, 320, 8192, 1);
  expect(256, 8, 8192, 1);
}

}  // namespace
}  // namespace xcomposer::cuda
