#include "workers/stage_line.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace xcomposer {
namespace {

/// Of rank 0 of two. Nothing can be sent; telling the others takes a while.
class LostTransport final : public Transport {
 public:
  int rank() const override { return 0; }
  int world_size() const override { return 2; }
  void Send(int, const FrameHeader&, Payload) override {
    throw Error(ErrorKind::kRank, "rank 1 was lost", {{"rank", "1"}});
  }
  std::optional<Frame> Receive(int, Channel, TimePoint until) override {
    std::this_thread::sleep_until(until);
    return std::nullopt;
  }
  void Abort(const Error&) override {
    telling = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  std::optional<Error> failure() const override { return std::nullopt; }

  std::atomic<bool> telling{false};
};

class SmallStage final : public StageBody {
 public:
  Payload Run(const Step&, Payload, const TapSink&) override { return Payload::Allocate(16); }
  Logits Score(const Step&, Payload, const TapSink&) override { return {}; }
};

TEST(StageLine, EndsWhileOneOfItsThreadsTellsTheOthersOfAFailure) {
  LostTransport transport;
  std::vector<std::unique_ptr<StageBody>> bodies;
  for (int i = 0; i < 2; ++i) bodies.push_back(std::make_unique<SmallStage>());
  // The last stage here fails as it sends. Freed memory shows to the sanitizers only.
  auto line = std::make_unique<StageLine>(std::move(bodies),
                                          StageLine::Options{.layout = StageLayout({0, 0, 1}, 2),
                                                             .transport = &transport,
                                                             .hidden_bytes = 16,
                                                             .vocab = 4});
  auto step = std::make_shared<Step>();
  step->number = 1;
  step->batch.ids = {0};
  line->Run(step);
  while (!transport.telling) std::this_thread::yield();
  line.reset();
}

}  // namespace
}  // namespace xcomposer
