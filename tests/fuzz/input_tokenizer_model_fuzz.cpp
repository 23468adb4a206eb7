// A hostile tokenizer.model: whatever the parser accepts must not harm the library behind it.
#include <cstdint>
#include <string_view>

#include "input/tokenizer.h"
#include "xcomposer/error.h"

namespace {

constexpr std::string_view kTexts[] = {"", "a", "abab ab[UNUSED_TOKEN_145]<s>\n",
                                       "\xE4\xBD\xA0\xFF"};

void Exercise(const xcomposer::CheckpointTokenizer& tokenizer) {
  for (const std::string_view text : kTexts) {
    tokenizer.DecodeAsPython(tokenizer.Encode(text));
    tokenizer.Decode(tokenizer.EncodeAsPython(text));
  }
  for (int32_t id = 0; id < tokenizer.size(); ++id) {
    const int32_t ids[] = {id, id};
    tokenizer.Decode(ids);
    tokenizer.Encode(tokenizer.IdToPiece(id));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    Exercise({std::string_view(reinterpret_cast<const char*>(data), size), {}});
  } catch (const xcomposer::Error&) {
    // Refused, as most inputs are.
  }
  return 0;
}
