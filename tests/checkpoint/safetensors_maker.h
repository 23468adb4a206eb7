#pragma once

#include <string>
#include <string_view>

#include "checkpoint/little_endian.h"

namespace xcomposer::testing_support {

/// A safetensors file of this header and these data bytes, whatever they say.
inline std::string MakeSafetensors(std::string_view header, std::string_view data) {
  return LittleEndian(header.size(), 8) + std::string(header) + std::string(data);
}

/// A file with the float32 tensors "a" of shape [2] and "b" of shape [1, 3].
inline std::string GoodSafetensors() {
  return MakeSafetensors(
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[1,3],"data_offsets":[8,20]},)"
      R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  )",
      std::string("abcdefgh") + "0123456789AB");
}

}  // namespace xcomposer::testing_support
