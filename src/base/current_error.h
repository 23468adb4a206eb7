#pragma once

#include "xcomposer/error.h"

namespace xcomposer {

/// The exception in flight as one of ours: kCapacity for a failed allocation
/// or a thread that cannot be had, kInternal for what
/// nobody foresaw. Only inside of a catch clause.
Error CurrentError();

}  // namespace xcomposer
