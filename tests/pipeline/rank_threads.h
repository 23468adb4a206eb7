#pragma once

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "model/weight_scope.h"
#include "pipeline/pipeline.h"
#include "pipeline/rank_server.h"
#include "transport/in_process.h"

namespace xcomposer {

/// A pipeline whose ranks are threads of this process, each with weights of its own.
class RankThreads {
 public:
  using MakeWeights = std::function<std::unique_ptr<WeightSource>()>;

  /// `rank_of_stage` must ascend.
  RankThreads(const MakeWeights& weights, const ModelConfig& config, const DeviceMap& map,
              PipelineOptions options, std::vector<int> rank_of_stage) {
    const int world = rank_of_stage.back() + 1;
    options.rank_of_stage = std::move(rank_of_stage);
    options.threads = 1;
    std::vector<std::shared_ptr<Transport>> transports;
    for (auto& transport : MakeInProcessTransports(world)) {
      transports.push_back(std::move(transport));
    }
    failures_.resize(static_cast<size_t>(world));
    for (int rank = 1; rank < world; ++rank) {
      PipelineOptions own = options;
      own.transport = transports[static_cast<size_t>(rank)];
      threads_.emplace_back([this, rank, own, config, map, weights] {
        try {
          ServeStages(*weights(), config, map, own, {});
        } catch (const std::exception& error) {
          failures_[static_cast<size_t>(rank)] = error.what();
        }
      });
    }
    if (world > 1) options.transport = transports[0];
    transports.clear();  // each rank holds its own, so that it leaves when the rank does
    try {
      pipeline_ = std::make_unique<Pipeline>(*weights(), config, map, options);
    } catch (...) {
      options.transport.reset();
      Join();
      throw;
    }
  }
  ~RankThreads() { Join(); }

  Pipeline& pipeline() { return *pipeline_; }

  /// Ends the run; what made a rank fail, by rank.
  const std::vector<std::string>& Join() {
    pipeline_.reset();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    return failures_;
  }

 private:
  std::unique_ptr<Pipeline> pipeline_;
  std::vector<std::thread> threads_;
  std::vector<std::string> failures_;
};

}  // namespace xcomposer
