#pragma once

#include <cstdint>
#include <string_view>

namespace xcomposer {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

/// What stands at the beginning of a byte string.
struct Utf8Head {
  enum class Kind {
    kCharacter,  ///< a whole character of `length` bytes
    kPrefix,     ///< all bytes together are the beginning of a character
    kInvalid,    ///< the first byte begins no character; also for no bytes at all
  };
  Kind kind = Kind::kInvalid;
  int64_t length = 0;
  char32_t character = 0;
};

/// Strict UTF-8: no overlong forms, no surrogates, at most U+10FFFF.
Utf8Head ReadUtf8(std::string_view bytes);

bool IsValidUtf8(std::string_view text);

/// The text without the characters at its beginning (end) that Python's str.strip() removes.
std::string_view StripLeft(std::string_view text);
std::string_view StripRight(std::string_view text);

}  // namespace xcomposer
