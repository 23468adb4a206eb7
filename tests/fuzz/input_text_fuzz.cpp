// Arbitrary bytes as text and as ids of a small tokenizer; the laws that tests state for chosen
// texts.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/utf8.h"
#include "input/detokenizer.h"
#include "input/tiny_tokenizer.h"
#include "input/tokenizer.h"

namespace {

using xcomposer::CheckpointTokenizer;

void Demand(bool holds) {
  if (!holds) std::abort();
}

void CheckText(const CheckpointTokenizer& tokenizer, std::string_view text) {
  const bool comes_back = xcomposer::IsValidUtf8(text) && text.find("\xE2\x96\x81") == text.npos;
  const std::vector<int32_t> ids = tokenizer.Encode(text);
  if (comes_back) Demand(tokenizer.Decode(ids) == text);
  tokenizer.EncodeAsPython(text);
  xcomposer::PromptText literal;
  literal.AppendLiteral(text);
  const std::vector<int32_t> spelled = tokenizer.EncodePrompt(literal);
  for (const int32_t id : spelled)
    Demand(!tokenizer.IsSpecial(id) && id != *tokenizer.turn_end_id());
  if (comes_back) Demand(tokenizer.Decode(spelled) == text);
}

void CheckStream(const CheckpointTokenizer& tokenizer, std::string_view bytes) {
  std::vector<int32_t> ids;
  for (const char byte : bytes) {
    // Both ends of the vocabulary: controls and bytes, and what comes after them.
    const auto value = static_cast<uint8_t>(byte);
    ids.push_back(value % 2 == 0 ? value / 2 + 130
                                 : static_cast<int32_t>(tokenizer.size()) - 1 - value / 2);
  }
  xcomposer::IncrementalDetokenizer stream(tokenizer);
  std::string joined;
  for (const int32_t id : ids) {
    const std::string part = stream.Push(id).text;
    Demand(xcomposer::IsValidUtf8(part));
    joined += part;
  }
  joined += stream.Finish().text;
  Demand(joined == xcomposer::AnswerText(tokenizer, ids));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string model = xcomposer::TinyTokenizer().Bytes();
  static const CheckpointTokenizer stripping(model, {});
  static const CheckpointTokenizer named(
      model, {.strips_around_specials = false, .has_named_markers = true});
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  CheckText(stripping, bytes);
  CheckText(named, bytes);
  CheckStream(stripping, bytes);
  return 0;
}
