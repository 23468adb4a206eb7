// What rank 0 tells the other ranks to run, and what they send back: whatever is accepted must be
// such that a stage can index its memory with it.
#include <cstdint>
#include <span>

#include "workers/stage_line.h"
#include "workers/step_coding.h"
#include "xcomposer/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace xcomposer;
  const auto bytes = std::as_bytes(std::span(data, size));
  const StepLimits limits{.rows = 64, .blocks = 32, .block_size = 4, .vocab = 16};
  try {
    const Step step = DecodeStep(1, bytes, limits);
    int64_t rows = 0;
    for (const SequenceSlice& slice : step.batch.sequences) {
      rows += slice.row_count;
      const auto end = static_cast<size_t>(slice.position + slice.row_count);
      if (slice.first_row + slice.row_count > step.batch.rows()) __builtin_trap();
      if (end > slice.block_table.size() * 4) __builtin_trap();
      for (const int32_t block : slice.block_table) {
        if (block < 0 || block >= limits.blocks) __builtin_trap();
      }
      if (!slice.choice) continue;
      if (!slice.choice->IsSound()) __builtin_trap();
      for (const int32_t id : slice.choice->seen) {
        if (id < 0 || id >= limits.vocab) __builtin_trap();
      }
    }
    if (rows != step.batch.rows() || rows > limits.rows) __builtin_trap();
    for (const FeatureSpan& span : step.batch.features) {
      if (span.first_row + span.row_count > rows) __builtin_trap();
    }
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kTransport) __builtin_trap();
  }
  try {
    const Tap tap = DecodeTap(bytes);
    int64_t count = 1;
    for (const int64_t extent : tap.shape) count *= extent;
    if (static_cast<int64_t>(tap.values.size() + tap.bytes.size()) != count) __builtin_trap();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kTransport) __builtin_trap();
  }
  return 0;
}
