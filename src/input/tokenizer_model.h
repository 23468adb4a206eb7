#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace xcomposer {

/// What a piece of a SentencePiece model is; the numbers of the file format.
enum class PieceType {
  kNormal = 1,
  kUnknown = 2,      ///< <unk>: what has no piece
  kControl = 3,      ///< <s>, </s>: never found in text
  kUserDefined = 4,  ///< found in text before all others
  kUnused = 5,
  kByte = 6,  ///< <0x00> .. <0xFF>: one byte of a character without a piece
};

struct Piece {
  std::string text;  ///< UTF-8; U+2581 stands for a space
  PieceType type = PieceType::kNormal;
};

/// The vocabulary of a tokenizer.model and the settings that decoding needs.
struct TokenizerModel {
  std::vector<Piece> pieces;  ///< by id
  int32_t unknown_id = 0;
  int32_t bos_id = 0;
  int32_t eos_id = 0;
  std::string unknown_text;              ///< what the unknown piece decodes to
  bool add_dummy_prefix = true;          ///< encoding puts a space in front, decoding takes it away
  bool remove_extra_whitespaces = true;  ///< decoding drops all spaces in front
};

/// The byte that a byte piece stands for: 0x1F for "<0x1F>"; nothing for other names.
std::optional<uint8_t> ByteOfPiece(std::string_view text);

/// Limits of what is accepted; the largest model of the family has 92,544 pieces in 1.5 MB.
inline constexpr int64_t kMaxTokenizerModelBytes = int64_t{64} << 20;
inline constexpr int64_t kMaxPieces = 1'000'000;
inline constexpr int64_t kMaxPieceBytes = 4096;

/// Reads the bytes of a tokenizer.model (a serialised SentencePiece ModelProto, field numbers of
/// sentencepiece_model.proto). Trusts nothing: throws kTokenizer for anything malformed, for pieces
/// that are empty, doubled, too long or not UTF-8, for a model without unknown, begin or end piece,
/// for incomplete byte pieces, and for model types and normalisers that the family does not use
/// (anything but BPE and identity).
TokenizerModel ParseTokenizerModel(std::string_view bytes);

}  // namespace xcomposer
