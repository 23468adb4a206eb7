#include "workers/stage_line.h"

#include <cstring>
#include <future>
#include <utility>

#include "base/check.h"
#include "base/checked_math.h"
#include "transport/link_messages.h"
#include "workers/step_coding.h"

namespace xcomposer {
namespace {

using std::chrono::steady_clock;

// How long a wait for a frame goes on before it looks whether the line is still alive. The
// transport itself wakes the wait when a rank is lost.
constexpr std::chrono::milliseconds kLook{100};

FrameHeader HeaderOf(Channel channel, FrameKind kind, int stage, const Step& step) {
  FrameHeader header;
  header.channel = channel;
  header.kind = static_cast<uint16_t>(kind);
  header.stage = static_cast<uint32_t>(stage);
  header.step = step.number;
  return header;
}

template <typename Number>
Payload PayloadOf(std::vector<Number> numbers) {
  const auto held = std::make_shared<std::vector<Number>>(std::move(numbers));
  return {held, reinterpret_cast<std::byte*>(held->data()),
          static_cast<int64_t>(held->size() * sizeof(Number))};
}

template <typename Number>
std::vector<Number> NumbersOf(const Payload& payload) {
  std::vector<Number> numbers(payload.bytes().size() / sizeof(Number));
  if (payload.size > 0) std::memcpy(numbers.data(), payload.data, payload.bytes().size());
  return numbers;
}

}  // namespace

StageLine::StageLine(std::vector<std::unique_ptr<StageBody>> bodies, Options options)
    : options_(std::move(options)),
      rank_(options_.transport == nullptr ? 0 : options_.transport->rank()),
      bodies_(std::move(bodies)) {
  const int first = options_.layout.first_stage(rank_);
  const int count = options_.layout.end_stage(rank_) - first;
  Check(static_cast<int>(bodies_.size()) == count, "rank ", rank_, " was given ", bodies_.size(),
        " stages of ", count);
  for (int i = 0; i + 1 < count; ++i) links_.push_back(std::make_unique<HandOver<Passed>>());
  try {
    StartThreads(first, count);
  } catch (...) {
    End();  // those that did start
    throw;
  }
}

void StageLine::StartThreads(int first, int count) {
  for (int i = 0; i < count; ++i) {
    Error::Where place = {{"stage", StrCat(first + i)}};
    if (options_.transport != nullptr) place["rank"] = StrCat(rank_);
    threads_.push_back(std::make_unique<StageThread>(bodies_[static_cast<size_t>(i)].get(),
                                                     PortsOf(first + i), std::move(place)));
  }
}

StageLine::~StageLine() { End(); }

void StageLine::End() {
  const Error over(ErrorKind::kCancelled, "the pipeline is shutting down");
  {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = over;
  }
  for (auto& link : links_) link->Fail(over);
  for (auto& thread : threads_) thread->Fail(over);
  // None goes before all have ended: one of them may be telling the others of a failure.
  for (auto& thread : threads_) thread->Join();
  threads_.clear();
}

StagePorts StageLine::PortsOf(int stage) {
  const StageLayout& layout = options_.layout;
  const int local = stage - layout.first_stage(rank_);
  StagePorts ports;
  if (local > 0) {
    HandOver<Passed>* link = links_[static_cast<size_t>(local) - 1].get();
    ports.receive = [link](const Step&) { return link->Take(); };
  } else if (stage > 0) {
    const int from = layout.rank_of(stage - 1);
    ports.receive = [this, from](const Step& step) { return ReceiveHidden(from, step); };
  }
  if (stage + 1 == layout.stages()) {
    ports.finish = [this](const StepPtr& step, Scored&& scored) {
      if (options_.on_scored) {
        options_.on_scored(*step, std::move(scored));
      } else {
        SendScores(*step, std::move(scored));
      }
    };
  } else if (layout.rank_of(stage + 1) == rank_) {
    HandOver<Passed>* link = links_[static_cast<size_t>(local)].get();
    ports.send = [link](const StepPtr&, Passed&& hidden) { link->Put(std::move(hidden)); };
  } else {
    const int to = layout.rank_of(stage + 1);
    ports.send = [this, stage, to](const StepPtr& step, Passed&& hidden) {
      SendHidden(stage, to, *step, std::move(hidden));
    };
  }
  ports.tap = [this, stage](const Step& step, Tap&& tap) {
    if (options_.on_tap) {
      options_.on_tap(step, std::move(tap));
    } else {
      SendTap(stage, step, std::move(tap));
    }
  };
  ports.taps_end = [this, stage](const Step& step) {
    if (options_.on_tap) return;
    options_.transport->Send(0, HeaderOf(Channel::kTaps, FrameKind::kTapsEnd, stage, step), {});
  };
  ports.lost = [this](const Error& reason) { Fail(reason); };
  return ports;
}

void StageLine::Run(const StepPtr& step) {
  ThrowIfOver();
  step_ = step->number;
  for (auto& thread : threads_) thread->Run(step);
}

void StageLine::CallOnFirst(const std::function<void()>& call) {
  ThrowIfOver();
  struct Shared {
    std::promise<void> done;
    std::atomic_flag taken;  // by the thread that runs it, or by the caller that gives up
  };
  const auto shared = std::make_shared<Shared>();
  std::future<void> result = shared->done.get_future();
  threads_.front()->Run([shared, &call] {
    if (shared->taken.test_and_set()) return;
    try {
      call();
      shared->done.set_value();
    } catch (...) {
      shared->done.set_exception(std::current_exception());
    }
  });
  while (result.wait_for(kLook) != std::future_status::ready) {
    // A call that has begun is waited for: it uses what the caller holds.
    if (const auto reason = failure(); reason && !shared->taken.test_and_set())
      throw Error(*reason);
  }
  result.get();
}

void StageLine::Fail(const Error& reason) {
  Error described = Described(reason);
  {
    const std::lock_guard lock(mutex_);
    if (failure_) return;
    failure_ = described;
  }
  if (options_.transport != nullptr) options_.transport->Abort(reason);
  for (auto& link : links_) link->Fail(described);
  for (auto& thread : threads_) thread->Fail(described);
  if (options_.on_over) options_.on_over(described);
}

std::optional<Error> StageLine::failure() const {
  {
    const std::lock_guard lock(mutex_);
    if (failure_) return failure_;
  }
  if (options_.transport == nullptr) return std::nullopt;
  const std::optional<Error> reason = options_.transport->failure();
  return reason ? std::optional(Described(*reason)) : std::nullopt;
}

void StageLine::ThrowIfOver() const {
  if (const std::optional<Error> reason = failure()) throw Error(*reason);
}

Error StageLine::Described(const Error& reason) const {
  const auto found = reason.where().find("rank");
  if (options_.transport == nullptr || found == reason.where().end()) {
    return reason.With("step", StrCat(step_.load()));
  }
  const std::string& rank = found->second;
  for (int lost = 0; lost < options_.layout.world_size(); ++lost) {
    if (StrCat(lost) != rank) continue;
    const int first = options_.layout.first_stage(lost);
    const int last = options_.layout.end_stage(lost) - 1;
    Error::Where where = reason.where();
    where["stage"] = first == last ? StrCat(first) : StrCat(first, "-", last);
    where["step"] = StrCat(step_.load());
    return Error(reason.kind(),
                 StrCat(reason.what(), " (it drove ", options_.layout.StagesOf(lost), "; step ",
                        step_.load(), " was the last to be started)"),
                 std::move(where));
  }
  return reason.With("step", StrCat(step_.load()));
}

Frame StageLine::Receive(int from, Channel channel) {
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (failure_) throw Error(*failure_);
    }
    std::optional<Frame> frame =
        options_.transport->Receive(from, channel, steady_clock::now() + kLook);
    if (frame) return *std::move(frame);
  }
}

