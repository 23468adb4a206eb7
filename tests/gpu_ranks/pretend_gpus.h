#pragma once

#include "pipeline/stage_device.h"

/// GPUs that only say so: MakeCudaDevice and QueryRuntime of a machine with four, whose memory is
/// the host's and whose kernels are the CPU's. What a GPU would compute later is not there before
/// somebody has waited for it: rows that a stage gives on are NaN until then.
namespace xcomposer::pretend {

constexpr int kGpus = 4;

}  // namespace xcomposer::pretend
