#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "batch/executor.h"
#include "transport/transport.h"
#include "workers/step.h"

namespace xcomposer {

/// Steps as rank 0 describes them to the others: all of the batch but its token ids, which only the
/// first stage reads. Little-endian, every count before what it counts:
///
///     rows u32, flags u8 (1: scores of all rows)
///     sequences u32, each: rows u32, position u32, rope base f64, adapter u8, flags u8 (1: wants
///                    scores, 2: a choice follows), blocks u32, each i32, then the choice: penalty,
///                    temperature and dropped mass f32, top_k u64, seed u64, step u64, flags u8 (1:
///                    draws), seen ids u32, each u32
///     picture spans u32, each: first row u32, rows u32
///     block copies u32, each: from u32, to u32
///     tap names u32, each: length u32, text
Payload EncodeStep(const Step& step);

/// What a step may hold, from the limits of the executor.
struct StepLimits {
  int64_t rows = 0;
  int64_t blocks = 0;
  int64_t block_size = 0;
  int64_t vocab = 0;
};

/// Reads and checks such a description from outside: all that a stage relies on when it indexes its
/// memory. Throws kTransport naming what is wrong; nothing larger than the limits is ever
/// allocated.
Step DecodeStep(uint64_t number, std::span<const std::byte> bytes, const StepLimits& limits);

/// An intermediate tensor of a step: type u8 (0: float32, 1: bytes), dimensions u32, each u64, name
/// (length u32, text), values.
Payload EncodeTap(const Tap& tap);
Tap DecodeTap(std::span<const std::byte> bytes);

}  // namespace xcomposer