Frame StageLine::Receive(int from, Channel channel, const Step& step) {
  Frame frame = Receive(from, channel);
  Require(frame.header.step == step.number, ErrorKind::kTransport, "rank ", from,
          " sent a frame of step ", frame.header.step, ", expected step ", step.number);
  return frame;
}

Passed StageLine::ReceiveHidden(int from, const Step& step) {
  Frame frame = Receive(from, Channel::kHidden, step);
  if (frame.header.kind == static_cast<uint16_t>(FrameKind::kStepFailed)) {
    return {.error = DecodeReason(frame.payload.bytes())};
  }
  const int64_t rows = step.batch.rows();
  if (frame.header.kind == static_cast<uint16_t>(FrameKind::kRowsApart)) {
    Require(options_.links.from_previous != nullptr && frame.header.rows == rows &&
                frame.payload.size == 0,
            ErrorKind::kTransport, "rank ", from, " sends ", frame.header.rows,
            " rows from GPU to GPU, and here ", rows, " are due from host to host");
    return {.rows = options_.links.from_previous->Receive(step, rows * options_.hidden_bytes)};
  }
  Require(frame.header.kind == static_cast<uint16_t>(FrameKind::kRows) &&
              frame.header.rows == rows && frame.payload.size == rows * options_.hidden_bytes,
          ErrorKind::kTransport, "rank ", from, " sent ", frame.payload.size, " bytes for ",
          frame.header.rows, " rows, expected ", rows, " rows of ", options_.hidden_bytes);
  return {.rows = std::move(frame.payload)};
}

