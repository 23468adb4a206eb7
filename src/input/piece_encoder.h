#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace xcomposer {

/// Finds the pieces of a text. Const and thread-safe.
class PieceEncoder {
 public:
  virtual ~PieceEncoder() = default;

  /// The model file's own encoding: user-defined pieces first, then BPE, bytes for characters
  /// without a piece; each byte that is not UTF-8 counts as U+FFFD; nothing is added. n log n in
  /// the text's length. Throws kTokenizer.
  virtual std::vector<int32_t> Encode(std::string_view text) const = 0;
};

/// True where this build can encode text (see no_sentencepiece.cpp); decoding always works.
bool HasSentencePiece();

/// `model_bytes`: a tokenizer.model that ParseTokenizerModel has accepted. In a build without
/// sentencepiece the encoder exists and its Encode throws kTokenizer. Throws kTokenizer where the
/// library refuses the model.
std::unique_ptr<PieceEncoder> MakePieceEncoder(std::string_view model_bytes);

}  // namespace xcomposer
