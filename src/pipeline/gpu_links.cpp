#include "pipeline/gpu_links.h"

#include <c10/core/InferenceMode.h>

#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "pipeline/gpu_port.h"
#include "pipeline/torch_errors.h"
#include "transport/setup_frames.h"
#include "workers/nccl_row_link.h"

namespace xcomposer {
namespace {

// NCCL starts threads and opens connections of its own; where these cannot be opened it tries for
// ever.
constexpr std::chrono::minutes kConnecting{2};
constexpr ExpectedSetup kGpu = {SetupKind::kGpu, 512, "the name of its GPU"};

/// One end of the way between two ranks.
struct WayEnd {
  int peer = 0;
  int stage = 0;  ///< here
  NcclOptions::End end = NcclOptions::End::kSends;
  StageDevice* device = nullptr;
};

/// Tells the other end where rows lie here; whether NCCL can carry them.
bool BothHaveGpus(Transport& transport, const WayEnd& way, const std::string& own,
                  TimePoint until) {
  SendSetup(transport, way.peer, SetupKind::kGpu, Payload::Of(own));
  const Payload sent = ReceiveSetup(transport, way.peer, kGpu, until);
  const std::string other(reinterpret_cast<const char*>(sent.data), static_cast<size_t>(sent.size));
  if (own.empty() || other.empty()) return false;
  if (own != other) return true;
  log::Info("rows between this rank and rank ", way.peer,
            " go through the host's memory: both use ", own, ", and NCCL takes a GPU once");
  return false;
}

std::shared_ptr<RowLink> Connect(const PipelineOptions& options, const WayEnd& way,
                                 TimePoint until) {
  Transport& transport = *options.transport;
  const std::optional<NcclApi> nccl = options.nccl ? options.nccl() : SystemNccl();
  const std::shared_ptr<GpuPort> port = nccl ? way.device->OpenPort() : nullptr;
  if (!BothHaveGpus(transport, way, port ? port->gpu() : "", until)) return nullptr;

  const auto use = port->Enter();
  auto link = std::make_unique<NcclLink>(
      *nccl, transport,
      NcclOptions{
          .peer = way.peer, .end = way.end, .stream = port->stream(), .scratch = port->scratch()},
      until);
  log::Info("rows between this rank and rank ", way.peer, " go from GPU to GPU (NCCL)");
  NcclRowLink::Options rows;
  rows.stage = static_cast<uint32_t>(way.stage);
  rows.follow = [port](const Payload& payload) {
    const c10::InferenceMode inference;
    const auto using_it = port->Enter();
    const DeviceRows& given = DeviceRowsIn(payload);
    given.wait(given.rows);
  };
  rows.allocate = [port](int64_t bytes) {
    const c10::InferenceMode inference;
    const auto using_it = port->Enter();
    return Translated("receiving rows", [&] { return OnDevice(port->Allocate(bytes)); });
  };
  rows.memory = port;
  return std::make_shared<NcclRowLink>(std::move(link), std::move(rows));
}

}  // namespace

RowLinks ConnectGpus(const PipelineOptions& options, const StageLayout& layout, StageDevice& first,
                     StageDevice& last) {
  const TimePoint until = std::chrono::steady_clock::now() + kConnecting;
  const int rank = options.transport->rank();
  const int first_stage = layout.first_stage(rank);
  const int end_stage = layout.end_stage(rank);
  RowLinks links;
  const auto from_previous = [&] {
    if (first_stage == 0) return;
    links.from_previous = Connect(options,
                                  {.peer = layout.rank_of(first_stage - 1),
                                   .stage = first_stage,
                                   .end = NcclOptions::End::kReceives,
                                   .device = &first},
                                  until);
  };
  const auto to_next = [&] {
    if (end_stage == layout.stages()) return;
    links.to_next = Connect(options,
                            {.peer = layout.rank_of(end_stage),
                             .stage = end_stage - 1,
                             .end = NcclOptions::End::kSends,
                             .device = &last},
                            until);
  };
  // Every second way first, so that ranks do not wait for each other in a row.
  const bool next_first = layout.position(rank) % 2 == 0;
  if (next_first) to_next();
  from_previous();
  if (!next_first) to_next();
  return links;
}

}  // namespace xcomposer
