#pragma once

#include <cuda_runtime_api.h>

#include <functional>

#include "kernels/cuda/context.h"

namespace xcomposer::cuda {

/// Seconds of one run: the median and the extremes of several.
struct Timing {
  double median = 0;
  double least = 0;
  double most = 0;
  int runs = 0;

  /// Of one of `count` equal parts of a run.
  Timing Part(double count) const { return {median / count, least / count, most / count, runs}; }
};

struct TimingOptions {
  int least_runs = 5;
  int most_runs = 40;
  double budget_s = 0.4;    ///< of the runs that count; least_runs are made in any case
  double warm_up_s = 0.03;  ///< at least, so that a card that idled has raised its clock
};

/// A stream of its own, and the time of what is put on it, by events.
class GpuTimer {
 public:
  GpuTimer();
  ~GpuTimer();
  GpuTimer(const GpuTimer&) = delete;
  GpuTimer& operator=(const GpuTimer&) = delete;

  const Context& context() const { return context_; }
  cudaStream_t stream() const { return context_.stream; }
  void Wait() const;

  Timing Measure(const std::function<void()>& enqueue, const TimingOptions& options = {});
  /// `enqueue` captured into a graph (after it has run once, which loads kernels and chooses
  /// algorithms), and the time of the graph.
  Timing MeasureGraph(const std::function<void()>& enqueue, const TimingOptions& options = {});

 private:
  float Once(const std::function<void()>& enqueue);

  Context context_;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

/// Throws with CUDA's own words.
void Check(cudaError_t status, const char* what);

}  // namespace xcomposer::cuda
