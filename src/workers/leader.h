#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "batch/executor.h"
#include "transport/transport.h"
#include "workers/hand_over.h"
#include "workers/stage_line.h"

namespace xcomposer {

/// Rank 0 of the stages, or all of them: takes batches, gives scores. Calls come from one thread at
/// a time, as those of an Executor.
class Leader {
 public:
  struct Options {
    StageLayout layout = LocalLayout(1);
    std::shared_ptr<Transport> transport;  ///< none: all stages are here
    ExecutorLimits limits;
    int64_t hidden_bytes = 0;            ///< of one row
    RowLinks links = {};                 ///< from GPU to GPU
    std::vector<std::string> tap_names;  ///< that the stages may put for a batch
  };

  Leader(std::vector<std::unique_ptr<StageBody>> bodies, Options options);

  /// Tells the other ranks that the run is over, and waits a little for their farewell.
  ~Leader();
  Leader(const Leader&) = delete;
  Leader& operator=(const Leader&) = delete;

  /// As Executor's. Throws the reason where the line is over.
  void Submit(Batch batch, std::shared_ptr<const void> first_stage_input);
  Logits Collect();
  void CallOnFirst(const std::function<void()>& call) { line_->CallOnFirst(call); }

 private:
  struct Flight {
    StepPtr step;
    std::function<void(Tap&&)> put;
  };

  /// Tensors of a step that came from one rank so far.
  struct RemoteTaps {
    std::vector<Tap> taps;
    int stages_ended = 0;
  };

  void Announce(const Step& step);
  std::vector<Tap> ReceiveTaps(const Step& step);
  Scored ReceiveScores(const Step& step);
  std::vector<Tap> TakeTaps(const Step& step);
  void SayGoodbye() noexcept;

  const Options options_;
  uint64_t steps_ = 0;
  std::deque<Flight> flights_;
  std::mutex mutex_;
  std::map<uint64_t, std::vector<Tap>> taps_;                   // of the stages here, by step
  std::map<std::pair<uint64_t, int>, RemoteTaps> remote_taps_;  // by step and rank
  HandOver<std::pair<uint64_t, Scored>> scored_;
  std::unique_ptr<StageLine> line_;  // last: its threads use the members above
};

}  // namespace xcomposer
