#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace xcomposer {

/// Replaces every occurrence of one string, from the left and without overlap as Python's
/// str.replace(), in a text that comes in parts.
class StreamReplacer {
 public:
  /// `pattern` is not empty.
  StreamReplacer(std::string_view pattern, std::string_view replacement);

  /// What is certain of the text up to here; at most the beginning of a match is held back.
  std::string Push(std::string_view text);
  std::string Finish();

 private:
  std::string pattern_;
  std::string replacement_;
  std::vector<size_t> border_;  // border_[n]: longest proper border of the first n bytes
  size_t matched_ = 0;
};

/// The English clean-up of decoded text: ten replacements such as " ." by ".", one after the other,
/// each over the whole text (model specification 9). The published tokenizers always apply it.
class CleanUp {
 public:
  CleanUp();

  std::string Push(std::string_view text);
  std::string Finish();

 private:
  std::vector<StreamReplacer> steps_;
};

}  // namespace xcomposer
