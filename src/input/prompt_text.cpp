#include "input/prompt_text.h"

#include <algorithm>

namespace xcomposer {

void PromptText::AppendLiteral(std::string_view more) {
  const auto begin = static_cast<int64_t>(text.size());
  text += more;
  if (!more.empty()) literal.push_back({begin, static_cast<int64_t>(text.size())});
}

PromptText PromptText::Slice(int64_t begin, int64_t end) const {
  PromptText slice;
  slice.text = text.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
  for (const ByteSpan& span : literal) {
    const ByteSpan shifted = {std::max(span.begin, begin) - begin, std::min(span.end, end) - begin};
    if (shifted.begin < shifted.end) slice.literal.push_back(shifted);
  }
  return slice;
}

}  // namespace xcomposer
