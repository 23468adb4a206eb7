#include "input/tokenizer.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "base/small_file.h"
#include "base/utf8.h"
#include "input/clean_up.h"
#include "input/piece_decoder.h"

namespace xcomposer {
namespace {

/// [UNUSED_TOKEN_n], <|name|>: what a prompt's frame is made of, as against "——" or full-width
/// letters, which are user-defined too but plain text.
bool LooksLikeMarker(std::string_view piece) {
  return piece.size() > 2 && ((piece.front() == '[' && piece.back() == ']') ||
                              (piece.front() == '<' && piece.back() == '>'));
}

bool Overlaps(const std::vector<ByteSpan>& spans, ByteSpan wanted) {
  const auto first =
      std::upper_bound(spans.begin(), spans.end(), wanted.begin,
                       [](int64_t at, const ByteSpan& span) { return at < span.end; });
  return first != spans.end() && first->begin < wanted.end;
}

std::string_view Part(std::string_view text, int64_t begin, int64_t end) {
  return text.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
}

}  // namespace

TokenizerStyle TokenizerStyleFor(Kind kind) {
  const bool newer = kind == Kind::k4khd7b || kind == Kind::k25_7b;
  return {.strips_around_specials = !newer, .has_named_markers = newer};
}

CheckpointTokenizer::CheckpointTokenizer(std::string_view model_bytes, TokenizerStyle style)
    : model_(ParseTokenizerModel(model_bytes)),
      encoder_(MakePieceEncoder(model_bytes)),
      style_(style) {
  for (size_t id = 0; id < model_.pieces.size(); ++id) {
    const Piece& piece = model_.pieces[id];
    ids_.emplace(piece.text, static_cast<int32_t>(id));
    if (piece.type == PieceType::kUserDefined && LooksLikeMarker(piece.text)) {
      marker_pieces_.Add(piece.text, static_cast<int32_t>(id));
    }
  }
  for (const int32_t id : {model_.unknown_id, model_.bos_id, model_.eos_id}) {
    python_specials_.Add(IdToPiece(id), id);
  }
  if (!style.has_named_markers) return;
  static constexpr std::pair<const char*, std::string_view> kNamed[] = {
      {"<|im_start|>", kTurnStart},
      {"<|im_end|>", kTurnEnd},
      {"<|action_start|>", "[UNUSED_TOKEN_144]"},
      {"<|action_end|>", "[UNUSED_TOKEN_143]"},
      {"<|interpreter|>", "[UNUSED_TOKEN_142]"},
      {"<|plugin|>", "[UNUSED_TOKEN_141]"}};
  for (const auto& [name, piece] : kNamed) {
    if (const std::optional<int32_t> id = PieceToId(piece)) python_specials_.Add(name, *id);
  }
}

std::vector<int32_t> CheckpointTokenizer::Encode(std::string_view text) const {
  Require(static_cast<int64_t>(text.size()) <= kMaxTextBytes, ErrorKind::kPrompt, "the text has ",
          text.size(), " bytes; at most ", kMaxTextBytes, " are encoded at once");
  if (text.empty()) return {};
  return encoder_->Encode(text);
}

std::string CheckpointTokenizer::Decode(std::span<const int32_t> ids) const {
  PieceDecoder decoder(model_);
  std::string text;
  for (const int32_t id : ids) decoder.Push(id, &text);
  decoder.Finish(&text);
  return text;
}

std::vector<int32_t> CheckpointTokenizer::EncodePrompt(const PromptText& text) const {
  const auto size = static_cast<int64_t>(text.text.size());
  std::vector<int32_t> ids;
  int64_t begin = 0;
  for (int64_t at = 0; at < size;) {
    const auto match = python_specials_.At(text.text, at);
    if (!match || Overlaps(text.literal, {at, at + match->length})) {
      ++at;
      continue;
    }
    EncodeBetween(text, {begin, at}, &ids);
    ids.push_back(match->id);
    at += match->length;
    begin = at;
  }
  EncodeBetween(text, {begin, size}, &ids);
  return ids;
}

void CheckpointTokenizer::EncodeBetween(const PromptText& text, ByteSpan span,
                                        std::vector<int32_t>* ids) const {
  const auto size = static_cast<int64_t>(text.text.size());
  if (style_.strips_around_specials) {
    // A border inside the text is a border to a special string.
    if (span.begin > 0) {
      span.begin =
          span.end - static_cast<int64_t>(StripLeft(Part(text.text, span.begin, span.end)).size());
    }
    if (span.end < size) {
      span.end = span.begin +
                 static_cast<int64_t>(StripRight(Part(text.text, span.begin, span.end)).size());
    }
  }
  const auto append = [&](int64_t begin, int64_t end) {
    const std::vector<int32_t> more = Encode(Part(text.text, begin, end));
    ids->insert(ids->end(), more.begin(), more.end());
  };
  int64_t begin = span.begin;
  for (const ByteSpan& literal : text.literal) {
    const int64_t end = std::min(literal.end, span.end);
    for (int64_t at = std::max(literal.begin, span.begin); at < end; ++at) {
      if (!marker_pieces_.At(text.text, at)) continue;
      append(begin, at + 1);
      begin = at + 1;
    }
  }
  append(begin, span.end);
}

std::vector<int32_t> CheckpointTokenizer::EncodeAsPython(std::string_view text) const {
  std::vector<int32_t> ids = {bos_id()};
  const std::vector<int32_t> rest = EncodePrompt({std::string(text), {}});
  ids.insert(ids.end(), rest.begin(), rest.end());
  return ids;
}

std::string CheckpointTokenizer::DecodeAsPython(std::span<const int32_t> ids) const {
  PieceDecoder decoder(model_);
  std::string text;
  for (const int32_t id : ids) {
    if (!IsSpecial(id)) decoder.Push(id, &text);
  }
  decoder.Finish(&text);
  CleanUp clean_up;
  const std::string cleaned = clean_up.Push(text);
  return cleaned + clean_up.Finish();
}

std::optional<int32_t> CheckpointTokenizer::PieceToId(std::string_view piece) const {
  const auto found = ids_.find(piece);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

const std::string& CheckpointTokenizer::IdToPiece(int32_t id) const {
  Require(id >= 0 && id < size(), ErrorKind::kTokenizer, "id ", id,
          " is not in the tokenizer, which has the ids 0 to ", size() - 1);
  return model_.pieces[static_cast<size_t>(id)].text;
}

std::unique_ptr<const CheckpointTokenizer> LoadTokenizer(const std::filesystem::path& folder,
                                                         TokenizerStyle style) {
  const std::filesystem::path file = folder / "tokenizer.model";
  const Error::Where where = {{"file", file.string()}};
  std::error_code failure;
  if (!std::filesystem::is_regular_file(file, failure)) {
    throw Error(
        ErrorKind::kTokenizer,
        StrCat("no file ", file.string(), "; a checkpoint folder holds its tokenizer.model"),
        where);
  }
  const std::string content = ReadSmallFile(file, kMaxTokenizerModelBytes, ErrorKind::kTokenizer);
  if (content.starts_with("version https://git-lfs")) {
    throw Error(ErrorKind::kTokenizer,
                StrCat(file.string(),
                       " is a Git LFS pointer, not the tokenizer itself; run 'git lfs pull' "
                       "in the checkpoint folder"),
                where);
  }
  try {
    return std::make_unique<const CheckpointTokenizer>(content, style);
  } catch (const Error& error) {
    throw error.With("file", file.string());
  }
}

}  // namespace xcomposer
