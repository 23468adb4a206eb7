#include "xcomposer/engine.h"

#include <algorithm>
#include <exception>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "api/model_loader.h"
#include "api/prepare.h"
#include "base/check.h"
#include "base/current_error.h"
#include "base/log.h"
#include "config/rope.h"
#include "engine/scheduler.h"

namespace xcomposer {
namespace {

// A wait that has no deadline of its own is made of these.
constexpr std::chrono::hours kPatience{1};
constexpr std::chrono::hours kLongestWait{24 * 365};
// How long TraceOptions::stop goes unasked.
constexpr std::chrono::milliseconds kLook{50};

FinishReason ReasonOf(JobFinish finish) {
  switch (finish) {
    case JobFinish::kStop:
      return FinishReason::kStop;
    case JobFinish::kLength:
      return FinishReason::kLength;
    case JobFinish::kCancelled:
      return FinishReason::kCancelled;
    case JobFinish::kDeadline:
      return FinishReason::kDeadline;
  }
  return FinishReason::kStop;
}

RequestId IdOf(JobId job) { return static_cast<RequestId>(job); }
JobId JobOf(RequestId id) { return static_cast<JobId>(id); }

}  // namespace

const char* ToString(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kDeadline:
      return "deadline";
  }
  return "stop";
}

class Engine::Impl {
 public:
  explicit Impl(api::LoadedModel model)
      : context_(std::move(model.context)),
        info_(std::move(model.info)),
        placement_(std::move(model.placement)),
        scheduler_(std::move(model.executor),
                   {.rope_base = [config = context_.config](
                                     int64_t length) { return RopeBase(config, length); },
                    .feature_cache_rows = model.feature_rows}) {}

  /// Whether this is the thread that calls callbacks.
  bool IsCallingBack() const { return scheduler_.IsOwnThread(); }

  const ModelInfo& info() const { return info_; }
  PlacementReport placement() const { return placement_->Report(); }

  RequestId Submit(const Request& request, EventCallback callback) {
    api::PreparedRequest prepared = api::Prepare(request, context_);
    const Asked asked{request.id, prepared.prompt_truncated};
    if (!callback) {
      // Held while submitting: the job's last event must find its entry.
      const std::lock_guard lock(mutex_);
      const RequestId id = IdOf(scheduler_.Submit(std::move(prepared.job)));
      asked_.emplace(id, asked);
      return id;
    }
    return IdOf(
        scheduler_.Submit(std::move(prepared.job),
                          [this, asked, callback = std::move(callback)](const JobEvent& event) {
                            if (auto translated = Translate(event, asked)) callback(*translated);
                          }));
  }

  std::optional<Event> Await(RequestId id, std::chrono::milliseconds timeout) {
    // A caller may mean "for ever" by the largest duration; added to now it would overflow.
    const auto until = std::chrono::steady_clock::now() +
                       std::clamp<std::chrono::milliseconds>(timeout, {}, kLongestWait);
    for (;;) {
      const auto left = std::max(std::chrono::steady_clock::duration::zero(),
                                 until - std::chrono::steady_clock::now());
      const std::optional<JobEvent> event = scheduler_.Await(JobOf(id), left);
      if (!event) return std::nullopt;
      const Asked asked = AskedOf(id, event->last());
      if (auto translated = Translate(*event, asked)) return translated;
    }
  }

  Result Wait(RequestId id, const TextCallback& on_text, const ProgressCallback& on_progress = {}) {
    for (;;) {
      std::optional<Event> event = Await(id, kPatience);
      if (!event) continue;
      if (event->error) throw *event->error;
      if (event->result) return *std::move(event->result);
      CallOrForget(id, [&] {
        if (event->type == Event::Type::kText && on_text) on_text(event->text);
        if (event->progress && on_progress) on_progress(*event->progress);
      });
    }
  }

  void Cancel(RequestId id) {
    IfGivenOut([&] { scheduler_.Cancel(JobOf(id)); });
  }

  void Forget(RequestId id) {
    IfGivenOut([&] { scheduler_.Forget(JobOf(id)); });
    AskedOf(id, true);
  }

  Result Generate(const Request& request, const TextCallback& on_text) {
    RequireOutsideCallbacks();
    return Wait(Submit(request, {}), on_text);
  }

  Result Trace(const Request& request, const TraceOptions& options,
               const TraceCallback& on_tensor) {
    RequireOutsideCallbacks();
    api::PreparedRequest prepared = api::Prepare(request, context_);
    Job& job = prepared.job;
    if (options.forward_only) job.call = JobCall::kForward;
    job.taps.wants = [wanted = options.taps](const std::string& name) {
      return wanted.empty() || std::find(wanted.begin(), wanted.end(), name) != wanted.end();
    };
    job.taps.put = [&on_tensor](Tap&& tap) {
      on_tensor(
          {std::move(tap.name), std::move(tap.shape), std::move(tap.values), std::move(tap.bytes)});
    };
    const Asked asked{request.id, prepared.prompt_truncated};
    RequestId id = 0;
    {
      const std::lock_guard lock(mutex_);
      id = IdOf(scheduler_.Submit(std::move(job)));
      asked_.emplace(id, asked);
    }
    return options.stop ? WaitOrStop(id, options.stop) : Wait(id, {});
  }

 private:
  /// What a result needs that the scheduler does not know.
  struct Asked {
    std::string id;
    int64_t prompt_truncated = 0;
  };

