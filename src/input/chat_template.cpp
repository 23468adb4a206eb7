#include "input/chat_template.h"

#include "input/special_strings.h"

namespace xcomposer {
namespace {

void AppendTurn(std::string_view role, std::string_view text, SpecialsMode specials,
                PromptText* prompt) {
  prompt->Append(kTurnStart);
  prompt->Append(role);
  prompt->Append("\n");
  if (specials == SpecialsMode::kLiteral) {
    prompt->AppendLiteral(text);
  } else {
    prompt->Append(text);
  }
  prompt->Append(kTurnEnd);
  prompt->Append("\n");
}

}  // namespace

std::string_view DefaultMetaInstruction() {
  return "You are an AI assistant whose name is InternLM-XComposer (浦语·灵笔).\n"
         "- InternLM-XComposer (浦语·灵笔) is a multi-modality conversational language model that "
         "is "
         "developed by Shanghai AI Laboratory (上海人工智能实验室). It is designed to be helpful, "
         "honest, and harmless.\n"
         "- InternLM-XComposer (浦语·灵笔) can understand and communicate fluently in the language "
         "chosen by the user such as English and 中文.\n"
         "- InternLM-XComposer (浦语·灵笔) is capable of comprehending and articulating responses "
         "effectively based on the provided image.";
}

PromptText ApplyChatTemplate(std::string_view system, std::span<const ChatTurn> history,
                             std::string_view query, SpecialsMode specials) {
  PromptText prompt;
  if (!system.empty()) AppendTurn("system", system, specials, &prompt);
  for (const ChatTurn& turn : history) {
    AppendTurn("user", turn.query, specials, &prompt);
    AppendTurn("assistant", turn.response, specials, &prompt);
  }
  AppendTurn("user", query, specials, &prompt);
  prompt.Append(kTurnStart);
  prompt.Append("assistant\n");
  return prompt;
}

}  // namespace xcomposer
