#include "input/prompt_text.h"

#include <algorithm>

namespace xcomposer {

void PromptText::AppendLiteral(std::string_view more) {
  const auto begin = static_cast<int64_t>(text.size());
  text += more;
  if (!more.empty()) literal.push_back({begin, static_cast<int64_t>(text.size())});
}

void PromptText::Prepend(std::string_view more) {
  text.insert(0, more);
  for (ByteSpan& span : literal) {
    span.begin += static_cast<int64_t>(more.size());
    span.end += static_cast<int64_t>(more.size());
  }
}

PromptText PromptText::Slice(int64_t begin, int64_t end) const {
  PromptText slice;
  slice.text = text.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
  const auto first =
      std::upper_bound(literal.begin(), literal.end(), begin,
                       [](int64_t at, const ByteSpan& span) { return at < span.end; });
  for (auto span = first; span != literal.end() && span->begin < end; ++span) {
    const ByteSpan shifted = {std::max(span->begin, begin) - begin,
                              std::min(span->end, end) - begin};
    slice.literal.push_back(shifted);
  }
  return slice;
}

}  // namespace xcomposer
