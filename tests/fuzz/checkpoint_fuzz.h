#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "checkpoint/dense_copy.h"
#include "checkpoint/limits.h"
#include "checkpoint/tensor_entry.h"
#include "xcomposer/error.h"

namespace xcomposer::fuzz {

/// Limits that an input of 64 KB can reach.
inline constexpr CheckpointLimits kLimits = {.max_header_bytes = 50'000,
                                             .max_index_bytes = 50'000,
                                             .max_pickle_bytes = 60'000,
                                             .max_pickle_values = 20'000,
                                             .max_pickle_stack = 10'000,
                                             .max_tensors = 500,
                                             .max_zip_entries = 500,
                                             .max_files = 100};

/// Stops the fuzzer with the input at hand unless `holds`.
inline void Promise(bool holds) {
  if (!holds) __builtin_trap();
}

/// Runs a parser over `size` bytes in an allocation of exactly that size. The only exception it may
/// throw is kCheckpoint, naming the file; any other one ends the fuzzer.
template <typename Parse>
int Run(const uint8_t* data, size_t size, const Parse& parse) {
  const std::vector<std::byte> copy(reinterpret_cast<const std::byte*>(data),
                                    reinterpret_cast<const std::byte*>(data) + size);
  try {
    parse(std::span<const std::byte>(copy));
  } catch (const Error& error) {
    Promise(error.kind() == ErrorKind::kCheckpoint && error.where().count("file") == 1);
  }
  return 0;
}

/// What every accepted file promises about its tensors: they lie inside the file, and reading them
/// yields as many bytes as their shape says.
inline void CheckTensors(const std::vector<TensorEntry>& tensors, std::span<const std::byte> file) {
  const auto size = static_cast<int64_t>(file.size());
  for (const TensorEntry& tensor : tensors) {
    Promise(!tensor.name.empty() && tensor.shape.size() == tensor.strides.size());
    Promise(tensor.offset >= 0 && tensor.byte_length >= 0);
    Promise(tensor.offset <= size && tensor.byte_length <= size - tensor.offset);
    int64_t read = 0;
    uint8_t sum = 0;
    ForEachDenseChunk(
        tensor,
        file.subspan(static_cast<size_t>(tensor.offset), static_cast<size_t>(tensor.byte_length)),
        [&](std::span<const std::byte> piece) {
          read += static_cast<int64_t>(piece.size());
          for (const std::byte byte : piece) sum ^= static_cast<uint8_t>(byte);
        });
    Promise(read == tensor.DenseBytes() && read <= size);
    // The sum is used, so that the reads stay.
    volatile uint8_t sink = sum;
    static_cast<void>(sink);
  }
}

}  // namespace xcomposer::fuzz
