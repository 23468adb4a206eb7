#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "input/clean_up.h"
#include "input/piece_decoder.h"
#include "input/stop_strings.h"
#include "input/tokenizer.h"

namespace xcomposer {

/// The text of an answer as the published chat() returns it (model specification 8.6, 9): special
/// ids left out, decoded, cleaned up, cut at the first [UNUSED_TOKEN_145].
std::string AnswerText(const CheckpointTokenizer& tokenizer, std::span<const int32_t> ids);

/// The same text while the ids come one by one. What Push and Finish return, joined, is AnswerText
/// of all ids, up to the stop string where one was found. Each part is whole UTF-8 characters; text
/// is held back only as long as a later id could change it. Keeps a reference to the tokenizer. One
/// thread at a time.
class IncrementalDetokenizer {
 public:
  struct Part {
    std::string text;
    bool stop = false;  ///< a stop string is complete; it is not part of the text
  };

  /// Throws kRequest for a stop string that is not UTF-8.
  explicit IncrementalDetokenizer(const CheckpointTokenizer& tokenizer,
                                  const std::vector<std::string>& stop_strings = {});

  /// Throws kTokenizer for an id outside the vocabulary.
  Part Push(int32_t id);

  /// What was held back; a stop string may become complete here, too.
  Part Finish();

 private:
  const CheckpointTokenizer& tokenizer_;
  PieceDecoder decoder_;
  CleanUp clean_up_;
  StopStrings turn_end_;
  StopStrings stops_;
};

}  // namespace xcomposer
