#include "input/detokenizer.h"

namespace xcomposer {

std::string AnswerText(const CheckpointTokenizer& tokenizer, std::span<const int32_t> ids) {
  const std::string text = tokenizer.DecodeAsPython(ids);
  return text.substr(0, text.find(kTurnEnd));
}

IncrementalDetokenizer::IncrementalDetokenizer(const CheckpointTokenizer& tokenizer,
                                               const std::vector<std::string>& stop_strings)
    : tokenizer_(tokenizer),
      decoder_(tokenizer.model()),
      turn_end_({std::string(kTurnEnd)}),
      stops_(stop_strings) {}

IncrementalDetokenizer::Part IncrementalDetokenizer::Push(int32_t id) {
  Part part;
  if (!tokenizer_.IsSpecial(id)) {
    std::string decoded;
    decoder_.Push(id, &decoded);
    part.text = stops_.Push(turn_end_.Push(clean_up_.Push(decoded)));
  }
  part.stop = stops_.found().has_value();
  return part;
}

IncrementalDetokenizer::Part IncrementalDetokenizer::Finish() {
  std::string decoded;
  decoder_.Finish(&decoded);
  std::string cleaned = clean_up_.Push(decoded);
  cleaned += clean_up_.Finish();
  std::string shown = turn_end_.Push(cleaned);
  shown += turn_end_.Finish();
  Part part;
  part.text = stops_.Push(shown);
  part.text += stops_.Finish();
  part.stop = stops_.found().has_value();
  return part;
}

}  // namespace xcomposer
