#include "transport/run_identity.h"

#include <cstring>
#include <optional>

#include "base/check.h"
#include "transport/setup_frames.h"
#include "transport/wire_bytes.h"

namespace xcomposer {
namespace {

constexpr uint32_t kMaxFields = 32;
constexpr size_t kMaxName = 64;
constexpr size_t kMaxValue = 256;
constexpr ExpectedSetup kIdentity = {SetupKind::kIdentity,
                                     4 + kMaxFields*(8 + kMaxName + kMaxValue), "what it runs"};
constexpr ExpectedSetup kAgreed = {SetupKind::kAgreed, 0, "that all run the same"};

Payload Encode(const RunIdentity& identity) {
  Check(identity.fields.size() <= kMaxFields, "an identity of ", identity.fields.size(), " fields");
  WireWriter out;
  out.Put(static_cast<uint32_t>(identity.fields.size()));
  for (const auto& [name, value] : identity.fields) {
    Check(name.size() <= kMaxName && value.size() <= kMaxValue, "the identity's field ", name,
          " of ", value.size(), " bytes");
    out.PutText(name, kMaxName);
    out.PutText(value, kMaxValue);
  }
  Payload payload = Payload::Allocate(static_cast<int64_t>(out.bytes().size()));
  std::memcpy(payload.data, out.bytes().data(), out.bytes().size());
  return payload;
}

// What another rank sent: bytes from outside.
RunIdentity Decode(const Payload& payload, int rank) {
  WireReader in(payload.bytes());
  RunIdentity identity;
  const auto count = in.Get<uint32_t>();
  for (uint32_t i = 0; in.good() && i < count && i < kMaxFields; ++i) {
    std::string name = in.Text(kMaxName);
    std::string value = in.Text(kMaxValue);
    identity.fields.emplace_back(std::move(name), std::move(value));
  }
  if (!in.finished() || count > kMaxFields) {
    throw Error(ErrorKind::kTransport,
                StrCat("rank ", rank, " sent ", payload.size, " bytes that are no identity"),
                {{"rank", StrCat(rank)}});
  }
  return identity;
}

std::string Described(const RunIdentity& identity, size_t i, const std::string& name) {
  if (i >= identity.fields.size()) return "nothing";
  const auto& [own_name, value] = identity.fields[i];
  return own_name == name ? StrCat("'", value, "'") : StrCat("field '", own_name, "' instead");
}

// The first field in which rank `rank` differs from rank 0.
std::optional<Error> Difference(const RunIdentity& zero, const RunIdentity& other, int rank) {
  const size_t count = std::max(zero.fields.size(), other.fields.size());
  for (size_t i = 0; i < count; ++i) {
    if (i < zero.fields.size() && i < other.fields.size() && zero.fields[i] == other.fields[i]) {
      continue;
    }
    const std::string name = i < zero.fields.size() ? zero.fields[i].first : other.fields[i].first;
    return Error(ErrorKind::kRank,
                 StrCat("rank ", rank, " differs from rank 0 in '", name, "': rank ", rank, " has ",
                        Described(other, i, name), ", rank 0 has ", Described(zero, i, name),
                        ". Start every rank with the same program, arguments and files"),
                 {{"rank", StrCat(rank)}, {"field", name}, {"stage", "0"}, {"step", "0"}});
  }
  return std::nullopt;
}

}  // namespace

void AgreeOnIdentity(Transport& transport, const RunIdentity& own, TimePoint until) {
  if (transport.rank() != 0) {
    SendSetup(transport, 0, SetupKind::kIdentity, Encode(own));
    ReceiveSetup(transport, 0, kAgreed, until);
    return;
  }
  // All of them before the first answer: nobody may begin while one differs.
  for (int rank = 1; rank < transport.world_size(); ++rank) {
    const Payload sent = ReceiveSetup(transport, rank, kIdentity, until);
    std::optional<Error> reason;
    try {
      reason = Difference(own, Decode(sent, rank), rank);
    } catch (const Error& error) {
      reason = error;
    }
    if (!reason) continue;
    transport.Abort(*reason);
    throw Error(*transport.failure());
  }
  for (int rank = 1; rank < transport.world_size(); ++rank) {
    SendSetup(transport, rank, SetupKind::kAgreed, {});
  }
}

}  // namespace xcomposer
