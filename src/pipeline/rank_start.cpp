#include "pipeline/rank_start.h"

#include <algorithm>
#include <chrono>

#include "base/check.h"
#include "base/current_error.h"
#include "pipeline/stage_device.h"
#include "workers/control.h"

namespace xcomposer {
namespace {

// Loading may take long and the heartbeat tells who is lost, so that this only ends what cannot
// end.
constexpr std::chrono::hours kLongestLoad{24};

}  // namespace

void StartTogether(Transport& transport, const std::vector<int>& rank_of_stage,
                   const std::function<void()>& work) {
  try {
    work();
  } catch (...) {
    const Error here = CurrentError().With("rank", StrCat(transport.rank()));
    transport.Abort(here);
    throw Error(here);
  }
  const auto own = std::find(rank_of_stage.begin(), rank_of_stage.end(), transport.rank());
  const auto stage = own == rank_of_stage.end() ? 0 : own - rank_of_stage.begin();
  AgreeOnLeast(transport, {.value = 1, .stage = static_cast<int>(stage)},
               std::chrono::steady_clock::now() + kLongestLoad);
}

ExecutorLimits LimitsOf(const ModelConfig& config, const DeviceMap& map,
                        const PipelineOptions& options) {
  return {.vocab = config.vocab_size,
          .kv_blocks = options.kv.blocks,
          .block_size = options.kv.block_size,
          .max_batch_rows = options.max_batch_rows,
          .stages = static_cast<int64_t>(map.stages.size()),
          .chooses_ids = IsCuda(map.stages.back().device)};
}

}  // namespace xcomposer
