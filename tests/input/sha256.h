#pragma once

#include <string>
#include <string_view>

#include "base/sha256.h"

namespace xcomposer {

/// 64 lower-case hexadecimal digits, for comparing with recorded digests.
inline std::string Sha256(std::string_view data) {
  Sha256Hasher hasher;
  hasher.Add(data);
  return hasher.Finish();
}

}  // namespace xcomposer
