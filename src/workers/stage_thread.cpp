#include "workers/stage_thread.h"

#include <utility>

#include "base/check.h"
#include "base/current_error.h"

namespace xcomposer {
StageThread::StageThread(StageBody* body, StagePorts ports, Error::Where place)
    : body_(body),
      ports_(std::move(ports)),
      place_(std::move(place)),
      thread_([this] { Main(); }) {}

StageThread::~StageThread() { Join(); }

void StageThread::Join() {
  if (thread_.joinable()) thread_.join();
}

void StageThread::Main() {
  for (;;) {
    Work work;
    try {
      work = work_.Take();
    } catch (const Error&) {
      return;  // the end; whoever caused it knows why
    }
    if (const auto* call = std::get_if<std::function<void()>>(&work)) {
      (*call)();
      continue;
    }
    try {
      RunStep(std::get<StepPtr>(work));
    } catch (...) {
      ports_.lost(CurrentError());
      return;
    }
  }
}

void StageThread::RunStep(const StepPtr& step) {
  Passed hidden = ports_.receive ? ports_.receive(*step) : Passed();
  if (!ports_.finish) {
    Passed rows = Run(*step, std::move(hidden));
    if (!step->taps.empty()) ports_.taps_end(*step);
    ports_.send(step, std::move(rows));
    return;
  }
  Scored scored = Score(*step, std::move(hidden));
  if (!step->taps.empty()) ports_.taps_end(*step);
  ports_.finish(step, std::move(scored));
}

Passed StageThread::Run(const Step& step, Passed&& hidden) {
  if (hidden.error) return std::move(hidden);
  try {
    return {.rows = body_->Run(step, std::move(hidden.rows), Taps(step))};
  } catch (...) {
    return {.error = Placed(CurrentError(), step)};
  }
}

Scored StageThread::Score(const Step& step, Passed&& hidden) {
  if (hidden.error) return {.error = std::move(hidden.error)};
  try {
    return {.logits = body_->Score(step, std::move(hidden.rows), Taps(step))};
  } catch (...) {
    return {.error = Placed(CurrentError(), step)};
  }
}

TapSink StageThread::Taps(const Step& step) {
  if (step.taps.empty()) return {};
  TapSink sink;
  sink.wants = [&step](const std::string& name) { return step.taps.count(name) > 0; };
  sink.put = [this, &step](Tap&& tap) { ports_.tap(step, std::move(tap)); };
  return sink;
}

Error StageThread::Placed(const Error& error, const Step& step) const {
  Error placed = error.With("step", StrCat(step.number));
  for (const auto& [key, value] : place_) placed = placed.With(key, value);
  return placed;
}

}  // namespace xcomposer