  /// Before anything is submitted that would then be waited for.
  void RequireOutsideCallbacks() const {
    Require(!IsCallingBack(), ErrorKind::kUsage,
            "a callback must not wait for a request: it would wait for itself; Submit one");
  }

  template <typename Call>
  static void IfGivenOut(const Call& call) {
    try {
      call();
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kUsage) throw;  // an id that was never given out
    }
  }

  Asked AskedOf(RequestId id, bool last) {
    const std::lock_guard lock(mutex_);
    const auto found = asked_.find(id);
    if (found == asked_.end()) return {};
    Asked asked = found->second;
    if (last) asked_.erase(found);
    return asked;
  }

  /// As Wait, and ends the request where `stop` says so. Never before the request is over, whatever
  /// `stop` throws: until then the engine's thread hands tensors to the caller.
  Result WaitOrStop(RequestId id, const std::function<bool()>& stop) {
    std::exception_ptr thrown;
    for (bool stopped = false;;) {
      if (!stopped) {
        try {
          stopped = stop();
        } catch (...) {
          thrown = std::current_exception();
          stopped = true;
        }
        if (stopped) Cancel(id);
      }
      std::optional<Event> event = Await(id, kLook);
      if (!event || (!event->error && !event->result)) continue;
      if (thrown) std::rethrow_exception(thrown);
      if (event->error) throw *event->error;
      return *std::move(event->result);
    }
  }

  template <typename Call>
  void CallOrForget(RequestId id, const Call& call) {
    try {
      call();
    } catch (...) {
      Forget(id);
      throw;
    }
  }

  std::optional<Event> Translate(const JobEvent& event, const Asked& asked) const {
    Event translated;
    translated.id = IdOf(event.job);
    switch (event.kind) {
      case JobEvent::Kind::kProgress:
        translated.type = Event::Type::kProgress;
        translated.progress = {event.rows_done, event.rows_total};
        return translated;
      case JobEvent::Kind::kOutput:
        if (event.text.empty()) return std::nullopt;
        translated.type = Event::Type::kText;
        translated.text = event.text;
        return translated;
      case JobEvent::Kind::kDone:
        translated.type = Event::Type::kDone;
        translated.result = ResultOf(*event.result, asked);
        return translated;
      case JobEvent::Kind::kError:
        translated.type = Event::Type::kError;
        translated.error = event.error;
        return translated;
    }
    return std::nullopt;
  }

  Result ResultOf(const JobResult& job, const Asked& asked) const {
    Result result;
    result.id = asked.id;
    result.text = job.text;
    result.output_ids = job.output_ids;
    result.prompt_tokens = job.prompt_rows;
    result.image_tokens = job.image_rows;
    result.prompt_truncated = asked.prompt_truncated;
    result.finish_reason = ReasonOf(job.finish);
    result.seed = job.seed;
    result.timings = {.load_s = info_.load_s,
                      .image_s = job.timings.image_s,
                      .prefill_s = job.timings.prefill_s,
                      .decode_s = job.timings.decode_s,
                      .tokens_per_s = job.timings.tokens_per_s,
                      .step_s = job.timings.step_s,
                      .load = info_.load};
    result.placement = info_.placement;
    return result;
  }

  const api::RequestContext context_;
  const ModelInfo info_;
  const std::shared_ptr<const api::PlacementBook> placement_;
  std::mutex mutex_;
  std::map<RequestId, Asked> asked_;  // of requests whose events are awaited
  Scheduler scheduler_;               // last: its thread calls back into the members above
};

Engine Engine::Load(const EngineOptions& options) {
  try {
    return Engine(std::make_unique<Impl>(api::LoadModel(options)));
  } catch (...) {
    throw CurrentError();
  }
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&& other) noexcept {
  if (this != &other) End(std::exchange(impl_, std::move(other.impl_)));
  return *this;
}
Engine::~Engine() { End(std::move(impl_)); }

void Engine::End(std::unique_ptr<Impl> impl) noexcept {
  if (impl == nullptr || !impl->IsCallingBack()) return;
  // Called from a callback: the engine's thread cannot wait for itself, so another one does.
  Impl* const last = impl.release();
  try {
    std::thread([last] { delete last; }).detach();
  } catch (const std::system_error& error) {
    log::Warn("an engine that its own callback destroyed is given up: ", error.what());
  }
}

const ModelInfo& Engine::info() const { return impl_->info(); }
PlacementReport Engine::placement() const { return impl_->placement(); }
RequestId Engine::Submit(const Request& request, EventCallback callback) {
  return impl_->Submit(request, std::move(callback));
}
std::optional<Event> Engine::Await(RequestId id, std::chrono::milliseconds timeout) {
  return impl_->Await(id, timeout);
}
Result Engine::Wait(RequestId id, const TextCallback& on_text,
                    const ProgressCallback& on_progress) {
  return impl_->Wait(id, on_text, on_progress);
}
void Engine::Cancel(RequestId id) { impl_->Cancel(id); }
void Engine::Forget(RequestId id) { impl_->Forget(id); }
Result Engine::Generate(const Request& request, const TextCallback& on_text) {
  return impl_->Generate(request, on_text);
}
Result Engine::Trace(const Request& request, const TraceOptions& options,
                     const TraceCallback& on_tensor) {
  return impl_->Trace(request, options, on_tensor);
}

}  // namespace xcomposer
