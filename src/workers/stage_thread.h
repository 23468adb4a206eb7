#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <variant>

#include "batch/batch.h"
#include "transport/transport.h"
#include "workers/hand_over.h"
#include "workers/stage_body.h"
#include "workers/step.h"

namespace xcomposer {

/// What a stage hands on for a step: its rows, or what went wrong with this step here or before. A
/// step that failed still passes every stage, so that all ranks agree on what is in flight.
struct Passed {
  Payload rows = {};
  std::optional<Error> error = std::nullopt;
};
struct Scored {
  Logits logits = {};
  std::optional<Error> error = std::nullopt;
};

/// Where a stage's work comes from and goes to. What these throw ends the line of stages.
struct StagePorts {
  std::function<Passed(const Step&)> receive;            ///< empty on the first stage
  std::function<void(const StepPtr&, Passed&&)> send;    ///< empty on the last stage
  std::function<void(const StepPtr&, Scored&&)> finish;  ///< set on the last stage only
  std::function<void(const Step&, Tap&&)> tap;
  std::function<void(const Step&)> taps_end;  ///< after the last tap of a step that wants any
  std::function<void(const Error&)> lost;  ///< called once when a port has thrown; must not throw
};

/// The one thread that drives a stage. Steps run in the order in which they are given.
class StageThread {
 public:
  /// `body` must live longer. `place` says where errors come from: {"stage", "1"}, {"rank", "0"}.
  StageThread(StageBody* body, StagePorts ports, Error::Where place);
  ~StageThread();  ///< as Join
  StageThread(const StageThread&) = delete;
  StageThread& operator=(const StageThread&) = delete;

  void Run(StepPtr step) { work_.Put(std::move(step)); }

  /// Runs `call`, which must not throw, on the thread, behind all that was given before.
  void Run(std::function<void()> call) { work_.Put(std::move(call)); }

  /// The thread ends when it has finished what it is at.
  void Fail(const Error& reason) { work_.Fail(reason); }

  /// Waits until the thread has ended; Fail must have been called.
  void Join();

 private:
  using Work = std::variant<StepPtr, std::function<void()>>;

  void Main();
  void RunStep(const StepPtr& step);
  Passed Run(const Step& step, Passed&& hidden);
  Scored Score(const Step& step, Passed&& hidden);
  TapSink Taps(const Step& step);
  Error Placed(const Error& error, const Step& step) const;

  StageBody* body_;
  const StagePorts ports_;
  const Error::Where place_;
  HandOver<Work> work_;
  std::thread thread_;
};

}  // namespace xcomposer
