#include "kernels/cpu/bf12_matrix.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "kernels/cpu/round_up.h"
#include "kernels/cpu/thread_pool.h"

namespace xcomposer::cpu {
namespace {

constexpr int kExponents = 256;
constexpr int kWindow = 16;           // exponents that four bits tell apart
constexpr int kPackedExponent = 112;  // of a packed number whose four bits are zero
constexpr int64_t kOutlierWords = 2;

int ExponentOf(uint16_t bits) { return bits >> 7 & 255; }

/// The least exponent of the window that holds the most numbers of a row; 1 to 254 - 15, so that
/// zeros, numbers with the least exponent, infinities and NaNs are outliers.
int LeastExponent(const std::array<int64_t, kExponents>& counts) {
  constexpr int kLast = kExponents - 1 - kWindow;
  int64_t inside = 0;
  for (int e = 1; e < 1 + kWindow; ++e) inside += counts[static_cast<size_t>(e)];
  int64_t most = inside;
  int best = 1;
  for (int e = 2; e <= kLast; ++e) {
    inside += counts[static_cast<size_t>(e + kWindow - 1)] - counts[static_cast<size_t>(e - 1)];
    if (inside >=
        most) {  // the highest of several: rounding errors then stay as far away as can be
      most = inside;
      best = e;
    }
  }
  return best;
}

float ScaleOf(int least) { return std::ldexp(1.0f, least - kPackedExponent); }

float FromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

uint32_t BitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

float FromBfloat16(uint16_t bits) { return FromBits(static_cast<uint32_t>(bits) << 16); }

/// Twelve bits of eight numbers in three words.
void PutFields(const uint32_t (&fields)[8], uint32_t* words, int64_t stride) {
  const uint32_t seventh = fields[6];
  const uint32_t eighth = fields[7];
  words[0] = fields[0] << 20 | fields[1] << 8 | seventh >> 4;
  words[stride] = fields[2] << 20 | fields[3] << 8 | (seventh & 15u) << 4 | (eighth & 15u);
  words[2 * stride] = fields[4] << 20 | fields[5] << 8 | eighth >> 4;
}

void GetFields(const uint32_t* words, int64_t stride, uint32_t (&fields)[8]) {
  for (int i = 0; i < 3; ++i) {
    fields[2 * i] = words[i * stride] >> 20;
    fields[2 * i + 1] = words[i * stride] >> 8 & 0xfffu;
  }
  const uint32_t middle = words[stride] & 255u;
  fields[6] = (words[0] & 255u) << 4 | middle >> 4;
  fields[7] = (words[2 * stride] & 255u) << 4 | (middle & 15u);
}

constexpr int64_t kLanes = 16;

/// Input of a block that field `field` of lane `lane` holds: neighbours share a lane, as in the
/// words of a bfloat16 matrix.
int64_t InputOf(int64_t lane, int64_t field) { return field / 2 * 32 + 2 * lane + field % 2; }

/// Four rows of the matrix at a time.
class Packer {
 public:
  Packer(const StoredMatrix& matrix, const Bf12Target& target) : matrix_(matrix), target_(target) {}

  /// False where a number is not held exactly.
  bool Run(int64_t panel, std::vector<int32_t>& outliers) const {
    bool exact = true;
    std::array<int, kBf12Rows> least;
    for (int64_t r = 0; r < kBf12Rows; ++r) {
      const int64_t n = panel * kBf12Rows + r;
      std::array<int64_t, kExponents> counts{};
      for (int64_t k = 0; k < matrix_.columns; ++k) {
        ++counts[static_cast<size_t>(ExponentOf(Number(n, k)))];
      }
      least[static_cast<size_t>(r)] = LeastExponent(counts);
      target_.scales[n] = ScaleOf(least[static_cast<size_t>(r)]);
    }
    uint32_t* words = target_.words + panel * kBf12Rows * matrix_.columns / kBf12Block * kBf12Words;
    for (int64_t k = 0; k < matrix_.columns; k += kBf12Block) {
      const size_t before = outliers.size();
      for (int64_t r = 0; r < kBf12Rows; ++r) {
        exact = Block(panel * kBf12Rows + r, k, least[static_cast<size_t>(r)], words, outliers) &&
                exact;
        words += kBf12Words;
      }
      SortPairs(outliers, before);
    }
    return exact;
  }

 private:
  uint16_t Number(int64_t n, int64_t k) const {
    uint16_t bits;
    const auto* bytes = static_cast<const unsigned char*>(matrix_.data);
    std::memcpy(&bits, bytes + (n * matrix_.row_stride + k) * int64_t{2}, sizeof(bits));
    return bits;
  }

