#include "request_runner.h"

#include <chrono>
#include <map>
#include <optional>
#include <utility>

#include "interrupt.h"

namespace xcomposer::cli {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kLook{50};  // how long Ctrl-C may go unnoticed

// The prompt once, without generation; nothing of the trace is kept.
Result RunForward(Engine& engine, const Request& request) {
  TraceOptions options;
  options.forward_only = true;
  options.stop = [] { return Interrupted(); };
  options.taps = {"im_mask"};
  return engine.Trace(request, options, [](TraceTensor&&) {});
}

// Several requests at once; see RunList.
class ListRun {
 public:
  ListRun(Engine& engine, const std::vector<RequestOrError>& requests, size_t in_flight)
      : engine_(engine), requests_(requests), in_flight_(in_flight), outcomes_(requests.size()) {}

  void Run(const std::function<void(size_t, const Outcome&)>& on_outcome) {
    size_t told = 0;
    while (told < requests_.size()) {
      if (Interrupted()) CancelAll();
      while (running_.size() < in_flight_ && next_ < requests_.size()) Start(next_++);
      Collect();
      for (; told < requests_.size() && outcomes_[told]; ++told) on_outcome(told, *outcomes_[told]);
    }
  }

 private:
  void Start(size_t index) {
    if (const Error* error = std::get_if<Error>(&requests_[index])) {
      outcomes_[index] = *error;
      return;
    }
    const ParsedRequest& parsed = std::get<ParsedRequest>(requests_[index]);
    try {
      if (cancelled_) throw Error(ErrorKind::kCancelled, "interrupted before it began");
      if (parsed.forward) {
        outcomes_[index] = RunForward(engine_, parsed.request);
      } else {
        running_[index] = engine_.Submit(parsed.request);
      }
    } catch (const Error& error) {
      outcomes_[index] = error.With("request", std::to_string(index));
    }
  }

  // Waits a moment for the oldest request and looks at the others in passing.
  void Collect() {
    milliseconds patience = kLook;
    for (auto it = running_.begin(); it != running_.end();) {
      const auto [index, id] = *it;
      const bool done = TakeEvents(index, id, patience);
      it = done ? running_.erase(it) : std::next(it);
      patience = milliseconds(0);
    }
  }

  bool TakeEvents(size_t index, RequestId id, milliseconds patience) {
    while (std::optional<Event> event = engine_.Await(id, patience)) {
      patience = milliseconds(0);
      if (event->type == Event::Type::kDone) {
        outcomes_[index] = *std::move(event->result);
        return true;
      }
      if (event->type == Event::Type::kError) {
        outcomes_[index] = event->error->With("request", std::to_string(index));
        return true;
      }
    }
    return false;
  }

  void CancelAll() {
    if (std::exchange(cancelled_, true)) return;
    for (const auto& [index, id] : running_) engine_.Cancel(id);
  }

  Engine& engine_;
  const std::vector<RequestOrError>& requests_;
  const size_t in_flight_;
  std::vector<std::optional<Outcome>> outcomes_;
  std::map<size_t, RequestId> running_;  // by position in the list
  size_t next_ = 0;
  bool cancelled_ = false;
};

}  // namespace

Result RunOne(Engine& engine, const ParsedRequest& parsed, const EventCallback& on_event) {
  if (parsed.forward) return RunForward(engine, parsed.request);
  const RequestId id = engine.Submit(parsed.request);
  bool cancelled = false;
  while (true) {
    if (Interrupted() && !std::exchange(cancelled, true)) engine.Cancel(id);
    std::optional<Event> event = engine.Await(id, kLook);
    if (!event) continue;
    if (event->type == Event::Type::kError) throw *event->error;
    if (event->type == Event::Type::kDone) return *std::move(event->result);
    on_event(*event);
  }
}

void RunList(Engine& engine, const std::vector<RequestOrError>& requests, size_t in_flight,
             const std::function<void(size_t, const Outcome&)>& on_outcome) {
  ListRun(engine, requests, in_flight).Run(on_outcome);
}

}  // namespace xcomposer::cli
