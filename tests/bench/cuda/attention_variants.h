#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "bench/cuda/decoder.h"
#include "bench/cuda/device_memory.h"
#include "bench/cuda/figures.h"
#include "kernels/cuda/attention_prefill.h"

namespace xcomposer::cuda {

/// variant.attention.causal.ROWS.TILING and variant.attention.views.VIEWSxROWS.TILING: prefill
/// attention alone, of a layer, in every tiling that the device has. Keys and values of each layer
/// in turn where causal; heads of 64 numbers, as the vision tower has them, where not.
class AttentionVariants {
 public:
  AttentionVariants(const DecoderShape& shape, Figures& figures, GpuTimer& timer,
                    DeviceMemory::Fill fill)
      : shape_(shape), figures_(figures), timer_(timer), fill_(std::move(fill)) {}

  void Measure();

 private:
  void MeasureCausal(int64_t rows);
  void MeasureViews(int64_t views, int64_t rows);
  /// `layer(l, tiling)` for each layer, once for every tiling.
  void Give(const std::string& name, double flops, int64_t head_dim,
            const std::function<void(int64_t, PrefillTiling)>& layer);

  const DecoderShape& shape_;
  Figures& figures_;
  GpuTimer& timer_;
  DeviceMemory::Fill fill_;
};

}  // namespace xcomposer::cuda