  bool Block(int64_t n, int64_t k, int least, uint32_t* words,
             std::vector<int32_t>& outliers) const {
    bool exact = true;
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      uint32_t fields[8];
      for (int64_t field = 0; field < 8; ++field) {
        const int64_t input = k + InputOf(lane, field);
        const uint16_t bits = Number(n, input);
        const int code = ExponentOf(bits) - least;
        if (code >= 0 && code < kWindow) {
          fields[field] =
              (bits >> 15 & 1u) << 11 | static_cast<uint32_t>(code) << 7 | (bits & 127u);
          continue;
        }
        fields[field] = 0;
        const float value = FromBfloat16(bits);
        const float packed = std::ldexp(value, kPackedExponent - least);
        const float back = packed * ScaleOf(least);
        exact = exact && BitsOf(back) == BitsOf(value);
        outliers.push_back(static_cast<int32_t>(input * kBf12Rows + n % kBf12Rows));
        outliers.push_back(static_cast<int32_t>(BitsOf(packed)));
      }
      PutFields(fields, words + lane, kLanes);
    }
    return exact;
  }

  /// The pairs from `begin` on by their places.
  static void SortPairs(std::vector<int32_t>& outliers, size_t begin) {
    if (outliers.size() - begin <= kOutlierWords) return;
    std::vector<std::pair<int32_t, int32_t>> pairs;
    for (size_t i = begin; i < outliers.size(); i += kOutlierWords) {
      pairs.emplace_back(outliers[i], outliers[i + 1]);
    }
    std::sort(pairs.begin(), pairs.end());
    for (const auto& [place, value] : pairs) {
      outliers[begin++] = place;
      outliers[begin++] = value;
    }
  }

  const StoredMatrix& matrix_;
  const Bf12Target& target_;
};

}  // namespace

bool FitsBf12(int64_t rows, int64_t columns) {
  // An outlier's place is a number of 31 bits, and so is where the last ones of all end.
  constexpr int64_t kMost = int64_t{1} << 35;
  return rows > 0 && columns > 0 && rows % kBf12Rows == 0 && columns % kBf12Block == 0 &&
         columns < int64_t{1} << 29 && rows <= kMost / columns;
}

std::optional<std::vector<int32_t>> PackBf12(const StoredMatrix& matrix, const Bf12Target& target,
                                             const Context& context) {
  const int64_t panels = matrix.rows / kBf12Rows;
  const Packer packer(matrix, target);
  std::vector<std::vector<int32_t>> found(static_cast<size_t>(panels));
  std::vector<char> exact(static_cast<size_t>(panels));
  context.pool.ParallelFor(panels, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t panel = begin; panel < end; ++panel) {
      const auto place = static_cast<size_t>(panel);
      exact[place] = packer.Run(panel, found[place]) ? 1 : 0;
    }
  });
  if (std::count(exact.begin(), exact.end(), 1) != panels) return std::nullopt;
  std::vector<int32_t> outliers;
  int64_t words = panels + 1;
  for (const std::vector<int32_t>& one : found) {
    outliers.push_back(static_cast<int32_t>(words));
    words += static_cast<int64_t>(one.size());
  }
  outliers.push_back(static_cast<int32_t>(words));
  const int64_t count = (words - panels - 1) / kOutlierWords;
  if (count > matrix.rows * matrix.columns / kBf12OutlierShare) return std::nullopt;
  for (const std::vector<int32_t>& one : found) {
    outliers.insert(outliers.end(), one.begin(), one.end());
  }
  return outliers;
}

void UnpackBf12(const Bf12Matrix& matrix, uint16_t* out) {
  const int64_t blocks = matrix.columns / kBf12Block;
  const uint32_t* words = matrix.words;
  for (int64_t n = 0; n < matrix.rows; n += kBf12Rows) {
    for (int64_t block = 0; block < blocks; ++block) {
      for (int64_t r = 0; r < kBf12Rows; ++r) {
        const auto least =
            static_cast<uint32_t>(std::ilogb(matrix.scales[n + r]) + kPackedExponent);
        uint16_t* row = out + (n + r) * matrix.columns + block * kBf12Block;
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          uint32_t fields[8];
          GetFields(words + lane, kLanes, fields);
          for (int64_t field = 0; field < 8; ++field) {
            const uint32_t bits = fields[field];
            row[InputOf(lane, field)] =
                static_cast<uint16_t>((bits & 0x800u) << 4 | ((least << 7) + (bits & 0x7ffu)));
          }
        }
        words += kBf12Words;
      }
    }
    const int64_t panel = n / kBf12Rows;
    for (int32_t i = matrix.outliers[panel]; i < matrix.outliers[panel + 1]; i += kOutlierWords) {
      const int64_t place = matrix.outliers[i];
      const int64_t row = n + place % kBf12Rows;
      const float value =
          FromBits(static_cast<uint32_t>(matrix.outliers[i + 1])) * matrix.scales[row];
      out[row * matrix.columns + place / kBf12Rows] = static_cast<uint16_t>(BitsOf(value) >> 16);
    }
  }
}

}  // namespace xcomposer::cpu
