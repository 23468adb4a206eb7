#include "kernels/cpu/linear_panels.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <vector>

#include "kernels/cpu/linear_packed.h"
#include "kernels/cpu/simd_portable.h"

// What a product of panels asks memory for before it needs it.
namespace xcomposer::cpu {
namespace {

constexpr int64_t kLine = 64;

/// Portable, which keeps every address that is asked for.
struct Recorder : Portable {
  static inline std::vector<const char*> asked;

  static void Prefetch(const void* p) { asked.push_back(static_cast<const char*>(p)); }
};

/// Runs a block of `rows` rows of x with all outputs of the weight; which of its lines were asked
/// for, and how often each. Nothing outside of its `bytes` may be.
template <typename Weight>
std::map<int64_t, int> LinesAskedFor(LinearKernelArgs args, int64_t rows, int64_t bytes) {
  constexpr int64_t kColumns = kPanelColumns<Recorder>;
  const auto numbers = [](int64_t count) { return std::vector<float>(static_cast<size_t>(count)); };
  args.rows = rows;
  args.packed_rows = (rows + Recorder::kRows - 1) / Recorder::kRows * Recorder::kRows;
  std::vector<float> packed_x = numbers(args.packed_rows * args.depth);
  std::vector<float> y = numbers(rows * args.outputs);
  std::vector<float> memory = numbers(
      kDepth * kColumns + args.packed_rows * (args.outputs + kColumns - 1) / kColumns * kColumns);
  args.packed_x = packed_x.data();
  args.y = y.data();
  args.y_stride = args.outputs;
  Recorder::asked.clear();
  LinearPanels<Recorder, Weight>(args, {0, rows, 0, args.outputs}, memory.data());
  std::map<int64_t, int> lines;
  for (const char* place : Recorder::asked) {
    const int64_t byte = place - static_cast<const char*>(args.weight);
    EXPECT_TRUE(byte >= 0 && byte < bytes) << byte;
    ++lines[byte / kLine];
  }
  return lines;
}

/// Memory for a weight, beginning with a line.
class Lines {
 public:
  explicit Lines(int64_t bytes) : memory_(static_cast<size_t>(bytes + kLine)) {}
  void* data() {
    const auto place = reinterpret_cast<uintptr_t>(memory_.data());
    return memory_.data() + (kLine - place % kLine) % kLine;
  }

 private:
  std::vector<char> memory_;
};

TEST(LinesAheadTest, AreAllOfADenseWeightButTheFirstPiece) {
  constexpr int64_t kOutputs = 20;  // two and a half panels of portable kernels
  constexpr int64_t kInputs = 480;  // two and a half pieces, 15 lines
  constexpr int64_t kBytes = 2 * kOutputs * kInputs;
  Lines weight(kBytes);
  std::map<int64_t, int> expected;
  for (int64_t n = 0; n < kOutputs; ++n) {
    for (int64_t k = 0; k < kInputs; k += kLine / 2) {
      const bool first = n < kPanelColumns<Recorder> && k < kDepth;
      if (!first) expected[(n * kInputs + k) * 2 / kLine] = 1;
    }
  }
  const LinearKernelArgs args{
      .depth = kInputs, .weight = weight.data(), .weight_stride = kInputs, .outputs = kOutputs};
  using Weight = DenseWeight<Recorder, Format::kBfloat16>;
  for (const int64_t rows : {1, 4, 17, 100}) {
    EXPECT_EQ(LinesAskedFor<Weight>(args, rows, kBytes), expected) << rows << " rows";
  }
}

/// A panel has 8 outputs; a line holds words of 16 outputs (GPTQ), or 128 outputs of one input
/// (AWQ), and each panel asks for its part.
TEST(LinesAheadTest, AreThoseOfOfficialPackings) {
  constexpr int64_t kOutputs = 128;
  constexpr int64_t kInputs = 448;
  constexpr int64_t kGroups = kInputs / 64;
  Lines words(kInputs * kOutputs);
  const std::vector<uint32_t> zeros(kGroups * kOutputs / 4);
  const std::vector<uint16_t> scales(kGroups * kOutputs);
  const LinearKernelArgs args{.depth = kInputs,
                              .weight = words.data(),
                              .outputs = kOutputs,
                              .zeros = zeros.data(),
                              .scales = scales.data(),
                              .group = 64};
  const auto expect = [&](const std::map<int64_t, int>& lines, int64_t bytes, int panels_of_line) {
    EXPECT_EQ(static_cast<int64_t>(lines.size()), bytes / kLine);
    int fewer = 0;  // lines of the first piece, which nobody asks for
    for (const auto& [line, times] : lines) {
      EXPECT_TRUE(times == panels_of_line || times == panels_of_line - 1) << "line " << line;
      fewer += times == panels_of_line ? 0 : 1;
    }
    EXPECT_EQ(fewer, kDepth * 8 * bytes / (kInputs * kOutputs) / (kLine / panels_of_line));
  };
  expect(LinesAskedFor<PackedWeight<Recorder, Packing::kGptq4>>(args, 17, kInputs * kOutputs / 2),
         kInputs * kOutputs / 2, 2);
  expect(LinesAskedFor<PackedWeight<Recorder, Packing::kGptq8>>(args, 17, kInputs * kOutputs),
         kInputs * kOutputs, 2);
  expect(LinesAskedFor<PackedWeight<Recorder, Packing::kAwq4>>(args, 17, kInputs * kOutputs / 2),
         kInputs * kOutputs / 2, 16);
}

}  // namespace
}  // namespace xcomposer::cpu
