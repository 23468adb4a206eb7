// Everything that comes from other ranks or from the store. The first byte chooses what is read.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <span>
#include <string>

#include "transport/addresses.h"
#include "transport/frame_codec.h"
#include "transport/in_process.h"
#include "transport/link_messages.h"
#include "transport/loss_notice.h"
#include "transport/run_identity.h"
#include "transport/stage_shares.h"

namespace {

using namespace xcomposer;

// What was accepted must be within the limits and say the same when written again.
void Insist(bool condition) {
  if (!condition) std::abort();
}

FrameLimits Limits() {
  FrameLimits limits;
  limits.nonce.fill(std::byte{7});
  limits.world_size = 3;
  limits.max_rows = 1 << 20;
  limits.max_payload_bytes = int64_t{1} << 30;
  return limits;
}

void ReadHeader(std::span<const std::byte> bytes) {
  const FrameLimits limits = Limits();
  const std::optional<WireHeader> header = DecodeHeader(bytes, limits);
  if (!header) return;
  Insist(header->from < limits.world_size && header->frame.rows <= limits.max_rows);
  Insist(header->frame.payload_bytes >= 0 &&
         header->frame.payload_bytes <= limits.max_payload_bytes);
  const auto again = EncodeHeader(*header, limits.nonce);
  Insist(std::equal(again.begin(), again.end(), bytes.begin(), bytes.end()));
}

void ReadIdentity(std::span<const std::byte> bytes) {
  const auto ranks = MakeInProcessTransports(2);
  FrameHeader header;
  header.channel = Channel::kSetup;
  header.kind = 1;
  header.payload_bytes = static_cast<int64_t>(bytes.size());
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  ranks[1]->Send(0, header, Payload::Of(text));
  AgreeOnIdentity(*ranks[0], {{{"version", "1"}}}, std::chrono::steady_clock::now());
}

void Read(uint8_t what, std::span<const std::byte> bytes) {
  switch (what % 8) {
    case 0:
      return ReadHeader(bytes);
    case 1:
      Insist(DecodeHello(EncodeHello(DecodeHello(bytes)).bytes()) == DecodeHello(bytes));
      return;
    case 2:
      Insist(DecodeCredit(EncodeCredit(DecodeCredit(bytes)).bytes()) == DecodeCredit(bytes));
      return;
    case 3: {
      const Error reason = DecodeReason(bytes);
      const Error again = DecodeReason(EncodeReason(reason).bytes());
      Insist(again.kind() == reason.kind() && again.where() == reason.where());
      return;
    }
    case 4:
      return ReadIdentity(bytes);
    case 5:
      AddressOfEndpoint({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
      return;
    case 6: {
      const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      const std::optional<LossNotice> notice = DecodeNotice(text, 1000);
      Insist(!notice || (notice->rank >= 0 && notice->rank < 1000));
      return;
    }
    default: {
      const Payload again = EncodeShares(DecodeShares(bytes, bytes.size() / 16));
      Insist(std::equal(bytes.begin(), bytes.end(), again.bytes().begin(), again.bytes().end()));
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  try {
    Read(data[0], std::as_bytes(std::span(data + 1, size - 1)));
  } catch (const Error& error) {
    // Every refusal is one of these; a defect of our own is none.
    Insist(error.kind() == ErrorKind::kTransport || error.kind() == ErrorKind::kRank);
  }
  return 0;
}
