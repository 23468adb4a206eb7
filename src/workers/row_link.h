#pragma once

#include <cstdint>
#include <memory>

#include "transport/transport.h"
#include "workers/step.h"

namespace xcomposer {

/// Carries hidden rows between two neighbouring ranks from one GPU's memory to the other's. Which
/// rows go this way their memory decides: those of a payload with `on_device`; all others, what
/// goes wrong and every header take the transport, so that both ends always agree on what comes
/// next.
///
/// Each end belongs to the one stage thread that uses it, in the order of the steps.
class RowLink {
 public:
  virtual ~RowLink() = default;

  /// The payload is kept until its bytes have left, and must not be written to. Throws what ends
  /// the run.
  virtual void Send(const Step& step, Payload rows) = 0;

  /// The step's rows, `bytes` of them, in this rank's memory. Throws what ends the run.
  virtual Payload Receive(const Step& step, int64_t bytes) = 0;
};

/// A rank's ends towards its neighbours; absent where rows only ever lie in the host's memory.
struct RowLinks {
  std::shared_ptr<RowLink> from_previous;
  std::shared_ptr<RowLink> to_next;
};

}  // namespace xcomposer
