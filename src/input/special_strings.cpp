#include "input/special_strings.h"

namespace xcomposer {

void SpecialStrings::Add(const std::string& text, int32_t id) {
  if (text.empty()) return;
  const auto [entry, is_new] = names_.emplace(text, id);
  if (!is_new) return;
  ids_.emplace(entry->first, id);
  first_bytes_.set(static_cast<uint8_t>(text.front()));
  last_bytes_[text.size()].set(static_cast<uint8_t>(text.back()));
}

std::optional<SpecialStrings::Match> SpecialStrings::At(std::string_view text,
                                                        int64_t position) const {
  const std::string_view rest = text.substr(static_cast<size_t>(position));
  if (rest.empty() || !first_bytes_[static_cast<uint8_t>(rest.front())]) return std::nullopt;
  for (const auto& [length, last_bytes] : last_bytes_) {
    if (length > rest.size() || !last_bytes[static_cast<uint8_t>(rest[length - 1])]) continue;
    const auto found = ids_.find(rest.substr(0, length));
    if (found != ids_.end()) return Match{static_cast<int64_t>(length), found->second};
  }
  return std::nullopt;
}

}  // namespace xcomposer
