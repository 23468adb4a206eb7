#include "input/clean_up.h"

#include <utility>

#include "input/prefix_borders.h"

namespace xcomposer {

StreamReplacer::StreamReplacer(std::string_view pattern, std::string_view replacement)
    : pattern_(pattern), replacement_(replacement), border_(PrefixBorders(pattern)) {}

std::string StreamReplacer::Push(std::string_view text) {
  std::string out;
  for (const char c : text) {
    while (matched_ > 0 && pattern_[matched_] != c) {
      out.append(pattern_, 0, matched_ - border_[matched_]);
      matched_ = border_[matched_];
    }
    if (pattern_[matched_] != c) {
      out.push_back(c);
    } else if (++matched_ == pattern_.size()) {
      out += replacement_;
      matched_ = 0;
    }
  }
  return out;
}

std::string StreamReplacer::Finish() { return pattern_.substr(0, std::exchange(matched_, 0)); }

CleanUp::CleanUp() {
  static constexpr std::pair<std::string_view, std::string_view> kSteps[] = {
      {" .", "."},     {" ?", "?"},   {" !", "!"},   {" ,", ","},     {" ' ", "'"},
      {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [pattern, replacement] : kSteps) steps_.emplace_back(pattern, replacement);
}

std::string CleanUp::Push(std::string_view text) {
  std::string passed(text);
  for (StreamReplacer& step : steps_) passed = step.Push(passed);
  return passed;
}

std::string CleanUp::Finish() {
  std::string passed;
  for (StreamReplacer& step : steps_) {
    passed = step.Push(passed);
    passed += step.Finish();
  }
  return passed;
}

}  // namespace xcomposer
