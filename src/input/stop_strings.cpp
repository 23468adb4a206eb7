#include "input/stop_strings.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/utf8.h"
#include "input/prefix_borders.h"

namespace xcomposer {

StopStrings::StopStrings(const std::vector<std::string>& strings) {
  for (const std::string& text : strings) {
    Require(IsValidUtf8(text), ErrorKind::kRequest, "a stop string is not valid UTF-8");
    if (!text.empty()) candidates_.push_back({text, PrefixBorders(text)});
  }
  // The longest first: of several that end together it begins first.
  std::stable_sort(candidates_.begin(), candidates_.end(),
                   [](const auto& a, const auto& b) { return a.text.size() > b.text.size(); });
}

std::string StopStrings::Push(std::string_view text) {
  std::string out;
  if (found_) return out;
  held_ += text;
  const size_t first_new = held_.size() - text.size();
  for (size_t i = first_new; i < held_.size(); ++i) {
    for (Candidate& candidate : candidates_) {
      size_t& matched = candidate.matched;
      while (matched > 0 && candidate.text[matched] != held_[i])
        matched = candidate.border[matched];
      if (candidate.text[matched] != held_[i]) continue;
      if (++matched < candidate.text.size()) continue;
      out = held_.substr(0, i + 1 - matched);
      found_ = candidate.text;
      held_.clear();
      return out;
    }
  }
  size_t keep = 0;
  for (const Candidate& candidate : candidates_) keep = std::max(keep, candidate.matched);
  out = held_.substr(0, held_.size() - keep);
  held_.erase(0, out.size());
  return out;
}

std::string StopStrings::Finish() { return std::exchange(held_, {}); }

}  // namespace xcomposer
