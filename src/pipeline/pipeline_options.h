#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "config/quantization.h"
#include "kernels/cpu/activations.h"
#include "model/kv_cache.h"
#include "pipeline/checkpoint_weights.h"
#include "pipeline/load_times.h"
#include "pipeline/stage_memory.h"
#include "pipeline/storage_cast.h"
#include "transport/nccl_api.h"
#include "transport/transport.h"

namespace xcomposer {

struct PipelineOptions {
  int threads = 0;  ///< of the CPU stages of a process; 0: as many as it may use
  KvShape kv = {.blocks = 256, .block_size = 32};
  bool int8_kv = false;                                       ///< keys and values in int8; CPU only
  cpu::Activations activations = cpu::Activations::kFloat32;  ///< of CPU stages
  int64_t max_batch_rows = 512;
  WeightStorage storage = WeightStorage::kAsStored;
  Quantization quantise;   ///< linears and output matrix while loading; own, or none
  bool pack_bf12 = false;  ///< the same in 12 bits, exactly; CPU only, not with `quantise`
  std::function<void(const LoadStep&)> progress;

  /// Bytes that the plan gave each stage of the map; empty where there is no plan. A GPU's stage
  /// takes no more.
  std::vector<int64_t> budgets;

  /// To the other ranks of the run; none: all stages are in this process.
  std::shared_ptr<Transport> transport;
  std::vector<int> rank_of_stage;  ///< by stage; used with a transport

  /// What carries rows between GPUs of several ranks; empty: SystemNccl.
  std::function<std::optional<NcclApi>()> nccl;

  /// Receives what loading took; none: nobody wants to know.
  std::shared_ptr<LoadTimes> times;

  /// Receives one entry per stage of this process; none: nobody wants to know.
  std::shared_ptr<StageMemoryBook> memory;
};

}  // namespace xcomposer
