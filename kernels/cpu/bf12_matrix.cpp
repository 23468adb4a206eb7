#include "kernels/cpu/bf12_matrix.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <sstream>

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

/// Eight numbers of twelve bits out of three words: the inverse of what Packer::Block writes.
void GetFields(const uint32_t* words, int64_t stride, uint32_t (&fields)[8]) {
  for (int i = 0; i < 3; ++i) {
    fields[2 * i] = words[i * stride] >> 20;
    fields[2 * i + 1] = words[i * stride] >> 8 & 0xfffu;
  }
  const uint32_t middle = words[stride] & 255u;
  fields[6] = (words[0] & 255u) << 4 | middle >> 4;
  fields[7] = (words[2 * stride] & 255u) << 4 | (middle & 15u);
}

/// The inverse of ScaleOf, for powers of two.
int LeastOf(float scale) {
  return static_cast<int>(BitsOf(scale) >> 23 & 255) - 127 + kPackedExponent;
}

/// Of a row whose least exponent LeastExponent gave.
bool IsScale(float scale) {
  const int least = LeastOf(scale);
  return (BitsOf(scale) & 0x807fffffu) == 0 && least >= 1 && least < kExponents - kWindow;
}

/// The number that the pair at `i` of a panel's outliers stands for.
float OutlierOf(const Bf12Matrix& matrix, int64_t panel, int64_t i) {
  const int64_t row = panel * kBf12Rows + matrix.outliers[i] % kBf12Rows;
  return FromBits(static_cast<uint32_t>(matrix.outliers[i + 1])) * matrix.scales[row];
}

/// Whether it is a bfloat16 that its row's window does not hold, written as PackBf12 does.
bool IsOutlier(const Bf12Matrix& matrix, int64_t panel, int64_t i) {
  const int64_t row = panel * kBf12Rows + matrix.outliers[i] % kBf12Rows;
  const int least = LeastOf(matrix.scales[row]);
  const float value = OutlierOf(matrix, panel, i);
  const uint32_t bits = BitsOf(value);
  const int code = ExponentOf(static_cast<uint16_t>(bits >> 16)) - least;
  const bool is_inside = code >= 0 && code < kWindow;
  return (bits & 0xffffu) == 0 && !is_inside &&
         BitsOf(std::ldexp(value, kPackedExponent - least)) ==
             static_cast<uint32_t>(matrix.outliers[i + 1]);
}

template <typename... Parts>
std::string Text(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

constexpr int64_t kLanes = 16;

/// Input of a block that field `field` of lane `lane` holds: neighbours share a lane, as in the
/// words of a bfloat16 matrix.
int64_t InputOf(int64_t lane, int64_t field) { return field / 2 * 32 + 2 * lane + field % 2; }

/// Four rows of the matrix at a time.
class Packer {
 public:
  Packer(const StoredMatrix& matrix, const Bf12Target& target) : matrix_(matrix), target_(target) {}

  /// Adds to `outliers`. False where a number is not held exactly.
  bool Run(int64_t panel, std::vector<int32_t>& outliers) const {
    bool exact = true;
    int least[kBf12Rows];
    for (int64_t r = 0; r < kBf12Rows; ++r) {
      const int64_t n = panel * kBf12Rows + r;
      least[r] = LeastExponent(CountExponents(Row(n), matrix_.columns));
      target_.scales[n] = ScaleOf(least[r]);
    }
    uint32_t* words = target_.words + panel * kBf12Rows * matrix_.columns / kBf12Block * kBf12Words;
    std::vector<Outlier> found;
    for (int64_t k = 0; k < matrix_.columns; k += kBf12Block) {
      for (int64_t r = 0; r < kBf12Rows; ++r) {
        Numbers numbers;
        std::memcpy(numbers, Row(panel * kBf12Rows + r) + 2 * k, sizeof(numbers));
        if (!Block(numbers, least[r], words)) {
          exact = FindOutliers(numbers, least[r], k, r, found) && exact;
        }
        words += kBf12Words;
      }
      std::ranges::sort(found, {}, &Outlier::place);
      for (const Outlier& one : found) {
        outliers.push_back(one.place);
        outliers.push_back(static_cast<int32_t>(one.bits));
      }
      found.clear();
    }
    return exact;
  }

 private:
  using Numbers = uint16_t[kBf12Block];
  struct Outlier {
    int32_t place;
    uint32_t bits;
  };

  const unsigned char* Row(int64_t n) const {
    return static_cast<const unsigned char*>(matrix_.data) + 2 * n * matrix_.row_stride;
  }

  static std::array<int64_t, kExponents> CountExponents(const unsigned char* row, int64_t count) {
    // Neighbours often have the same exponent; with a table for each they do not wait for each
    // other.
    std::array<std::array<int32_t, kExponents>, 4> tables{};
    for (int64_t k = 0; k < count; k += 4) {  // whole blocks
      uint16_t numbers[4];
      std::memcpy(numbers, row + 2 * k, sizeof(numbers));
      for (size_t i = 0; i < 4; ++i) ++tables[i][static_cast<size_t>(ExponentOf(numbers[i]))];
    }
    std::array<int64_t, kExponents> counts{};
    for (const auto& table : tables) {
      for (size_t e = 0; e < kExponents; ++e) counts[e] += table[e];
    }
    return counts;
  }

  /// Whether all numbers fit. The fields of those that do not are of no use.
  static bool Block(const Numbers& numbers, int least, uint32_t* words) {
    const auto lowest = static_cast<uint16_t>(least << 7);
    uint16_t fields[kBf12Block];
    uint16_t above = 0;  // bits of an exponent that four do not hold
    for (int64_t i = 0; i < kBf12Block; ++i) {
      const auto number = static_cast<uint16_t>((numbers[i] & 0x7fffu) - lowest);
      above = static_cast<uint16_t>(above | number);
      fields[i] = static_cast<uint16_t>((numbers[i] >> 4 & 0x800u) | (number & 0x7ffu));
    }
    const auto field = [&fields](int64_t lane, int64_t i) -> uint32_t {
      return fields[InputOf(lane, i)];
    };
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const uint32_t seventh = field(lane, 6);
      const uint32_t eighth = field(lane, 7);
      words[lane] = field(lane, 0) << 20 | field(lane, 1) << 8 | seventh >> 4;
      words[kLanes + lane] =
          field(lane, 2) << 20 | field(lane, 3) << 8 | (seventh & 15u) << 4 | (eighth & 15u);
      words[2 * kLanes + lane] = field(lane, 4) << 20 | field(lane, 5) << 8 | eighth >> 4;
    }
    return above < 1u << 11;
  }

  /// Of a row's block that begins with input k. False where one is not held exactly.
  static bool FindOutliers(const Numbers& numbers, int least, int64_t k, int64_t row,
                           std::vector<Outlier>& found) {
    bool exact = true;
    for (int64_t i = 0; i < kBf12Block; ++i) {
      const int code = ExponentOf(numbers[i]) - least;
      if (code >= 0 && code < kWindow) continue;
      const float value = FromBfloat16(numbers[i]);
      const float packed = std::ldexp(value, kPackedExponent - least);
      exact = exact && BitsOf(packed * ScaleOf(least)) == BitsOf(value);
      found.push_back({static_cast<int32_t>((k + i) * kBf12Rows + row), BitsOf(packed)});
    }
    return exact;
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
  const int64_t most = matrix.rows * matrix.columns / kBf12OutlierShare;
  std::atomic<int64_t> count{0};
  std::atomic<bool> exact{true};
  context.pool.ParallelFor(panels, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t panel = begin; panel < end && exact && count <= most; ++panel) {
      std::vector<int32_t>& outliers = found[static_cast<size_t>(panel)];
      if (!packer.Run(panel, outliers)) exact = false;
      count += static_cast<int64_t>(outliers.size()) / kOutlierWords;
    }
  });
  if (!exact || count > most) return std::nullopt;
  std::vector<int32_t> outliers;
  int64_t words = panels + 1;
  for (const std::vector<int32_t>& one : found) {
    outliers.push_back(static_cast<int32_t>(words));
    words += static_cast<int64_t>(one.size());
  }
  outliers.push_back(static_cast<int32_t>(words));
  for (const std::vector<int32_t>& one : found) {
    outliers.insert(outliers.end(), one.begin(), one.end());
  }
  return outliers;
}

