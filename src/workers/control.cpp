#include "workers/control.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace xcomposer {
namespace {

void SendValue(Transport& transport, int to, int64_t value, int stage) {
  Payload payload = Payload::Allocate(sizeof(value));
  std::memcpy(payload.data, &value, sizeof(value));
  FrameHeader header = ControlHeader(ControlKind::kValue, 0, payload);
  header.stage = static_cast<uint32_t>(stage);
  transport.Send(to, header, std::move(payload));
}

int64_t ReceiveValue(Transport& transport, int from, TimePoint until) {
  std::optional<Frame> frame = transport.Receive(from, Channel::kControl, until);
  Require(frame.has_value(), ErrorKind::kDeadline, "rank ", from, " did not get ready in time");
  int64_t value = 0;
  Require(frame->header.kind == static_cast<uint16_t>(ControlKind::kValue) &&
              frame->payload.size == sizeof(value),
          ErrorKind::kTransport, "rank ", from, " sent a control frame of kind ",
          frame->header.kind, " and ", frame->payload.size, " bytes, expected a value");
  std::memcpy(&value, frame->payload.data, sizeof(value));
  return value;
}

}  // namespace

FrameHeader ControlHeader(ControlKind kind, uint64_t step, const Payload& payload) {
  FrameHeader header;
  header.channel = Channel::kControl;
  header.kind = static_cast<uint16_t>(kind);
  header.step = step;
  header.payload_bytes = payload.size;
  return header;
}

int64_t AgreeOnLeast(Transport& transport, OwnValue own, TimePoint until) {
  if (transport.rank() != 0) {
    SendValue(transport, 0, own.value, own.stage);
    return ReceiveValue(transport, 0, until);
  }
  int64_t least = own.value;
  for (int rank = 1; rank < transport.world_size(); ++rank) {
    least = std::min(least, ReceiveValue(transport, rank, until));
  }
  for (int rank = 1; rank < transport.world_size(); ++rank) SendValue(transport, rank, least, 0);
  return least;
}

}  // namespace xcomposer
