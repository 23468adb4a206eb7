#include "transport/setup_frames.h"

#include <optional>
#include <utility>

#include "base/check.h"

namespace xcomposer {
namespace {

[[noreturn]] void End(Transport& transport, int from, ErrorKind kind, const std::string& message) {
  const Error reason(kind, message, {{"rank", StrCat(from)}, {"stage", "0"}, {"step", "0"}});
  transport.Abort(reason);
  throw Error(transport.failure().value_or(reason));
}

}  // namespace

void SendSetup(Transport& transport, int to, SetupKind kind, Payload payload) {
  FrameHeader header;
  header.channel = Channel::kSetup;
  header.kind = static_cast<uint16_t>(kind);
  header.payload_bytes = payload.size;
  transport.Send(to, header, std::move(payload));
}

Payload ReceiveSetup(Transport& transport, int from, const ExpectedSetup& expected,
                     TimePoint until) {
  std::optional<Frame> frame = transport.Receive(from, Channel::kSetup, until);
  if (!frame) {
    End(transport, from, ErrorKind::kDeadline,
        StrCat("rank ", from, " did not send ", expected.what, " in time"));
  }
  const auto kind = static_cast<uint16_t>(expected.kind);
  if (frame->header.kind != kind || frame->payload.size > expected.most_bytes) {
    End(transport, from, ErrorKind::kTransport,
        StrCat("rank ", from, " sent a frame of kind ", frame->header.kind, " and ",
               frame->payload.size, " bytes, expected ", expected.what, ": kind ", kind,
               " and at most ", expected.most_bytes, " bytes"));
  }
  return std::move(frame->payload);
}

}  // namespace xcomposer
