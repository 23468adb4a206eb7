#include "workers/leader.h"

#include <iterator>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "workers/control.h"
#include "workers/step_coding.h"

namespace xcomposer {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::seconds kFarewell{5};

}  // namespace

Leader::Leader(std::vector<std::unique_ptr<StageBody>> bodies, Options options)
    : options_(std::move(options)) {
  StageLine::Options line = {.layout = options_.layout,
                             .transport = options_.transport.get(),
                             .hidden_bytes = options_.hidden_bytes,
                             .vocab = options_.limits.vocab,
                             .links = options_.links};
  line.on_tap = [this](const Step& step, Tap&& tap) {
    const std::lock_guard lock(mutex_);
    taps_[step.number].push_back(std::move(tap));
  };
  line.on_scored = [this](const Step& step, Scored&& scored) {
    scored_.Put({step.number, std::move(scored)});
  };
  line.on_over = [this](const Error& reason) { scored_.Fail(reason); };
  line_ = std::make_unique<StageLine>(std::move(bodies), std::move(line));
}

Leader::~Leader() {
  if (options_.transport != nullptr && !line_->failure()) SayGoodbye();
}

void Leader::Submit(Batch batch, std::shared_ptr<const void> first_stage_input) {
  line_->ThrowIfOver();
  auto step = std::make_shared<Step>();
  step->number = ++steps_;
  for (const std::string& name : options_.tap_names) {
    if (batch.taps.Wants(name)) step->taps.insert(name);
  }
  Flight flight;
  flight.put = std::move(batch.taps.put);
  batch.taps = {};
  step->batch = std::move(batch);
  step->first_stage_input = std::move(first_stage_input);
  flight.step = step;
  try {
    if (options_.transport != nullptr) Announce(*step);
    line_->Run(step);
  } catch (const std::exception& exception) {
    // Some ranks may know of the step and others not.
    const auto* error = dynamic_cast<const Error*>(&exception);
    line_->Fail(error == nullptr ? Error(ErrorKind::kInternal, exception.what()) : *error);
    line_->ThrowIfOver();
  }
  flights_.push_back(std::move(flight));
}

void Leader::Announce(const Step& step) {
  const Payload payload = EncodeStep(step);
  for (int rank = 1; rank < options_.layout.world_size(); ++rank) {
    options_.transport->Send(rank, ControlHeader(ControlKind::kStep, step.number, payload),
                             payload);
  }
}

Logits Leader::Collect() {
  Check(!flights_.empty(), "no batch is in flight");
  const Flight flight = std::move(flights_.front());
  flights_.pop_front();
  const Step& step = *flight.step;
  std::vector<Tap> taps;
  Scored scored;
  try {
    if (!step.taps.empty() && options_.transport != nullptr) taps = ReceiveTaps(step);
    scored = ReceiveScores(step);
  } catch (const Error& error) {
    line_->Fail(error);
    line_->ThrowIfOver();
  }
  std::vector<Tap> own = TakeTaps(step);
  if (scored.error) throw Error(*scored.error);
  std::move(taps.begin(), taps.end(), std::back_inserter(own));
  if (flight.put) {
    for (Tap& tap : own) flight.put(std::move(tap));
  }
  return std::move(scored.logits);
}

Scored Leader::ReceiveScores(const Step& step) {
  const int from = options_.layout.last_rank();
  if (options_.transport != nullptr && from != 0) {
    return ScoresOf(line_->Receive(from, Channel::kLogits, step), options_.limits.vocab);
  }
  auto [number, scored] = scored_.Take();
  Check(number == step.number, "scores of step ", number, ", expected ", step.number);
  return std::move(scored);
}

std::vector<Tap> Leader::TakeTaps(const Step& step) {
  const std::lock_guard lock(mutex_);
  const auto found = taps_.find(step.number);
  if (found == taps_.end()) return {};
  std::vector<Tap> taps = std::move(found->second);
  taps_.erase(found);
  return taps;
}

std::vector<Tap> Leader::ReceiveTaps(const Step& step) {
  std::vector<Tap> all;
  for (int rank = 1; rank < options_.layout.world_size(); ++rank) {
    const int stages = options_.layout.end_stage(rank) - options_.layout.first_stage(rank);
    const std::pair key(step.number, rank);
    // The stages of a rank are at different steps: what comes for a later one is kept.
    while (remote_taps_[key].stages_ended < stages) {
      const Frame frame = line_->Receive(rank, Channel::kTaps);
      const uint64_t number = frame.header.step;
      Require(number >= step.number && number <= steps_, ErrorKind::kTransport, "rank ", rank,
              " sent a tensor of step ", number, ", in flight are ", step.number, " to ", steps_);
      RemoteTaps& taps = remote_taps_[{number, rank}];
      if (frame.header.kind == static_cast<uint16_t>(FrameKind::kTapsEnd)) {
        ++taps.stages_ended;
      } else {
        taps.taps.push_back(DecodeTap(frame.payload.bytes()));
      }
    }
    RemoteTaps taps = std::move(remote_taps_[key]);
    remote_taps_.erase(key);
    std::move(taps.taps.begin(), taps.taps.end(), std::back_inserter(all));
  }
  return all;
}

void Leader::SayGoodbye() noexcept {
  const auto until = steady_clock::now() + kFarewell;
  try {
    Transport& transport = *options_.transport;
    for (int rank = 1; rank < options_.layout.world_size(); ++rank) {
      transport.Send(rank, ControlHeader(ControlKind::kEnd, 0, {}), {});
    }
    for (int rank = 1; rank < options_.layout.world_size(); ++rank) {
      transport.Receive(rank, Channel::kControl, until);  // kBye; nothing else is expected
    }
  } catch (const Error& error) {
    log::Debug("a rank was gone before the end of the run: ", error.what());
  }
}

}  // namespace xcomposer
