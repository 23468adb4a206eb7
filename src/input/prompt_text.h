#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace xcomposer {

/// Bytes [begin, end) of a text.
struct ByteSpan {
  int64_t begin = 0;
  int64_t end = 0;
};

/// A text and the parts of it that must not act: special strings inside them are ordinary text.
struct PromptText {
  std::string text;
  std::vector<ByteSpan> literal;  ///< ascending, without overlap

  /// Text that acts.
  void Append(std::string_view more) { text += more; }

  /// Text in which special strings are ordinary characters.
  void AppendLiteral(std::string_view more);

  /// Text that acts, in front.
  void Prepend(std::string_view more);

  /// Bytes [begin, end) with the literal spans that lie in them.
  PromptText Slice(int64_t begin, int64_t end) const;
};

}  // namespace xcomposer
