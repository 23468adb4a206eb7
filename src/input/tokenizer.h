#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "config/model_config.h"
#include "input/piece_encoder.h"
#include "input/prompt_text.h"
#include "input/special_strings.h"
#include "input/tokenizer_model.h"

namespace xcomposer {

/// Longest text that is encoded in one call.
inline constexpr int64_t kMaxTextBytes = int64_t{8} << 20;

/// How the Python tokenizer class of a checkpoint differs from its model file.
struct TokenizerStyle {
  /// <s>, </s> and <unk> in a text swallow the white space on both sides.
  bool strips_around_specials = true;
  /// <|im_start|>, <|im_end|>, <|action_start|>, <|action_end|>, <|interpreter|> and <|plugin|> are
  /// other names of the pieces [UNUSED_TOKEN_146] down to [UNUSED_TOKEN_141].
  bool has_named_markers = false;
};

TokenizerStyle TokenizerStyleFor(Kind kind);

/// The tokenizer of a checkpoint: its tokenizer.model as it is, and what the checkpoint's Python
/// class makes of it (model specification 9). Const after construction and thread-safe. In a build
/// without sentencepiece decoding works and encoding throws kTokenizer.
class CheckpointTokenizer {
 public:
  /// From the bytes of a tokenizer.model. Throws kTokenizer.
  CheckpointTokenizer(std::string_view model_bytes, TokenizerStyle style);
  CheckpointTokenizer(const CheckpointTokenizer&) = delete;
  CheckpointTokenizer& operator=(const CheckpointTokenizer&) = delete;

  /// The model file's own encoding: user-defined pieces act, nothing is added; bytes that are no
  /// UTF-8 count as U+FFFD. Throws kPrompt for more than kMaxTextBytes.
  std::vector<int32_t> Encode(std::string_view text) const;

  /// The model file's own decoding: begin and end vanish, all else is shown.
  std::string Decode(std::span<const int32_t> ids) const;

  /// The Python class without the BOS that it adds: its special strings act, then the model file's
  /// own encoding. In the literal parts of the text nothing acts: such a string is spelled out with
  /// ordinary pieces, which is done by encoding the text behind its first byte separately.
  std::vector<int32_t> EncodePrompt(const PromptText& text) const;

  /// tokenizer(text).input_ids of the Python class: BOS, then EncodePrompt with nothing literal.
  std::vector<int32_t> EncodeAsPython(std::string_view text) const;

  /// tokenizer.decode(ids, skip_special_tokens=True) of the Python class: unknown, begin and end
  /// are left out, then decoding and the English clean-up.
  std::string DecodeAsPython(std::span<const int32_t> ids) const;

  int64_t size() const { return static_cast<int64_t>(model_.pieces.size()); }
  const TokenizerModel& model() const { return model_; }

  /// Unknown, begin and end: what skip_special_tokens leaves out.
  bool IsSpecial(int32_t id) const {
    return id == model_.unknown_id || id == model_.bos_id || id == model_.eos_id;
  }
  int32_t bos_id() const { return model_.bos_id; }
  int32_t eos_id() const { return model_.eos_id; }
  /// The id of [UNUSED_TOKEN_145], where the vocabulary has it.
  std::optional<int32_t> turn_end_id() const { return PieceToId(kTurnEnd); }

  std::optional<int32_t> PieceToId(std::string_view piece) const;
  /// Throws kTokenizer for an id outside the vocabulary.
  const std::string& IdToPiece(int32_t id) const;

 private:
  /// Encodes [begin, end) of a text without acting special strings.
  void EncodeBetween(const PromptText& text, ByteSpan span, std::vector<int32_t>* ids) const;

  TokenizerModel model_;
  std::unique_ptr<PieceEncoder> encoder_;
  TokenizerStyle style_;
  std::unordered_map<std::string_view, int32_t> ids_;  // views into model_
  SpecialStrings python_specials_;
  SpecialStrings marker_pieces_;  // user-defined pieces that look like control strings
};

/// Reads `folder`/tokenizer.model. Throws kTokenizer with the file's name.
std::unique_ptr<const CheckpointTokenizer> LoadTokenizer(const std::filesystem::path& folder,
                                                         TokenizerStyle style);

}  // namespace xcomposer
