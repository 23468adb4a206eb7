#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>

namespace xcomposer {

/// A recorded sequence of launches.
class CapturedGraph {
 public:
  virtual ~CapturedGraph() = default;
  /// Starts them all, on the stream that they were captured on.
  virtual void Replay() = 0;
};

/// How launches are recorded: CUDA's, or a stand-in.
class GraphRecorder {
 public:
  virtual ~GraphRecorder() = default;

  /// Records what `work` launches on the calling thread, which is not run. Throws xcomposer::Error
  /// where the recording fails; what was recorded by then is gone.
  virtual std::unique_ptr<CapturedGraph> Record(const std::function<void()>& work) = 0;
};

/// What decides which kernels a step of decoding launches: how many sequences, and how many blocks
/// their tables have room for. Both are powers of two, so that there are few graphs.
struct DecodeShape {
  int64_t sequences = 1;
  int64_t blocks = 1;

  bool operator<(const DecodeShape& other) const {
    return std::pair(sequences, blocks) < std::pair(other.sequences, other.blocks);
  }
};

/// Graphs by shape. A shape is launched one by one the first time, which lets libraries choose and
/// allocate; recorded the second time; replayed from then on. Where recording fails for want of
/// memory or support, the shape stays with single launches. For one thread.
class StepGraphs {
 public:
  /// `recorder` must live longer; `most`: graphs that are kept, at least 1.
  StepGraphs(GraphRecorder& recorder, size_t most) : recorder_(recorder), most_(most) {}

  /// Runs a step. `work` launches it; for one shape it always launches the same, on the same
  /// memory.
  void Run(const DecodeShape& shape, const std::function<void()>& work);

  size_t recorded() const;

 private:
  enum class State { kNew, kLaunchedOnce, kRecorded, kRefused };
  struct Entry {
    State state = State::kNew;
    std::unique_ptr<CapturedGraph> graph;
    uint64_t used = 0;  // number of the step that used it last
  };

  void Record(Entry& entry, const std::function<void()>& work);
  void MakeRoom();

  GraphRecorder& recorder_;
  const size_t most_;
  uint64_t steps_ = 0;
  std::map<DecodeShape, Entry> entries_;
};

}  // namespace xcomposer
