#pragma once

#include "base/check.h"
#include "batch/batch.h"

namespace xcomposer {

/// Throws kCancelled where `stop` says that nobody wants the result any more.
inline void ThrowIfStopped(const StopTest& stop) {
  Require(!stop || !stop(), ErrorKind::kCancelled, "nobody waits for the result any more");
}

}  // namespace xcomposer
