#pragma once

#include <cstdint>

namespace xcomposer::api {

struct Memory {
  int64_t total = 0;
  int64_t available = 0;  ///< without pushing anybody out: the page cache counts as available
};

/// Memory of this machine, or of the control group where that allows less. Bytes.
Memory HostMemory();

}  // namespace xcomposer::api
