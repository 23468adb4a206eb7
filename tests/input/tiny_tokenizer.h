#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "input/tokenizer_model.h"

/// Writes tokenizer.model files piece by piece, so that tests need no trained tokenizer.
namespace xcomposer {

inline std::string Varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
  return out;
}

inline std::string NumberField(uint64_t number, uint64_t value) {
  return Varint(number << 3) + Varint(value);
}

inline std::string BytesField(uint64_t number, std::string_view bytes) {
  return Varint(number << 3 | 2) + Varint(bytes.size()) + std::string(bytes);
}

inline std::string FloatField(uint64_t number, float value) {
  std::string out = Varint(number << 3 | 5);
  const auto bits = std::bit_cast<uint32_t>(value);
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<char>(bits >> shift));
  return out;
}

inline std::string PieceField(std::string_view text, float score, PieceType type) {
  return BytesField(
      1, BytesField(1, text) + FloatField(2, score) + NumberField(3, static_cast<uint64_t>(type)));
}

/// The parts of a small model in the layout of the family: BPE, identity normaliser, byte fallback.
struct TinyTokenizer {
  std::string pieces;
  std::string trainer = NumberField(3, 2) + NumberField(35, 1);
  std::string normalizer =
      BytesField(1, "identity") + BytesField(2, "") + NumberField(3, 0) + NumberField(4, 0);

  TinyTokenizer() {
    Add("<unk>", PieceType::kUnknown);
    Add("<s>", PieceType::kControl);
    Add("</s>", PieceType::kControl);
    static constexpr std::string_view kDigits = "0123456789ABCDEF";
    for (size_t byte = 0; byte < 256; ++byte) {
      Add(std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">", PieceType::kByte);
    }
    // Merges in the order of their scores; then the characters.
    for (const char* text : {"ab", "abc", "\n\n", "▁a", "▁'", "▁.", "▁s"}) Add(text);
    for (char c = ' ' + 1; c < 127; ++c) Add(std::string(1, c));
    for (const char* text : {"▁", "\n", "\t", "é", "你", "好"}) Add(text);
    for (const char* text : {"——", "……"}) Add(text, PieceType::kUserDefined);
    for (int n = 138; n <= 146; ++n) {
      Add("[UNUSED_TOKEN_" + std::to_string(n) + "]", PieceType::kUserDefined);
    }
  }

  void Add(std::string_view text, PieceType type = PieceType::kNormal) {
    const bool scored = type == PieceType::kNormal;
    pieces += PieceField(text, scored ? -static_cast<float>(count_) : 0.0F, type);
    ++count_;
  }

  std::string Bytes() const { return pieces + BytesField(2, trainer) + BytesField(3, normalizer); }

 private:
  int count_ = 0;
};

}  // namespace xcomposer