void StageLine::SendHidden(int stage, int to, const Step& step, Passed&& hidden) {
  FrameHeader header = HeaderOf(Channel::kHidden, FrameKind::kRows, stage, step);
  Payload payload;
  if (hidden.error) {
    header.kind = static_cast<uint16_t>(FrameKind::kStepFailed);
    payload = EncodeReason(*hidden.error);
  } else if (hidden.rows.on_device) {
    Check(options_.links.to_next != nullptr, "rows of stage ", stage,
          " lie in a GPU's memory, and no link carries them to rank ", to);
    header.kind = static_cast<uint16_t>(FrameKind::kRowsApart);
    header.rows = step.batch.rows();
    options_.transport->Send(to, header, {});
    options_.links.to_next->Send(step, std::move(hidden.rows));
    return;
  } else {
    header.rows = step.batch.rows();
    payload = std::move(hidden.rows);
  }
  header.payload_bytes = payload.size;
  options_.transport->Send(to, header, std::move(payload));
}

void StageLine::SendScores(const Step& step, Scored&& scored) {
  const int stage = options_.layout.stages() - 1;
  FrameHeader header = HeaderOf(Channel::kLogits, FrameKind::kRows, stage, step);
  Payload payload;
  if (scored.error) {
    header.kind = static_cast<uint16_t>(FrameKind::kStepFailed);
    payload = EncodeReason(*scored.error);
  } else {
    header.rows = scored.logits.rows;
    if (scored.logits.chosen.empty()) {
      payload = PayloadOf(std::move(scored.logits.values));
    } else {
      header.kind = static_cast<uint16_t>(FrameKind::kIds);
      payload = PayloadOf(std::move(scored.logits.chosen));
    }
  }
  header.payload_bytes = payload.size;
  options_.transport->Send(0, header, std::move(payload));
}

void StageLine::SendTap(int stage, const Step& step, Tap&& tap) {
  FrameHeader header = HeaderOf(Channel::kTaps, FrameKind::kRows, stage, step);
  Payload payload = EncodeTap(tap);
  header.payload_bytes = payload.size;
  options_.transport->Send(0, header, std::move(payload));
}

Scored ScoresOf(const Frame& frame, int64_t vocab) {
  if (frame.header.kind == static_cast<uint16_t>(FrameKind::kStepFailed)) {
    return {.error = DecodeReason(frame.payload.bytes())};
  }
  Logits logits;
  logits.rows = frame.header.rows;
  logits.vocab = vocab;
  const bool ids = frame.header.kind == static_cast<uint16_t>(FrameKind::kIds);
  const auto values = CheckedMul(logits.rows, ids ? 1 : vocab);
  const auto bytes = values ? CheckedMul(*values, 4) : std::nullopt;
  Require((ids || frame.header.kind == static_cast<uint16_t>(FrameKind::kRows)) &&
              logits.rows >= 0 && bytes && *bytes == frame.payload.size,
          ErrorKind::kTransport, "scores of ", logits.rows, " rows in ", frame.payload.size,
          " bytes, expected ", ids ? "an id" : StrCat(vocab, " float32"), " a row");
  if (!ids) {
    logits.values = NumbersOf<float>(frame.payload);
    return {.logits = std::move(logits)};
  }
  logits.chosen = NumbersOf<int32_t>(frame.payload);
  for (const int32_t id : logits.chosen) {
    Require(id >= 0 && id < vocab, ErrorKind::kTransport, "id ", id, " was chosen of ", vocab);
  }
  return {.logits = std::move(logits)};
}

}  // namespace xcomposer
