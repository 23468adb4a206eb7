#include "input/resample.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/checked_math.h"

namespace xcomposer {
namespace {

// Weights are integers with 22 fractional bits: 8 bits of a pixel and 2 for overshoot fill an
// int32.
constexpr int kPrecisionBits = 32 - 8 - 2;

double Bilinear(double x) {
  x = std::abs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

double Bicubic(double x) {
  constexpr double kA = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * kA;
  return 0.0;
}

/// The weights of every output position along one axis.
struct Kernel {
  struct Span {
    int64_t first = 0;  // input position
    int64_t count = 0;
  };
  int64_t stride = 0;  // weights reserved for each output position
  std::vector<Span> spans;
  std::vector<int32_t> weights;

  const int32_t* WeightsOf(int64_t position) const { return weights.data() + position * stride; }
};

int32_t ToFixed(double weight) {
  const double scaled = weight * (1 << kPrecisionBits);
  return static_cast<int32_t>(weight < 0 ? scaled - 0.5 : scaled + 0.5);
}

Kernel MakeKernel(int64_t in_size, int64_t out_size, ResampleFilter filter) {
  const auto value = filter == ResampleFilter::kBilinear ? Bilinear : Bicubic;
  const double radius = filter == ResampleFilter::kBilinear ? 1.0 : 2.0;
  const double scale = static_cast<double>(in_size) / static_cast<double>(out_size);
  const double filter_scale = std::max(scale, 1.0);
  const double support = radius * filter_scale;
  Kernel kernel;
  kernel.stride = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
  kernel.spans.resize(static_cast<size_t>(out_size));
  kernel.weights.resize(static_cast<size_t>(out_size * kernel.stride));
  std::vector<double> exact(static_cast<size_t>(kernel.stride));
  const double inverse = 1.0 / filter_scale;
  for (int64_t position = 0; position < out_size; ++position) {
    const double centre = (static_cast<double>(position) + 0.5) * scale;
    const auto first = std::max<int64_t>(0, static_cast<int64_t>(centre - support + 0.5));
    const auto end = std::min(in_size, static_cast<int64_t>(centre + support + 0.5));
    double sum = 0.0;
    for (int64_t i = 0; i < end - first; ++i) {
      const double at = static_cast<double>(i + first) - centre + 0.5;
      exact[i] = value(at * inverse);
      sum += exact[i];
    }
    int32_t* weights = kernel.weights.data() + position * kernel.stride;
    for (int64_t i = 0; i < end - first; ++i) {
      weights[i] = ToFixed(sum != 0.0 ? exact[i] / sum : exact[i]);
    }
    kernel.spans[position] = {first, end - first};
  }
  return kernel;
}

uint8_t ToByte(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255));
}

Picture MakePicture(int64_t width, int64_t height) {
  return {width, height, std::vector<uint8_t>(static_cast<size_t>(width * height * 3))};
}

Picture ResizeRows(const PixelView& source, int64_t width, ResampleFilter filter) {
  const Kernel kernel = MakeKernel(source.width, width, filter);
  Picture out = MakePicture(width, source.height);  // (H, width, 3)
  for (int64_t y = 0; y < source.height; ++y) {
    const uint8_t* row = source.rgb.data() + y * source.width * 3;
    uint8_t* to = out.rgb.data() + y * width * 3;
    for (int64_t x = 0; x < width; ++x, to += 3) {
      const Kernel::Span span = kernel.spans[x];
      const int32_t* weights = kernel.WeightsOf(x);
      const uint8_t* from = row + span.first * 3;
      int32_t red = 1 << (kPrecisionBits - 1);
      int32_t green = red;
      int32_t blue = red;
      for (int64_t i = 0; i < span.count; ++i, from += 3) {
        red += from[0] * weights[i];
        green += from[1] * weights[i];
        blue += from[2] * weights[i];
      }
      to[0] = ToByte(red);
      to[1] = ToByte(green);
      to[2] = ToByte(blue);
    }
  }
  return out;
}

Picture ResizeColumns(const PixelView& source, int64_t height, ResampleFilter filter) {
  const Kernel kernel = MakeKernel(source.height, height, filter);
  Picture out = MakePicture(source.width, height);  // (height, W, 3)
  const int64_t row_samples = source.width * 3;
  std::vector<int32_t> sums(static_cast<size_t>(row_samples));
  for (int64_t y = 0; y < height; ++y) {
    const Kernel::Span span = kernel.spans[y];
    const int32_t* weights = kernel.WeightsOf(y);
    std::fill(sums.begin(), sums.end(), 1 << (kPrecisionBits - 1));
    for (int64_t i = 0; i < span.count; ++i) {
      const uint8_t* from = source.rgb.data() + (span.first + i) * row_samples;
      const int32_t weight = weights[i];
      for (int64_t s = 0; s < row_samples; ++s) sums[s] += from[s] * weight;
    }
    uint8_t* to = out.rgb.data() + y * row_samples;
    for (int64_t s = 0; s < row_samples; ++s) to[s] = ToByte(sums[s]);
  }
  return out;
}

}  // namespace

Picture Resize(const PixelView& source, int64_t width, int64_t height, ResampleFilter filter) {
  Check(source.width > 0 && source.height > 0 && width > 0 && height > 0, "resizing ", source.width,
        " x ", source.height, " to ", width, " x ", height);
  Check(static_cast<int64_t>(source.rgb.size()) == source.width * source.height * 3,
        "a picture of ", source.width, " x ", source.height, " with ", source.rgb.size(), " bytes");
  if (width == source.width && height == source.height) {
    return {width, height, {source.rgb.begin(), source.rgb.end()}};
  }
  if (width == source.width) return ResizeColumns(source, height, filter);
  Picture rows = ResizeRows(source, width, filter);
  return height == source.height ? rows : ResizeColumns(rows, height, filter);
}

std::optional<int64_t> ResizeScratchBytes(const PictureSize& from, const PictureSize& to) {
  const auto pixels = CheckedMul(to.width, from.height);
  std::optional<int64_t> bytes = pixels ? CheckedMul(*pixels, 3) : std::nullopt;
  for (const auto& [in, out] :
       {std::pair(from.width, to.width), std::pair(from.height, to.height)}) {
    // The stride of MakeKernel is at most 2 (radius * max(in / out, 1) + 1) + 1, radius at most 2.
    const auto reach = CheckedMul(std::max(in, out), 4);
    const auto weights = reach ? CheckedAdd(*reach, 3 * out) : std::nullopt;
    const auto more = weights ? CheckedMul(*weights, sizeof(int32_t)) : std::nullopt;
    bytes = bytes && more ? CheckedAdd(*bytes, *more) : std::nullopt;
  }
  return bytes;
}

Picture Transpose(const PixelView& source) {
  Picture out = MakePicture(source.height, source.width);
  constexpr int64_t kBlock = 32;  // small squares keep both pictures in the cache
  for (int64_t block_y = 0; block_y < source.height; block_y += kBlock) {
    for (int64_t block_x = 0; block_x < source.width; block_x += kBlock) {
      for (int64_t y = block_y; y < std::min(block_y + kBlock, source.height); ++y) {
        for (int64_t x = block_x; x < std::min(block_x + kBlock, source.width); ++x) {
          const uint8_t* from = source.rgb.data() + (y * source.width + x) * 3;
          std::copy_n(from, 3, out.rgb.data() + (x * source.height + y) * 3);
        }
      }
    }
  }
  return out;
}

}  // namespace xcomposer
