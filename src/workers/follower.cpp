#include "workers/follower.h"

#include <optional>
#include <utility>

#include "base/check.h"
#include "workers/control.h"
#include "workers/step_coding.h"

namespace xcomposer {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLook{50};
constexpr std::chrono::seconds kPatience{2};  // Ctrl-C reaches all ranks; rank 0 needs time to end
constexpr std::chrono::seconds kFarewell{5};

}  // namespace

Follower::Follower(std::vector<std::unique_ptr<StageBody>> bodies, Options options)
    : options_(std::move(options)),
      line_(std::move(bodies), {.layout = options_.layout,
                                .transport = options_.transport.get(),
                                .hidden_bytes = options_.hidden_bytes,
                                .vocab = options_.limits.vocab,
                                .links = options_.links}) {}

void Follower::Serve(const std::function<bool()>& stop) {
  const int rank = options_.transport->rank();
  std::optional<TimePoint> asked;
  try {
    for (;;) {
      line_.ThrowIfOver();
      if (stop && !asked && stop()) asked = steady_clock::now();
      Require(!asked || steady_clock::now() < *asked + kPatience, ErrorKind::kCancelled, "rank ",
              rank, " was asked to end");
      const std::optional<Frame> frame =
          options_.transport->Receive(0, Channel::kControl, steady_clock::now() + kLook);
      if (!frame) continue;
      if (frame->header.kind == static_cast<uint16_t>(ControlKind::kEnd)) break;
      Require(frame->header.kind == static_cast<uint16_t>(ControlKind::kStep),
              ErrorKind::kTransport, "rank 0 sent a control frame of unknown kind ",
              frame->header.kind);
      RunStep(*frame);
    }
  } catch (const Error& error) {
    line_.Fail(error.With("rank", StrCat(rank)));
    line_.ThrowIfOver();
  }
  SayGoodbye();
}

void Follower::RunStep(const Frame& frame) {
  const ExecutorLimits& limits = options_.limits;
  auto step = std::make_shared<Step>(DecodeStep(frame.header.step, frame.payload.bytes(),
                                                {.rows = limits.max_batch_rows,
                                                 .blocks = limits.kv_blocks,
                                                 .block_size = limits.block_size,
                                                 .vocab = limits.vocab}));
  if (options_.check) options_.check(step->batch);
  line_.Run(step);
}

void Follower::SayGoodbye() {
  try {
    options_.transport->Send(0, ControlHeader(ControlKind::kBye, 0, {}), {});
    // Leaving before rank 0 would look like a loss to ranks that have not read of the end yet.
    const TimePoint until = steady_clock::now() + kFarewell;
    while (!options_.transport->failure() && steady_clock::now() < until) {
      options_.transport->Receive(0, Channel::kControl, steady_clock::now() + kLook);
    }
  } catch (const Error&) {
    // Rank 0 has left: the run is over, as it said.
  }
}

}  // namespace xcomposer
