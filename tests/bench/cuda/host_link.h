#pragma once

#include <string>

#include "bench/cuda/figures.h"
#include "bench/cuda/gpu_timer.h"

namespace xcomposer::cuda {

/// Copies between the host and the card: pinned, pageable and registered memory, and a file from
/// the page cache by several readers. `scratch` takes the file.
void MeasureHostLink(Figures& figures, GpuTimer& timer, const std::string& scratch);

}  // namespace xcomposer::cuda
