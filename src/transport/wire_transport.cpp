#include "transport/wire_transport.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "transport/send_check.h"

namespace xcomposer {
namespace {

using std::chrono::steady_clock;

FrameLimits LimitsOf(const WireOptions& options) {
  FrameLimits limits;
  limits.nonce = options.nonce;
  limits.world_size = options.world_size;
  limits.max_rows = options.transport.max_rows;
  limits.max_payload_bytes = options.transport.max_payload_bytes;
  return limits;
}

WindowLimits WindowOf(const TransportOptions& options) {
  return {static_cast<uint64_t>(options.window_bytes),
          static_cast<uint64_t>(options.window_frames)};
}

Error AnyErrorOf(const std::exception& error) {
  const auto* own = dynamic_cast<const Error*>(&error);
  return own != nullptr ? *own : Error(ErrorKind::kTransport, error.what());
}

}  // namespace

WireTransport::WireTransport(std::unique_ptr<Links> links, const WireOptions& options)
    : options_(options),
      limits_(LimitsOf(options)),
      links_(std::move(links)),
      lanes_(static_cast<size_t>(options.world_size)),
      watch_(options.rank, options.world_size, options.transport.rank_timeout),
      service_([this] { Serve(); }) {}

WireTransport::~WireTransport() {
  const Error farewell = watch_.Lost(options_.rank, "this rank left the run");
  if (inbox_.Fail(farewell)) Tell(LinkMessage::kFarewell, {});
  stopping_ = true;
  links_->Wake();
  service_.join();
}

WireTransport::Lane& WireTransport::lane(int rank, Channel channel) {
  return lanes_.at(static_cast<size_t>(rank)).at(static_cast<size_t>(channel));
}

// --- Connecting ----------------------------------------------------------------------------------

void WireTransport::AddPeer(int rank, const std::string& endpoint) {
  Check(rank != options_.rank && rank >= 0 && rank < options_.world_size, "peer ", rank,
        " of rank ", options_.rank);
  links_->Connect(rank, endpoint);
  watch_.Added(rank, endpoint);
  // Who is found after the end hears its reason too.
  if (const std::optional<Error> reason = failure()) {
    SendLinkMessage(rank, LinkMessage::kAbort, EncodeReason(*reason));
  }
}

void WireTransport::SayHello() {
  const WindowLimits window = WindowOf(options_.transport);
  Tell(LinkMessage::kHello,
       EncodeHello({static_cast<uint32_t>(options_.world_size), window.bytes, window.frames}));
}

void WireTransport::WaitUntilConnected(TimePoint until) {
  if (watch_.WaitForHellos(until)) return;
  // A rank may have been lost so shortly before that its silence does not tell yet.
  if (watch_.AllSeemAlive(steady_clock::now()) &&
      watch_.WaitForHellos(until + watch_.suspicion() + watch_.beat())) {
    return;
  }
  if (const std::optional<Error> reason = failure()) throw Error(*reason);
  const std::optional<Error> missing = watch_.MissingHellos(steady_clock::now());
  if (!missing) return;
  Abort(*missing);
  throw Error(*failure());
}

void WireTransport::CheckHello(int from, const Hello& hello) const {
  const WindowLimits window = WindowOf(options_.transport);
  const auto compare = [&](const char* field, uint64_t theirs, uint64_t ours) {
    if (theirs == ours) return;
    throw Error(ErrorKind::kTransport,
                StrCat("rank ", from, " was started with ", field, " ", theirs, ", rank ",
                       options_.rank, " with ", ours),
                {{"rank", StrCat(from)}, {"field", field}});
  };
  compare("world size", hello.world_size, static_cast<uint64_t>(options_.world_size));
  compare("window bytes", hello.window_bytes, window.bytes);
  compare("window frames", hello.window_frames, window.frames);
}

// --- Sending -------------------------------------------------------------------------------------

void WireTransport::Send(int to, const FrameHeader& header, Payload payload) {
  CheckFrameToSend(to, options_.world_size, header, payload);
  Check(payload.size <= limits_.max_payload_bytes && header.rows <= limits_.max_rows &&
            header.stage < limits_.max_stages,
        "a frame of ", header.rows, " rows and ", payload.size, " bytes at stage ", header.stage,
        ", more than its receiver accepts");
  if (const std::optional<Error> reason = failure()) throw Error(*reason);
  if (to == options_.rank) {
    inbox_.Put(to, {header, std::move(payload)});
    return;
  }
  step_ = header.step;
  stage_ = header.stage;
  Lane& lane = this->lane(to, header.channel);
  const TimePoint until = steady_clock::now() + options_.transport.send_timeout;
  if (!lane.window.Reserve(WindowOf(options_.transport), static_cast<uint64_t>(payload.size),
                           until)) {
    if (const std::optional<Error> reason = failure()) throw Error(*reason);
    Abort(Error(
        ErrorKind::kTransport,
        StrCat("rank ", to, " lives but took nothing that rank ", options_.rank, " sent for ",
               options_.transport.send_timeout.count() / 1000, " s"),
        {{"rank", StrCat(to)}, {"stage", StrCat(header.stage)}, {"step", StrCat(header.step)}}));
    throw Error(*failure());
  }
  const std::lock_guard lock(lane.sending);
  const WireHeader wire{header, options_.rank, lane.next_sequence++};
  const bool queued =
      links_->Send(to, header.channel, EncodeHeader(wire, limits_.nonce), std::move(payload));
  if (queued) return;
  Abort(watch_.Lost(to, "there is no connection to it any more"));
  throw Error(*failure());
}

void WireTransport::SendLinkMessage(int to, LinkMessage message, Payload payload) {
  FrameHeader header;
  header.channel = kLinkChannel;
  header.kind = static_cast<uint16_t>(message);
  header.stage = stage_;
  header.step = step_;
  header.payload_bytes = payload.size;
  Lane& lane = this->lane(to, kLinkChannel);
  const std::lock_guard lock(lane.sending);
  const WireHeader wire{header, options_.rank, lane.next_sequence};
  // Without a connection the rank will be found lost; what it would have heard is not missed.
  if (links_->Send(to, kLinkChannel, EncodeHeader(wire, limits_.nonce), std::move(payload))) {
    ++lane.next_sequence;
  }
}

void WireTransport::Tell(LinkMessage message, const Payload& payload) {
  for (const int rank : watch_.added()) SendLinkMessage(rank, message, payload);
}

void WireTransport::Abort(const Error& reason) {
  if (!inbox_.Fail(reason)) return;
  Tell(LinkMessage::kAbort, EncodeReason(reason));
  for (Lanes& lanes : lanes_) {
    for (Lane& lane : lanes) lane.window.Close();
  }
  watch_.Close();
}

// --- Receiving -----------------------------------------------------------------------------------

std::optional<Frame> WireTransport::Receive(int from, Channel channel, TimePoint until) {
  Check(from >= 0 && from < options_.world_size, "a frame from rank ", from, " of ",
        options_.world_size);
  std::optional<Frame> frame = inbox_.Take(from, channel, until);
  if (!frame || from == options_.rank) return frame;
  const std::optional<WindowCount> taken =
      lane(from, channel)
          .ledger.Taken(WindowOf(options_.transport), static_cast<uint64_t>(frame->payload.size));
  if (taken) {
    SendLinkMessage(from, LinkMessage::kCredit,
                    EncodeCredit({channel, taken->frames, taken->bytes}));
  }
  return frame;
}

void WireTransport::OnFrame(LinkFrame frame) {
  if (failure()) return;
  try {
    const std::optional<WireHeader> header = DecodeHeader(frame.header, limits_);
    if (!header) {
      log::Debug("a message that is no frame of this run was dropped");
      return;
    }
    const int from = header->from;
    const auto require = [&](bool condition, const auto&... message) {
      if (condition) return;
      throw Error(ErrorKind::kTransport, StrCat("rank ", from, " ", message...),
                  {{"rank", StrCat(from)}});
    };
    require(from != options_.rank, "has two processes: this one got a frame that it did not send");
    require(!frame.proven_rank || *frame.proven_rank == from, "is named in a frame of rank ",
            frame.proven_rank.value_or(-1));
    require(frame.payload.size == header->frame.payload_bytes, "promised ",
            header->frame.payload_bytes, " bytes and sent ", frame.payload.size);
    Lane& lane = this->lane(from, header->frame.channel);
    require(header->sequence == lane.expected_sequence, "sent frame ", header->sequence,
            " of channel ", static_cast<int>(header->frame.channel), " where ",
            lane.expected_sequence, " was due: frames were lost");
    ++lane.expected_sequence;
    watch_.Heard(from, header->frame.stage, header->frame.step, steady_clock::now());
    Accept(*header, std::move(frame.payload));
  } catch (const Error& error) {
    Abort(error);
  }
}

void WireTransport::Accept(const WireHeader& header, Payload payload) {
  if (header.frame.channel == kLinkChannel) {
    try {
      HandleLinkMessage(header, payload);
    } catch (const Error& error) {
      throw error.With("rank", StrCat(header.from));
    }
    return;
  }
  const bool allowed =
      lane(header.from, header.frame.channel)
          .ledger.Arrived(WindowOf(options_.transport), static_cast<uint64_t>(payload.size));
  if (!allowed) {
    throw Error(ErrorKind::kTransport,
                StrCat("rank ", header.from, " sends more than the window allows"),
                {{"rank", StrCat(header.from)}});
  }
  inbox_.Put(header.from, {header.frame, std::move(payload)});
}

void WireTransport::HandleLinkMessage(const WireHeader& header, const Payload& payload) {
  const std::span<const std::byte> bytes = payload.bytes();
  switch (static_cast<LinkMessage>(header.frame.kind)) {
    case LinkMessage::kHello:
      CheckHello(header.from, DecodeHello(bytes));
      watch_.SaidHello(header.from);
      return;
    case LinkMessage::kHeartbeat:
      return;
    case LinkMessage::kCredit: {
      const Credit credit = DecodeCredit(bytes);
      lane(header.from, credit.channel).window.Acknowledge({credit.bytes, credit.frames});
      return;
    }
    case LinkMessage::kAbort:
      Abort(DecodeReason(bytes));
      return;
    case LinkMessage::kFarewell:
      Abort(watch_.Lost(header.from, "it left the run"));
      return;
  }
  throw Error(ErrorKind::kTransport,
              StrCat("rank ", header.from, " sent a message of unknown kind ", header.frame.kind));
}

void WireTransport::OnEvent(const LinkEvent& event) { watch_.Saw(event, steady_clock::now()); }

void WireTransport::Serve() {
  TimePoint next_beat = steady_clock::now();
  while (!stopping_ && !failure()) {
    try {
      const TimePoint now = steady_clock::now();
      if (now >= next_beat) {
        Tell(LinkMessage::kHeartbeat, {});
        next_beat = now + watch_.beat();
      }
      links_->Poll(std::min(next_beat, watch_.NextJudgement(now)), *this);
      if (failure()) break;
      if (const std::optional<Error> lost = watch_.Judge(steady_clock::now())) Abort(*lost);
    } catch (const std::exception& error) {
      Abort(AnyErrorOf(error));
    }
  }
  FallSilent();
}

void WireTransport::FallSilent() {
  // A rank that the reason does not reach sees that this one listens no more. Not at once: the
  // reason should be the first that the others hear.
  const TimePoint until = steady_clock::now() + watch_.closing_grace();
  while (!stopping_ && steady_clock::now() < until) {
    try {
      links_->Poll(until, *this);  // what comes is thrown away
    } catch (const std::exception& error) {
      log::Debug("after the end of the run: ", error.what());
      break;
    }
  }
  if (!stopping_) links_->StopReceiving();
}

}  // namespace xcomposer
