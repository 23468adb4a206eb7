#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/weight_matrix.h"
#include "kernels_cuda/device.h"

namespace xcomposer::cuda {

/// Throws with the name of what was asked of the device.
inline void Require(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + " failed with CUDA error " +
                           std::to_string(static_cast<int>(status)));
}

/// Memory that lives as long as this, on a GPU or under the emulator.
class DeviceMemory {
 public:
  /// Writes `count` random numbers as they are stored.
  using Fill = std::function<void(DeviceBytes& to, int64_t count, float mean, float deviation)>;

  explicit DeviceMemory(Fill fill) : fill_(std::move(fill)) {}

  /// Stored numbers that no kernel writes.
  const void* Weight(int64_t count, float mean, float deviation) {
    DeviceBytes& bytes = Take(count * 2, Role::kConstant);
    fill_(bytes, count, mean, deviation);
    return bytes.data();
  }
  /// A dense matrix whose products are of the size of what they multiply.
  WeightMatrix Matrix(int64_t rows, int64_t columns, float deviation) {
    return {Weight(rows * columns, 0.0f, deviation), WeightMatrix::Storage::kFloat16, rows, columns,
            columns};
  }

  template <typename V>
  V* Variable(int64_t count) {
    return static_cast<V*>(Take(count * static_cast<int64_t>(sizeof(V)), Role::kVariable).data());
  }
  /// Activations, keys or values.
  void* Stored(int64_t count) { return Take(count * 2, Role::kVariable).data(); }
  /// The same, filled.
  void* RandomStored(int64_t count, float deviation) {
    DeviceBytes& bytes = Take(count * 2, Role::kVariable);
    fill_(bytes, count, 0.0f, deviation);
    return bytes.data();
  }
  template <typename V>
  V* Written(const std::vector<V>& host) {
    DeviceBytes& bytes = Take(static_cast<int64_t>(host.size() * sizeof(V)), Role::kVariable);
    bytes.Write(host.data(), host.size() * sizeof(V));
    return static_cast<V*>(bytes.data());
  }

  template <typename V>
  std::vector<V> Read(const V* data, int64_t count) const {
    const DeviceBytes& block = Find(data);
    const auto before = static_cast<size_t>(data - static_cast<const V*>(block.data()));
    std::vector<V> host(before + static_cast<size_t>(count));
    block.Read(host.data(), host.size() * sizeof(V));
    return {host.begin() + static_cast<int64_t>(before), host.end()};
  }

  int64_t bytes() const { return bytes_; }

 private:
  DeviceBytes& Take(int64_t bytes, Role role) {
    bytes_ += bytes;
    blocks_.push_back(std::make_unique<DeviceBytes>(static_cast<size_t>(bytes), role));
    return *blocks_.back();
  }
  const DeviceBytes& Find(const void* data) const {
    for (const auto& block : blocks_) {
      const auto* first = static_cast<const char*>(block->data());
      if (data >= first && data < first + block->size()) return *block;
    }
    throw std::logic_error("in no allocation");
  }

  Fill fill_;
  std::vector<std::unique_ptr<DeviceBytes>> blocks_;
  int64_t bytes_ = 0;
};

/// The place `numbers` stored numbers further on.
inline void* Behind(void* stored, int64_t numbers) {
  return static_cast<char*>(stored) + 2 * numbers;
}
inline const void* Behind(const void* stored, int64_t numbers) {
  return static_cast<const char*>(stored) + 2 * numbers;
}

}  // namespace xcomposer::cuda
