#pragma once

#include <bitset>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

/// The strings that act in a prompt.
namespace xcomposer {

/// Marks the place of a picture in a prompt; never reaches the tokenizer.
inline constexpr std::string_view kPictureMark = "<ImageHere>";

/// Begins and ends a speaker's turn. User-defined pieces of the tokenizer.
inline constexpr std::string_view kTurnStart = "[UNUSED_TOKEN_146]";
inline constexpr std::string_view kTurnEnd = "[UNUSED_TOKEN_145]";

/// Finds any of a set of strings in a text, in time linear in the text.
class SpecialStrings {
 public:
  struct Match {
    int64_t length = 0;
    int32_t id = 0;
  };

  void Add(const std::string& text, int32_t id);

  /// The longest string of the set that begins at byte `position`.
  std::optional<Match> At(std::string_view text, int64_t position) const;

 private:
  std::unordered_map<std::string_view, int32_t> ids_;  // views of the keys of names_
  std::map<std::string, int32_t> names_;
  std::map<size_t, std::bitset<256>, std::greater<>> last_bytes_;  // by length, longest first
  std::bitset<256> first_bytes_;
};

}  // namespace xcomposer
