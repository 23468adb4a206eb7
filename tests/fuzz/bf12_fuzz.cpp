// Matrices in 12 bits a number, as a file may hold them.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "kernels/cpu/bf12_matrix.h"
#include "kernels/cpu/thread_pool.h"

namespace {

using namespace xcomposer::cpu;

void Promise(bool holds) {
  if (!holds) std::abort();
}

/// Takes numbers off the front of the input; zeros behind its end.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), left_(size) {}

  uint8_t Byte() {
    if (left_ == 0) return 0;
    --left_;
    return *data_++;
  }
  template <typename Number>
  std::vector<Number> Take(int64_t count) {
    std::vector<Number> numbers(static_cast<size_t>(count));
    const size_t bytes = std::min(left_, numbers.size() * sizeof(Number));
    if (bytes > 0) std::memcpy(numbers.data(), data_, bytes);
    data_ += bytes;
    left_ -= bytes;
    return numbers;
  }

 private:
  const uint8_t* data_;
  size_t left_;
};

}  // namespace

// What has no fault can be unpacked, and what comes of it can be packed into the same numbers.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const int64_t rows = kBf12Rows * (1 + input.Byte() % 3);
  const int64_t columns = kBf12Block * (1 + input.Byte() % 3);
  const int64_t outlier_words = input.Byte() % 64;
  std::vector<float> scales(static_cast<size_t>(rows), 1.0f);
  if (input.Byte() % 4 == 0) {
    scales = input.Take<float>(rows);
  } else {
    for (float& scale : scales) {
      const uint32_t bits = uint32_t{input.Byte()} << 23;
      std::memcpy(&scale, &bits, sizeof(scale));
    }
  }
  // On the heap and not larger than said, for the address sanitizer.
  const auto outliers = input.Take<int32_t>(outlier_words);
  const auto words = input.Take<uint32_t>(rows * columns / kBf12Block * kBf12Words);
  const Bf12Matrix matrix{.words = words.data(),
                          .scales = scales.data(),
                          .outliers = outliers.data(),
                          .rows = rows,
                          .columns = columns};
  if (!Bf12Fault(matrix, outlier_words).empty()) return 0;
  std::vector<uint16_t> numbers(static_cast<size_t>(rows * columns));
  UnpackBf12(matrix, 0, rows, numbers.data());

  static ThreadPool pool(1);
  std::vector<uint32_t> again(words.size());
  std::vector<float> scales_again(scales.size());
  const StoredMatrix dense{.data = numbers.data(),
                           .format = Format::kBfloat16,
                           .rows = rows,
                           .columns = columns,
                           .row_stride = columns};
  const std::optional<std::vector<int32_t>> found =
      PackBf12(dense, {.words = again.data(), .scales = scales_again.data()},
               {.pool = pool, .isa = Isa::kPortable});
  if (!found) return 0;
  const Bf12Matrix packed{.words = again.data(),
                          .scales = scales_again.data(),
                          .outliers = found->data(),
                          .rows = rows,
                          .columns = columns};
  Promise(Bf12Fault(packed, static_cast<int64_t>(found->size())).empty());
  std::vector<uint16_t> back(numbers.size());
  for (int64_t first = 0; first < rows; first += kBf12Rows) {
    UnpackBf12(packed, first, kBf12Rows, back.data() + first * columns);
  }
  Promise(back == numbers);
  return 0;
}
