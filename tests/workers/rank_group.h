#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/stand_in_stage.h"
#include "transport/in_process.h"
#include "workers/follower.h"
#include "workers/leader.h"

namespace xcomposer::testing {

/// Ranks as threads of this process: rank 0 is the test, the others serve stand-in stages.
class RankGroup {
 public:
  using Spoil = std::function<void(int stage, StandInStage*)>;

  /// `links` gives each rank its ends of links from GPU to GPU.
  explicit RankGroup(std::vector<int> rank_of_stage, const Spoil& spoil = {},
                     const std::function<RowLinks(int rank)>& links = {}) {
    const int stages = static_cast<int>(rank_of_stage.size());
    const int world = rank_of_stage.back() + 1;
    const StageLayout layout(std::move(rank_of_stage), world);
    for (auto& transport : MakeInProcessTransports(world))
      transports.push_back(std::move(transport));
    ends.resize(static_cast<size_t>(world));
    const auto bodies = [&](int rank) {
      std::vector<std::unique_ptr<StageBody>> made;
      for (int stage = layout.first_stage(rank); stage < layout.end_stage(rank); ++stage) {
        auto body = std::make_unique<StandInStage>(stage, StandInLimits(stages).vocab);
        if (spoil) spoil(stage, body.get());
        made.push_back(std::move(body));
      }
      return made;
    };
    for (int rank = 1; rank < world; ++rank) {
      Follower::Options options;
      options.layout = layout;
      options.transport = transports[static_cast<size_t>(rank)];
      options.limits = StandInLimits(stages);
      options.hidden_bytes = sizeof(float);
      if (links) options.links = links(rank);
      threads_.emplace_back([this, rank, options, made = bodies(rank)]() mutable {
        try {
          Follower(std::move(made), options).Serve([this] { return stop.load(); });
        } catch (const Error& error) {
          ends[static_cast<size_t>(rank)] = error;
        }
      });
    }
    Leader::Options options;
    options.layout = layout;
    if (world > 1) options.transport = transports[0];
    options.limits = StandInLimits(stages);
    options.hidden_bytes = sizeof(float);
    if (links) options.links = links(0);
    for (int stage = 0; stage < stages; ++stage) {
      options.tap_names.push_back(StrCat("layer", stage, ".out"));
    }
    leader = std::make_unique<Leader>(bodies(0), std::move(options));
  }

  ~RankGroup() { Join(); }

  /// Ends the run and waits for all ranks.
  void Join() {
    leader.reset();
    if (!transports.empty()) transports[0].reset();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

  std::vector<float> Forward(Batch batch) {
    leader->Submit(std::move(batch), nullptr);
    return leader->Collect().values;
  }

  std::vector<std::shared_ptr<Transport>> transports;  // by rank
  std::unique_ptr<Leader> leader;
  std::vector<std::optional<Error>> ends;  // by rank: why it did not end well
  std::atomic<bool> stop{false};

 private:
  std::vector<std::thread> threads_;
};

}  // namespace xcomposer::testing
