#include "transport/nccl_link.h"

#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "transport/setup_frames.h"

namespace xcomposer {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::microseconds kPause{50};  // between two looks at something that goes on

// Ranks of the communicator.
constexpr int kSender = 0;
constexpr int kReceiver = 1;

}  // namespace

NcclLink::NcclLink(NcclApi api, Transport& control, NcclOptions options, TimePoint until)
    : api_(std::move(api)), control_(control), options_(options) {
  Check(options_.peer != control_.rank() && options_.peer >= 0 &&
            options_.peer < control_.world_size(),
        "NCCL peer ", options_.peer);
  ExchangeId(until);
  try {
    Finish(api_.init(communicator_, 2, id_, sends() ? kSender : kReceiver),
           "making the communicator", until);
    Transfer(options_.scratch, 8, until);
    Wait(until);
  } catch (const Error&) {
    AbortCommunicator();  // no destructor will run
    throw;
  }
}

NcclLink::~NcclLink() {
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

void NcclLink::ExchangeId(TimePoint until) {
  const auto size = static_cast<int64_t>(id_.bytes.size());
  if (sends()) {
    Finish(api_.make_unique_id(id_), "drawing the unique id", until);
    SendSetup(control_, options_.peer, SetupKind::kUniqueId,
              Payload::Of(std::string(id_.bytes.data(), id_.bytes.size())));
    return;
  }
  const Payload sent = ReceiveSetup(control_, options_.peer,
                                    {SetupKind::kUniqueId, size, "NCCL's unique id"}, until);
  if (sent.size != size) {
    Break(Failure(ErrorKind::kTransport, StrCat("rank ", options_.peer, " sent ", sent.size,
                                                " bytes as NCCL's unique id")));
  }
  std::memcpy(id_.bytes.data(), sent.data, id_.bytes.size());
}

void NcclLink::Send(const void* data, int64_t bytes, TimePoint until) {
  Check(sends(), "the receiving end of a link was told to send");
  Transfer(const_cast<void*>(data), bytes, until);
}

void NcclLink::Receive(void* data, int64_t bytes, TimePoint until) {
  Check(!sends(), "the sending end of a link was told to receive");
  Transfer(data, bytes, until);
}

void NcclLink::Transfer(void* data, int64_t bytes, TimePoint until) {
  RequireUsable();
  Check(bytes >= 0, "NCCL moves ", bytes, " bytes");
  const auto size = static_cast<size_t>(bytes);
  if (sends()) {
    Finish(api_.send(data, size, kReceiver, communicator_, options_.stream), "sending", until);
  } else {
    Finish(api_.receive(data, size, kSender, communicator_, options_.stream), "receiving", until);
  }
}

void NcclLink::Wait(TimePoint until) {
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

void NcclLink::SetPlace(uint32_t stage, uint64_t step) {
  stage_ = stage;
  step_ = step;
}

void NcclLink::Finish(NcclState state, const char* what, TimePoint until) {
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

void NcclLink::RequireUsable() const {
  if (condition_ == Condition::kUsable) return;
  const std::optional<Error> reason = control_.failure();
  throw reason ? Error(*reason) : Failure(ErrorKind::kTransport, "NCCL failed before");
}

void NcclLink::Break(const Error& reason) {
  condition_ = Condition::kBroken;
  control_.Abort(reason);
  AbortCommunicator();
  // The run's first reason, which may be another rank's.
  throw Error(control_.failure().value_or(reason));
}

void NcclLink::AbortCommunicator() {
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

Error NcclLink::Failure(ErrorKind kind, const std::string& message) const {
  Error::Where where = {{"rank", StrCat(control_.rank())},
                        {"stage", StrCat(stage_)},
                        {"step", StrCat(step_)},
                        {"peer", StrCat(options_.peer)}};
  return Error(
      kind,
      StrCat("NCCL on rank ", control_.rank(), ", stage ", stage_, ", step ", step_, ": ", message),
      std::move(where));
}

}  // namespace xcomposer
