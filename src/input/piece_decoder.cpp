#include "input/piece_decoder.h"

#include <string_view>

#include "base/check.h"
#include "base/utf8.h"

namespace xcomposer {
namespace {

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581

}  // namespace

void PieceDecoder::Push(int32_t id, std::string* out) {
  const auto count = static_cast<int64_t>(model_.pieces.size());
  Require(id >= 0 && id < count, ErrorKind::kTokenizer, "id ", id,
          " is not in the tokenizer, which has the ids 0 to ", count - 1);
  const Piece& piece = model_.pieces[static_cast<size_t>(id)];
  if (piece.type == PieceType::kByte) {
    PushByte(*ByteOfPiece(piece.text), out);
    return;
  }
  Finish(out);
  if (piece.type == PieceType::kControl) return;
  if (piece.type == PieceType::kUnknown) {
    *out += model_.unknown_text;
    at_start_ = at_start_ && model_.unknown_text.empty();
    return;
  }
  PushText(piece, out);
}

void PieceDecoder::PushByte(uint8_t byte, std::string* out) {
  bytes_.push_back(static_cast<char>(byte));
  while (!bytes_.empty()) {
    const Utf8Head head = ReadUtf8(bytes_);
    if (head.kind == Utf8Head::Kind::kPrefix) return;
    const bool valid = head.kind == Utf8Head::Kind::kCharacter;
    const auto length = static_cast<size_t>(valid ? head.length : 1);
    *out += valid ? std::string_view(bytes_).substr(0, length) : kReplacementCharacter;
    bytes_.erase(0, length);
    at_start_ = false;
  }
}

void PieceDecoder::PushText(const Piece& piece, std::string* out) {
  std::string_view text = piece.text;
  if (at_start_ && (model_.add_dummy_prefix || model_.remove_extra_whitespaces) &&
      text.starts_with(kSpaceSymbol)) {
    text.remove_prefix(kSpaceSymbol.size());
    // The space that encoding had put in front is gone now; further ones are real, unless all go.
    at_start_ = model_.remove_extra_whitespaces;
  }
  if (!text.empty()) at_start_ = false;
  while (!text.empty()) {
    const size_t space = text.find(kSpaceSymbol);
    *out += text.substr(0, space);
    if (space == text.npos) return;
    *out += ' ';
    text.remove_prefix(space + kSpaceSymbol.size());
  }
}

void PieceDecoder::Finish(std::string* out) {
  for (size_t i = 0; i < bytes_.size(); ++i) *out += kReplacementCharacter;
  if (!bytes_.empty()) at_start_ = false;
  bytes_.clear();
}

}  // namespace xcomposer