void UnpackBf12(const Bf12Matrix& matrix, int64_t first, int64_t rows, uint16_t* out) {
  const int64_t blocks = matrix.columns / kBf12Block;
  const uint32_t* words = matrix.words + first * blocks * kBf12Words;
  for (int64_t n = first; n < first + rows; n += kBf12Rows) {
    for (int64_t block = 0; block < blocks; ++block) {
      for (int64_t r = 0; r < kBf12Rows; ++r) {
        const auto least = static_cast<uint32_t>(LeastOf(matrix.scales[n + r]));
        uint16_t* row = out + (n - first + r) * matrix.columns + block * kBf12Block;
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
      out[(n - first + place % kBf12Rows) * matrix.columns + place / kBf12Rows] =
          static_cast<uint16_t>(BitsOf(OutlierOf(matrix, panel, i)) >> 16);
    }
  }
}

std::string Bf12Fault(const Bf12Matrix& matrix, int64_t outlier_words) {
  for (int64_t n = 0; n < matrix.rows; ++n) {
    if (IsScale(matrix.scales[n])) continue;
    return Text("the scale of row ", n, " is ", matrix.scales[n], ", no power of two that ",
                "bfloat16's exponents allow");
  }
  const int64_t panels = matrix.rows / kBf12Rows;
  if (outlier_words < panels + 1 || matrix.outliers[0] != panels + 1) {
    return Text("the outliers do not begin after their ", panels + 1, " places");
  }
  for (int64_t panel = 0; panel < panels; ++panel) {
    const int64_t begin = matrix.outliers[panel];
    const int64_t end = matrix.outliers[panel + 1];
    if (end < begin || (end - begin) % kOutlierWords != 0 || end > outlier_words) {
      return Text("the outliers of rows ", panel * kBf12Rows, " to ", (panel + 1) * kBf12Rows - 1,
                  " lie from ", begin, " to ", end, " of ", outlier_words, " words");
    }
    int64_t last = -1;
    for (int64_t i = begin; i < end; i += kOutlierWords) {
      const int64_t place = matrix.outliers[i];
      if (place <= last || place >= matrix.columns * kBf12Rows) {
        return Text("an outlier of rows ", panel * kBf12Rows, " to ", (panel + 1) * kBf12Rows - 1,
                    " has the place ", place, " after ", last, " of ", matrix.columns * kBf12Rows);
      }
      last = place;
      if (IsOutlier(matrix, panel, i)) continue;
      return Text("the outlier at place ", place, " of rows ", panel * kBf12Rows, " to ",
                  (panel + 1) * kBf12Rows - 1, " is ", OutlierOf(matrix, panel, i),
                  ", which is no bfloat16 that has to be one");
    }
  }
  const int64_t count = (matrix.outliers[panels] - panels - 1) / kOutlierWords;
  const int64_t most = matrix.rows * matrix.columns / kBf12OutlierShare;
  if (count > most) return Text("it has ", count, " outliers, at most ", most, " are packed");
  return "";
}

}  // namespace xcomposer::cpu
