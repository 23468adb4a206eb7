#pragma once

#include <cstdint>
#include <string_view>

/// The strings that act in a prompt.
namespace xcomposer {

/// Marks the place of a picture in a prompt; never reaches the tokenizer.
inline constexpr std::string_view kPictureMark = "<ImageHere>";

/// Begins and ends a speaker's turn. User-defined pieces of the tokenizer; newer checkpoints call them
/// <|im_start|> and <|im_end|>.
inline constexpr std::string_view kTurnStart = "[UNUSED_TOKEN_146]";
inline constexpr std::string_view kTurnEnd = "[UNUSED_TOKEN_145]";

}  // namespace xcomposer
