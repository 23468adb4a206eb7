#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "transport/transport.h"
#include "workers/layout.h"
#include "workers/row_link.h"
#include "workers/stage_body.h"
#include "workers/stage_thread.h"

namespace xcomposer {

/// The stages of this process with their threads, linked to each other and, through the transport,
/// to the stages before and behind them in other processes. Ends as a whole: the first reason stops
/// every thread here and, where there is a transport, every rank.
///
/// Thread-safe, but for the destructor.
class StageLine {
 public:
  struct Options {
    StageLayout layout;
    Transport* transport = nullptr;  ///< none: all stages are here; must live longer
    int64_t hidden_bytes = 0;        ///< of one row
    int64_t vocab = 0;
    RowLinks links = {};  ///< to neighbours in other processes, for rows in a GPU's memory
    /// Receives tensors and scores of the stages here, on their threads; may be empty on ranks that
    /// have a transport: then they go to rank 0.
    std::function<void(const Step&, Tap&&)> on_tap = nullptr;
    std::function<void(const Step&, Scored&&)> on_scored = nullptr;
    std::function<void(const Error&)> on_over = nullptr;  ///< the line has failed; must not throw
  };

  /// `bodies` are the stages of this rank, in order.
  StageLine(std::vector<std::unique_ptr<StageBody>> bodies, Options options);
  ~StageLine();  ///< waits for the threads
  StageLine(const StageLine&) = delete;
  StageLine& operator=(const StageLine&) = delete;

  /// Gives the step to every stage here. Throws the reason of the end.
  void Run(const StepPtr& step);

  /// Runs `call` on the thread of the first stage here, behind the steps that it was given, and
  /// waits for it. Throws what it throws, or the reason of the end.
  void CallOnFirst(const std::function<void()>& call);

  /// Ends the line. `reason` goes to the other ranks too, unless they gave it.
  void Fail(const Error& reason);

  /// Throws the reason of the end, with the stages of a rank that was lost and the step at hand.
  void ThrowIfOver() const;
  std::optional<Error> failure() const;

  int rank() const { return rank_; }
  const Options& options() const { return options_; }

  /// The next frame, waited for as long as the line lives.
  Frame Receive(int from, Channel channel);

  /// The same. Throws kTransport where it belongs to another step.
  Frame Receive(int from, Channel channel, const Step& step);

 private:
  void StartThreads(int first, int count);
  void End();
  StagePorts PortsOf(int stage);
  Passed ReceiveHidden(int from, const Step& step);
  void SendHidden(int stage, int to, const Step& step, Passed&& hidden);
  void SendScores(const Step& step, Scored&& scored);
  void SendTap(int stage, const Step& step, Tap&& tap);
  /// `reason`, with what this process knows about where and when.
  Error Described(const Error& reason) const;

  const Options options_;
  const int rank_;
  std::atomic<uint64_t> step_{0};  // the last one that was given
  mutable std::mutex mutex_;
  std::optional<Error> failure_;
  std::vector<std::unique_ptr<StageBody>> bodies_;
  std::vector<std::unique_ptr<HandOver<Passed>>> links_;  // between neighbours here
  std::vector<std::unique_ptr<StageThread>> threads_;     // by local stage
};

/// What a frame of kHidden, kLogits or kTaps carries, in FrameHeader::kind.
enum class FrameKind : uint16_t {
  kRows = 0,
  kStepFailed = 1,  ///< the payload is the reason
  kTapsEnd = 2,     ///< no more tensors of this step and stage
  kRowsApart = 3,   ///< the rows come over the RowLink
  kIds = 4,         ///< of kLogits: an id for each row instead of its scores
};

/// The scores or ids in such a frame; checks its size and the ids.
Scored ScoresOf(const Frame& frame, int64_t vocab);

}  // namespace xcomposer
