#pragma once

#include <cstdint>
#include <string>

#include "input/tokenizer_model.h"

namespace xcomposer {

/// Turns ids into text one by one, as SentencePiece does for a whole list (model specification 9):
/// pieces are joined, U+2581 becomes a space, runs of byte pieces are read as UTF-8 with U+FFFD for
/// each byte that belongs to no character. Whole characters only are put out, as soon as they are
/// certain. Keeps a reference to the model.
class PieceDecoder {
 public:
  explicit PieceDecoder(const TokenizerModel& model) : model_(model) {}

  /// Appends to `out`. Throws kTokenizer for an id outside the vocabulary.
  void Push(int32_t id, std::string* out);

  /// Ends the byte run that may be open.
  void Finish(std::string* out);

 private:
  void PushByte(uint8_t byte, std::string* out);
  void PushText(const Piece& piece, std::string* out);

  const TokenizerModel& model_;
  std::string bytes_;     // the beginning of a character
  bool at_start_ = true;  // nothing has been put out
};

}  // namespace xcomposer
