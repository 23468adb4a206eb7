#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "support/stand_in_stage.h"
#include "workers/leader.h"

namespace xcomposer::testing {

/// Timed stand-in stages as the engine sees a model: real threads and links, no arithmetic.
class StagedExecutor final : public Executor {
 public:
  /// One stage per entry: how long a batch takes there.
  StagedExecutor(const std::vector<std::chrono::microseconds>& times, ExecutorLimits limits,
                 Timeline* timeline)
      : limits_(limits) {
    std::vector<std::unique_ptr<StageBody>> bodies;
    for (size_t stage = 0; stage < times.size(); ++stage) {
      auto body = std::make_unique<StandInStage>(static_cast<int>(stage), limits.vocab);
      body->time = times[stage];
      body->timeline = timeline;
      bodies.push_back(std::move(body));
    }
    limits_.stages = static_cast<int64_t>(times.size());
    Leader::Options options;
    options.layout = LocalLayout(static_cast<int>(times.size()));
    options.limits = limits_;
    options.hidden_bytes = sizeof(float);
    leader_ = std::make_unique<Leader>(std::move(bodies), std::move(options));
  }

  const ExecutorLimits& limits() const override { return limits_; }
  std::vector<PlacedPart> placement() const override { return {}; }
  EncodedPicture Encode(const Picture&, const std::string&, const TapSink&,
                        const StopTest&) override {
    throw Error(ErrorKind::kRequest, "stand-in stages see no pictures");
  }
  void Release(FeatureHandle) override {}
  void Submit(Batch batch) override { leader_->Submit(std::move(batch), nullptr); }
  Logits Collect() override { return leader_->Collect(); }

 private:
  ExecutorLimits limits_;
  std::unique_ptr<Leader> leader_;
};

}  // namespace xcomposer::testing
