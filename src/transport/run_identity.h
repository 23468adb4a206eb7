#pragma once

#include <string>
#include <utility>
#include <vector>

#include "transport/transport.h"

namespace xcomposer {

/// What must be equal on every rank before the first step: for example "version", "plan", "config",
/// "weights", each with a short value (a hash) in the caller's order. At most 32 fields of 64 + 256
/// bytes.
struct RunIdentity {
  std::vector<std::pair<std::string, std::string>> fields;
};

/// Compares all ranks' identities. Every rank must call it, as often as every other, before the
/// first step. A
/// difference ends the transport: every rank throws the same kRank error, which names the first
/// rank that differs from rank 0, the field and both values ("rank", "field"). Throws kDeadline at
/// `until`.
void AgreeOnIdentity(Transport& transport, const RunIdentity& own, TimePoint until);

}  // namespace xcomposer
