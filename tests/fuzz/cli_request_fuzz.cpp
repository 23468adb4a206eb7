// The request files of the command line: any bytes become requests or a typed error.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "request_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    xcomposer::cli::ParseRequests(text, {}, "request");
  } catch (const xcomposer::Error&) {
  }
  return 0;
}
