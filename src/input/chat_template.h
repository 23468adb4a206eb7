#pragma once

#include <span>
#include <string>
#include <string_view>

#include "input/prompt_text.h"

namespace xcomposer {

/// What special strings typed by a user do (the command line's "specials").
enum class SpecialsMode {
  kReference,  ///< they act, as in the published Python code
  kLiteral,    ///< they are ordinary characters
};

/// An earlier exchange: picture marks stay in the query, the response is what the user saw.
struct ChatTurn {
  std::string query;
  std::string response;
};

/// The system text that all kinds ship: 506 characters, no line feed at its end.
std::string_view DefaultMetaInstruction();

/// The prompt string of the model specification, 8.1: system block (left out where `system` is
/// empty), earlier turns, the query, and the opening of the assistant's turn. With
/// SpecialsMode::kLiteral the texts of system, history and query are marked literal; the frame
/// around them always acts.
PromptText ApplyChatTemplate(std::string_view system, std::span<const ChatTurn> history,
                             std::string_view query, SpecialsMode specials);

}  // namespace xcomposer
