#include "transport/nccl_links.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "transport/setup_kind.h"

namespace xcomposer {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::microseconds kPause{50};  // between two looks at something that goes on
constexpr auto kUniqueId = static_cast<uint16_t>(SetupKind::kUniqueId);

}  // namespace

NcclLinks::NcclLinks(NcclApi api, Transport& control, NcclOptions options, TimePoint until)
    : api_(std::move(api)), control_(control), options_(std::move(options)) {
  ExchangeId(until);
  try {
    Finish(api_.init(communicator_, control_.world_size(), id_, control_.rank()),
           "making the communicator", until);
    WarmUp(until);
  } catch (const Error&) {
    AbortCommunicator();  // no destructor will run
    throw;
  }
}

NcclLinks::~NcclLinks() {
  if (communicator_ == nullptr) return;
  try {
    const TimePoint until = steady_clock::now() + options_.abort_timeout;
    Finish(api_.finalize(communicator_), "ending the communicator", until);
    // What ends well is destroyed; Finish has aborted it otherwise.
    api_.destroy(std::exchange(communicator_, nullptr));
  } catch (const Error& error) {
    log::Debug("NCCL at the end of the run: ", error.what());
  }
}

void NcclLinks::ExchangeId(TimePoint until) {
  if (control_.rank() == 0) {
    Finish(api_.make_unique_id(id_), "drawing the unique id", until);
    FrameHeader header;
    header.channel = Channel::kSetup;
    header.kind = kUniqueId;
    header.payload_bytes = static_cast<int64_t>(id_.bytes.size());
    const std::string text(id_.bytes.data(), id_.bytes.size());
    for (int rank = 1; rank < control_.world_size(); ++rank) {
      control_.Send(rank, header, Payload::Of(text));
    }
    return;
  }
  const std::optional<Frame> frame = control_.Receive(0, Channel::kSetup, until);
  if (!frame) Break(Failure(ErrorKind::kDeadline, "rank 0 sent no unique id for NCCL in time"));
  const auto size = static_cast<int64_t>(id_.bytes.size());
  if (frame->header.kind != kUniqueId || frame->payload.size != size) {
    Break(Failure(ErrorKind::kTransport,
                  StrCat("rank 0 sent ", frame->payload.size, " bytes as NCCL's unique id")));
  }
  std::memcpy(id_.bytes.data(), frame->payload.data, id_.bytes.size());
}

void NcclLinks::WarmUp(TimePoint until) {
  // Every rank takes its pairs in one order of all pairs (lower rank, higher rank): no circle of
  // waits.
  std::vector<int> peers = options_.peers;
  std::sort(peers.begin(), peers.end());
  auto* scratch = static_cast<std::byte*>(options_.scratch);
  for (const int peer : peers) {
    Check(peer != control_.rank() && peer >= 0 && peer < control_.world_size(), "NCCL peer ", peer);
    peer_ = peer;
    Finish(api_.begin_group(), "beginning a group", until);
    Finish(api_.send(scratch, 8, peer, communicator_, options_.stream), "sending", until);
    Finish(api_.receive(scratch + 8, 8, peer, communicator_, options_.stream), "receiving", until);
    Finish(api_.end_group(), "ending a group", until);
    Wait(until);
  }
}

void NcclLinks::Send(int peer, const void* data, int64_t bytes, TimePoint until) {
  RequireUsable();
  Check(bytes >= 0, "NCCL sends ", bytes, " bytes");
  peer_ = peer;
  Finish(api_.send(data, static_cast<size_t>(bytes), peer, communicator_, options_.stream),
         "sending", until);
}

void NcclLinks::Receive(int peer, void* data, int64_t bytes, TimePoint until) {
  RequireUsable();
  Check(bytes >= 0, "NCCL receives ", bytes, " bytes");
  peer_ = peer;
  Finish(api_.receive(data, static_cast<size_t>(bytes), peer, communicator_, options_.stream),
         "receiving", until);
}

void NcclLinks::Wait(TimePoint until) {
  RequireUsable();
  while (true) {
    const NcclState stream = api_.query_stream(options_.stream);
    if (stream == NcclState::kDone) return;
    if (stream == NcclState::kFailed) {
      Break(Failure(ErrorKind::kDevice,
                    StrCat("the stream failed: ", api_.last_error(communicator_))));
    }
    // A transfer that failed never ends its kernel; only the communicator knows.
    if (api_.state(communicator_) == NcclState::kFailed) {
      Break(Failure(ErrorKind::kTransport,
                    StrCat("a transfer failed: ", api_.last_error(communicator_))));
    }
    if (const std::optional<Error> reason = control_.failure()) Break(*reason);
    if (steady_clock::now() >= until) {
      Break(Failure(ErrorKind::kDeadline, "a transfer did not end in time"));
    }
    std::this_thread::sleep_for(kPause);
  }
}

void NcclLinks::SetPlace(uint32_t stage, uint64_t step) {
  stage_ = stage;
  step_ = step;
}

void NcclLinks::Finish(NcclState state, const char* what, TimePoint until) {
  while (state == NcclState::kInProgress) {
    if (const std::optional<Error> reason = control_.failure()) Break(*reason);
    if (steady_clock::now() >= until) {
      Break(Failure(ErrorKind::kDeadline, StrCat(what, " did not end in time")));
    }
    std::this_thread::sleep_for(kPause);
    // Before there is a communicator nothing can go on in it.
    state = communicator_ == nullptr ? NcclState::kFailed : api_.state(communicator_);
  }
  if (state == NcclState::kDone) return;
  Break(Failure(ErrorKind::kTransport, StrCat(what, ": ", api_.last_error(communicator_))));
}

void NcclLinks::RequireUsable() const {
  if (condition_ == Condition::kUsable) return;
  const std::optional<Error> reason = control_.failure();
  throw reason ? Error(*reason) : Failure(ErrorKind::kTransport, "NCCL failed before");
}

void NcclLinks::Break(const Error& reason) {
  condition_ = Condition::kBroken;
  control_.Abort(reason);
  AbortCommunicator();
  // The run's first reason, which may be another rank's.
  throw Error(control_.failure().value_or(reason));
}

void NcclLinks::AbortCommunicator() {
  if (communicator_ == nullptr) return;
  DeadlineWorker worker;
  const TimePoint until = steady_clock::now() + options_.abort_timeout;
  const NcclCommunicator communicator = std::exchange(communicator_, nullptr);
  const bool ended = worker.Run([abort = api_.abort, communicator] { abort(communicator); }, until);
  if (!ended) {
    log::Warn("NCCL did not end its communicator in ", options_.abort_timeout.count(),
              " ms; its memory is given up");
  }
}

Error NcclLinks::Failure(ErrorKind kind, const std::string& message) const {
  Error::Where where = {
      {"rank", StrCat(control_.rank())}, {"stage", StrCat(stage_)}, {"step", StrCat(step_)}};
  if (peer_ >= 0) where["peer"] = StrCat(peer_);
  return Error(
      kind,
      StrCat("NCCL on rank ", control_.rank(), ", stage ", stage_, ", step ", step_, ": ", message),
      std::move(where));
}

}  // namespace xcomposer
