#pragma once

#include <cstdint>
#include <string>

namespace xcomposer {

/// Turns the ids of one answer into text as they come. The engine knows tokenizers only through
/// this interface. Each job has its own; calls come from one thread at a time.
///
/// Every new id is pushed, the end id included: which ids are shown, where the text is cut and
/// which strings end the answer is the implementation's business. Pieces are whole UTF-8
/// characters, and all pieces joined with Finish() are the text of the answer.
class TextStream {
 public:
  struct Piece {
    std::string text;   ///< may be empty: a character may need more ids
    bool stop = false;  ///< a stop string is complete: generation ends with this id
  };

  virtual ~TextStream() = default;

  virtual Piece Push(int32_t id) = 0;

  /// What was held back. Called once, at the end.
  virtual std::string Finish() = 0;
};

}  // namespace xcomposer
