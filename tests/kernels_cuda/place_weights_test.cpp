#include "kernels/cuda/place_weights.h"

#include <limits>

#include "kernels_cuda/kernel_test.h"

namespace xcomposer::cuda {
namespace {

template <typename T>
constexpr FileFormat FileFormatOf() {
  if constexpr (std::is_same_v<T, float>) return FileFormat::kFloat32;
  return std::is_same_v<T, Half> ? FileFormat::kFloat16 : FileFormat::kBfloat16;
}

/// x rounded to a format with so many bits after the leading one, to the nearest, ties to even.
double Rounded(double x, int digits, int least_exponent, double largest) {
  if (!std::isfinite(x) || x == 0) return x;
  const double unit = std::ldexp(1.0, std::max(std::ilogb(x), least_exponent) - digits);
  const double y = std::nearbyint(x / unit) * unit;
  return std::abs(y) > largest ? std::copysign(std::numeric_limits<double>::infinity(), x) : y;
}
template <typename To>
double RoundedTo(double x) {
  if (std::is_same_v<To, Half>) return Rounded(x, 10, -14, 65504);
  return Rounded(x, 7, -126, std::ldexp(255.0, 120));
}

template <typename From, typename To>
struct Pair {
  using Stored = From;
  using Placed = To;
};
using Pairs = testing::Types<Pair<Half, Half>, Pair<Half, BFloat16>, Pair<BFloat16, Half>,
                             Pair<BFloat16, BFloat16>, Pair<float, Half>, Pair<float, BFloat16>>;

template <typename P>
class PlaceWeightsTest : public KernelTest {};
TYPED_TEST_SUITE(PlaceWeightsTest, Pairs);

/// Any bits: numbers of every size, subnormal ones, infinity and NaN.
template <typename T>
std::vector<T> AnyNumbers(int64_t count, Random& random) {
  std::vector<T> numbers(static_cast<size_t>(count));
  for (T& x : numbers) {
    // A third around 1, as weights are; a third at the ends of float16.
    const auto bits = static_cast<uint32_t>(random.Below(int64_t{1} << 32));
    const float sizes[] = {1.0f, 0x1p-24f, 0x1p15f};
    const float scale = sizes[bits % 3] * static_cast<float>(bits >> 8) * 0x1p-22f;
    float f = bits % 2 == 0 ? scale : -scale;
    if (bits % 64 == 1) std::memcpy(&f, &bits, 4);
    if (bits % 64 == 2) f = std::numeric_limits<float>::quiet_NaN();
    if (bits % 64 == 4) f = std::numeric_limits<float>::infinity();
    x = Narrow<T>(f);
  }
  return numbers;
}

struct Shape {
  int64_t columns, row_stride, first, count;
};

template <typename From, typename To>
void CheckPlaced(const Shape& shape, int64_t shift) {
  Random random(static_cast<uint64_t>(shape.first + shape.count));
  const auto staged = AnyNumbers<From>(shape.count, random);
  const int64_t rows = (shape.first + shape.count - 1) / shape.columns + 1;
  const auto size = static_cast<size_t>(shift + rows * shape.row_stride);
  const uint64_t before[] = {5, 7};  // counts of earlier pieces
  std::vector<uint64_t> losses;
  const auto actual = InEveryWay([&](const Context& context) {
    const Array<From> in(staged);
    const Array<To> out(std::vector<To>(size, To{0x1234}));
    const Array<uint64_t> counters(std::vector<uint64_t>(before, before + 2));
    EXPECT_EQ(Finish(PlaceWeights({.staged = in.data(),
                                   .from = FileFormatOf<From>(),
                                   .target = out.data() + shift,
                                   .to = FormatOf<To>(),
                                   .first = shape.first,
                                   .count = shape.count,
                                   .columns = shape.columns,
                                   .row_stride = shape.row_stride,
                                   .losses = counters.data()},
                                  context)),
              "");
    losses = counters.Read();
    return out.Read();
  });
  std::vector<To> expected(size, To{0x1234});
  uint64_t counted[] = {5, 7};
  for (int64_t i = 0; i < shape.count; ++i) {
    const From from = staged[static_cast<size_t>(i)];
    const int64_t row = (shape.first + i) / shape.columns;
    const int64_t column = (shape.first + i) % shape.columns;
    const auto at = static_cast<size_t>(shift + row * shape.row_stride + column);
    const auto x = static_cast<double>(Widen(from));
    if constexpr (std::is_same_v<From, To>) {
      expected[at] = from;
    } else {
      const double y = RoundedTo<To>(x);
      counted[0] += std::isfinite(x) && !std::isfinite(y);
      counted[1] += x != 0 && y == 0;
      // Of NaN any bits will do.
      const bool is_nan = std::isnan(x) && std::isnan(Widen(actual[at]));
      expected[at] = is_nan ? actual[at] : Narrow<To>(static_cast<float>(y));
    }
  }
  for (size_t i = 0; i < size; ++i) {
    ASSERT_EQ(actual[i].bits, expected[i].bits)
        << i << " of " << shape.columns << " columns, " << shape.row_stride << " apart, from "
        << shape.first << " on";
  }
  EXPECT_EQ(losses, (std::vector<uint64_t>{counted[0], counted[1]}));
}

TYPED_TEST(PlaceWeightsTest, EveryNumberComesToItsPlace) {
  using From = typename TypeParam::Stored;
  using To = typename TypeParam::Placed;
  for (const Shape& shape : {
           Shape{1, 1, 0, 1},
           Shape{8, 8, 0, 8},            // one vector
           Shape{24, 24, 16, 31},        // vectors and what is left
           Shape{24, 24, 3, 40},         // begins within a vector
           Shape{24, 32, 8, 2056},       // vectors of rows that lie apart; more than a block
           Shape{24, 29, 8, 100},        // rows that begin anywhere
           Shape{7, 16, 5, 90},          // rows that end anywhere
           Shape{1000, 1256, 1992, 20},  // from one row to the next
           Shape{5000, 5000, 17, 4100},
       }) {
    CheckPlaced<From, To>(shape, 0);
    CheckPlaced<From, To>(shape, 1);
    CheckPlaced<From, To>(shape, 8);
  }
}

TYPED_TEST(PlaceWeightsTest, LossesAreCounted) {
  using From = typename TypeParam::Stored;
  using To = typename TypeParam::Placed;
  const std::vector<From> staged = {Narrow<From>(1.0f), Narrow<From>(1e6f), Narrow<From>(-1e6f),
                                    Narrow<From>(1e-20f), Narrow<From>(0.0f)};
  const Array<From> in(staged);
  const Array<To> out(5);
  const Array<uint64_t> losses(std::vector<uint64_t>{0, 0});
  EXPECT_EQ(Finish(PlaceWeights({.staged = in.data(),
                                 .from = FileFormatOf<From>(),
                                 .target = out.data(),
                                 .to = FormatOf<To>(),
                                 .count = 5,
                                 .columns = 5,
                                 .row_stride = 5,
                                 .losses = losses.data()},
                                Ways()[0])),
            "");
  const bool narrows = std::is_same_v<To, Half> && !std::is_same_v<From, Half>;
  EXPECT_EQ(losses.Read(), (std::vector<uint64_t>{narrows ? 2u : 0u, narrows ? 1u : 0u}));
}

TYPED_TEST(PlaceWeightsTest, RefusesWhatItCannotPlace) {
  using From = typename TypeParam::Stored;
  using To = typename TypeParam::Placed;
  const Array<From> in(32);
  const Array<To> out(32);
  const Array<uint64_t> losses(2);
  const Context context = Ways()[0];
  const PlaceWeightsParams good{.staged = in.data(),
                                .from = FileFormatOf<From>(),
                                .target = out.data(),
                                .to = FormatOf<To>(),
                                .count = 8,
                                .columns = 4,
                                .row_stride = 6,
                                .losses = losses.data()};
  const auto refused = [&](auto change) {
    PlaceWeightsParams params = good;
    change(params);
    return PlaceWeights(params, context);
  };
  using P = PlaceWeightsParams;
  EXPECT_EQ(refused([](P& p) { p.first = -1; }), cudaErrorInvalidValue);
  EXPECT_EQ(refused([](P& p) { p.count = -1; }), cudaErrorInvalidValue);
  EXPECT_EQ(refused([](P& p) { p.columns = 0; }), cudaErrorInvalidValue);
  EXPECT_EQ(refused([](P& p) { p.row_stride = 3; }), cudaErrorInvalidValue);
  EXPECT_EQ(refused([](P& p) { p.losses = nullptr; }), cudaErrorInvalidValue);
  EXPECT_EQ(refused([](P& p) { p.from = static_cast<FileFormat>(9); }), cudaErrorInvalidValue);
  EXPECT_EQ(refused([&](P& p) { p.staged = in.data() + 1; }), cudaErrorMisalignedAddress);
  const auto beside = [](auto* pointer, int bytes) {
    return reinterpret_cast<char*>(pointer) + bytes;
  };
  EXPECT_EQ(refused([&](P& p) { p.target = beside(out.data(), 1); }), cudaErrorMisalignedAddress);
  EXPECT_EQ(
      refused([&](P& p) { p.losses = reinterpret_cast<uint64_t*>(beside(losses.data(), 4)); }),
      cudaErrorMisalignedAddress);
  PlaceWeightsParams nothing = good;
  nothing.count = 0;
  EXPECT_EQ(Finish(PlaceWeights(nothing, context)), "");
}

}  // namespace
}  // namespace xcomposer::cuda
