#include "bench/cuda/gpu_timer.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

namespace xcomposer::cuda {

void Check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

GpuTimer::GpuTimer() {
  cudaStream_t stream = nullptr;
  Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  Check(DescribeContext(0, stream, context_), "DescribeContext");
  Check(cudaEventCreate(&begin_), "cudaEventCreate");
  Check(cudaEventCreate(&end_), "cudaEventCreate");
}

GpuTimer::~GpuTimer() {
  cudaEventDestroy(begin_);
  cudaEventDestroy(end_);
  cudaStreamDestroy(context_.stream);
}

void GpuTimer::Wait() const { Check(cudaStreamSynchronize(context_.stream), "the device"); }

float GpuTimer::Once(const std::function<void()>& enqueue) {
  Check(cudaEventRecord(begin_, context_.stream), "cudaEventRecord");
  enqueue();
  Check(cudaEventRecord(end_, context_.stream), "cudaEventRecord");
  Check(cudaEventSynchronize(end_), "the device");
  float milliseconds = 0;
  Check(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime");
  return milliseconds * 1e-3f;
}

Timing GpuTimer::Measure(const std::function<void()>& enqueue, const TimingOptions& options) {
  // Memory is written on the default stream, which this one does not wait for by itself.
  Check(cudaDeviceSynchronize(), "the device");
  // The first run loads kernels; how long one takes is known from a later one.
  double warm = Once(enqueue);
  double expected = 0;
  do {
    expected = std::max(1e-6, static_cast<double>(Once(enqueue)));
    warm += expected;
  } while (warm < options.warm_up_s);
  const int runs = std::clamp(static_cast<int>(options.budget_s / expected), options.least_runs,
                              options.most_runs);
  std::vector<double> seconds;
  for (int i = 0; i < runs; ++i) seconds.push_back(Once(enqueue));
  std::sort(seconds.begin(), seconds.end());
  return {seconds[seconds.size() / 2], seconds.front(), seconds.back(), runs};
}

Timing GpuTimer::MeasureGraph(const std::function<void()>& enqueue, const TimingOptions& options) {
  Check(cudaDeviceSynchronize(), "the device");
  enqueue();
  Wait();
  cudaGraph_t graph = nullptr;
  Check(cudaStreamBeginCapture(context_.stream, cudaStreamCaptureModeThreadLocal),
        "cudaStreamBeginCapture");
  try {
    enqueue();
  } catch (...) {
    cudaStreamEndCapture(context_.stream, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    throw;
  }
  Check(cudaStreamEndCapture(context_.stream, &graph), "cudaStreamEndCapture");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t made = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  Check(made, "cudaGraphInstantiate");
  try {
    const Timing timing = Measure(
        [&] { Check(cudaGraphLaunch(executable, context_.stream), "cudaGraphLaunch"); }, options);
    cudaGraphExecDestroy(executable);
    return timing;
  } catch (...) {
    cudaGraphExecDestroy(executable);
    throw;
  }
}

}  // namespace xcomposer::cuda
