#include "input/prompt.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "input/special_strings.h"

namespace xcomposer {
namespace {

constexpr int32_t kPictureRow = -1;

std::string_view SystemText(const PromptStyle& style, const PromptRequest& request) {
  const bool asked = request.meta_instruction.has_value() && !request.meta_instruction->empty();
  if (!request.use_meta.value_or(style.uses_meta_by_default || asked)) return {};
  return request.meta_instruction ? std::string_view(*request.meta_instruction)
                                  : DefaultMetaInstruction();
}

bool HasMark(std::string_view text) { return text.find(kPictureMark) != text.npos; }

/// The prompt string with the marks that the request leaves to us.
PromptText PromptString(const PromptStyle& style, const PromptRequest& request) {
  const std::string_view system = SystemText(style, request);
  const auto apply = [&](std::string_view query) {
    return ApplyChatTemplate(system, request.history, query, request.specials);
  };
  PromptText prompt = apply(request.query);
  const size_t pictures = request.picture_rows.size();
  if (pictures == 0 || HasMark(prompt.text)) return prompt;
  if (style.lone_picture_goes_first && pictures == 1) {
    prompt.Prepend(kPictureMark);
    return prompt;
  }
  if (!request.place_missing_marks_first) return prompt;
  std::string query;
  for (size_t i = 0; i < pictures; ++i) query += kPictureMark;
  return apply(query + request.query);
}

/// The parts of a prompt between its marks.
std::vector<PromptText> SplitAtMarks(const PromptText& prompt) {
  std::vector<PromptText> parts;
  const auto size = static_cast<int64_t>(prompt.text.size());
  const auto mark = static_cast<int64_t>(kPictureMark.size());
  int64_t begin = 0;
  for (;;) {
    const size_t found = prompt.text.find(kPictureMark, static_cast<size_t>(begin));
    const int64_t end = found == std::string::npos ? size : static_cast<int64_t>(found);
    parts.push_back(prompt.Slice(begin, end));
    if (end == size) return parts;
    begin = end + mark;
  }
}

void CheckMarks(size_t marks, size_t pictures) {
  Require(marks == pictures, ErrorKind::kPrompt, "the prompt has ", marks, " marks ", kPictureMark,
          " in query and history, and the request has ", pictures,
          " pictures; this model kind needs one mark for each picture, in their order");
}

void CheckPictures(PictureArgument argument, std::span<const int64_t> picture_rows) {
  Require(argument == PictureArgument::kList || picture_rows.empty(), ErrorKind::kPrompt,
          "the request has ", picture_rows.size(),
          " pictures and asks for the path without pictures");
  for (const int64_t rows : picture_rows) {
    Require(rows >= 1, ErrorKind::kPrompt, "a picture has ", rows, " rows; at least 1 is expected");
  }
}

bool IsTextPath(const PromptStyle& style, PictureArgument argument,
                std::span<const int64_t> picture_rows) {
  return argument == PictureArgument::kNull ||
         (picture_rows.empty() && style.empty_list_is_text_path);
}

/// The embeddings path under way.
class Assembly {
 public:
  Assembly(const CheckpointTokenizer& tokenizer, const PromptStyle& style)
      : tokenizer_(tokenizer), style_(style) {}

  void AddPiece(const PromptText& piece) {
    const bool bos = style_.bos_every_piece ? !piece.text.empty() : is_first_;
    is_first_ = false;
    if (!bos && piece.text.empty()) return;
    const std::vector<int32_t> ids = tokenizer_.EncodePrompt(piece);
    total_rows_ += static_cast<int64_t>(ids.size()) + (bos ? 1 : 0);
    if (is_full_) return;
    if (bos) prompt_.ids.push_back(tokenizer_.bos_id());
    prompt_.ids.insert(prompt_.ids.end(), ids.begin(), ids.end());
    prompt_.pieces.push_back(piece.text);
  }

  void AddPicture(int64_t picture, int64_t rows) {
    total_rows_ += rows;
    if (is_full_) return;
    prompt_.pictures.push_back({size(), rows, picture});
    // What lies behind the cut is not written: `rows` may be anything.
    const int64_t kept = std::clamp<int64_t>(style_.max_length - size(), 0, rows);
    prompt_.ids.insert(prompt_.ids.end(), static_cast<size_t>(kept), kPictureRow);
  }

  /// The reference looks at the length only after a piece and its picture.
  void CheckLength() { is_full_ = is_full_ || total_rows_ > style_.max_length; }

  Prompt Finish() {
    const int64_t kept = std::min(total_rows_, style_.max_length);
    prompt_.ids.resize(static_cast<size_t>(std::min(size(), kept)));
    prompt_.truncated_rows = total_rows_ - size();
    auto& pictures = prompt_.pictures;
    std::erase_if(pictures, [&](const PictureRows& rows) { return rows.first_row >= size(); });
    for (PictureRows& rows : pictures) {
      rows.row_count = std::min(rows.row_count, size() - rows.first_row);
    }
    return std::move(prompt_);
  }

 private:
  int64_t size() const { return static_cast<int64_t>(prompt_.ids.size()); }

  const CheckpointTokenizer& tokenizer_;
  const PromptStyle& style_;
  Prompt prompt_;
  int64_t total_rows_ = 0;  // with those behind the cut
  bool is_first_ = true;
  bool is_full_ = false;
};

Prompt TextPath(const CheckpointTokenizer& tokenizer, PromptText text) {
  // The literal string acts in the Python tokenizer, which adds its own BOS as well.
  text.Prepend(tokenizer.IdToPiece(tokenizer.bos_id()));
  Prompt prompt;
  prompt.text_path = true;
  prompt.ids = {tokenizer.bos_id()};
  const std::vector<int32_t> ids = tokenizer.EncodePrompt(text);
  prompt.ids.insert(prompt.ids.end(), ids.begin(), ids.end());
  prompt.penalty_ids = prompt.ids;
  prompt.text = text.text;
  prompt.pieces = {std::move(text.text)};
  return prompt;
}

std::vector<int64_t> UnusedPictures(const std::vector<PictureRows>& used, size_t pictures) {
  std::vector<int64_t> unused;
  for (int64_t i = static_cast<int64_t>(used.size()); i < static_cast<int64_t>(pictures); ++i) {
    unused.push_back(i);
  }
  return unused;
}

}  // namespace

Prompt BuildPrompt(const CheckpointTokenizer& tokenizer, const PromptStyle& style,
                   const PromptRequest& request) {
  CheckPictures(request.pictures, request.picture_rows);
  const PromptText text = PromptString(style, request);
  if (IsTextPath(style, request.pictures, request.picture_rows)) return TextPath(tokenizer, text);

  const std::vector<PromptText> parts = SplitAtMarks(text);
  const size_t pictures = request.picture_rows.size();
  if (style.errors_on_mark_count) CheckMarks(parts.size() - 1, pictures);
  Assembly assembly(tokenizer, style);
  for (size_t i = 0; i < parts.size(); ++i) {
    assembly.AddPiece(parts[i]);
    if (i < pictures) assembly.AddPicture(static_cast<int64_t>(i), request.picture_rows[i]);
    assembly.CheckLength();
  }
  Prompt prompt = assembly.Finish();
  prompt.penalty_ids = {tokenizer.bos_id()};
  prompt.text = text.text;
  prompt.unused_pictures = UnusedPictures(prompt.pictures, pictures);
  return prompt;
}

Prompt PromptFromIds(const PromptStyle& style, const IdPrompt& request) {
  CheckPictures(request.pictures, request.picture_rows);
  const auto marks = std::count(request.ids.begin(), request.ids.end(), kPictureRow);
  Require(marks == static_cast<std::ptrdiff_t>(request.picture_rows.size()), ErrorKind::kPrompt,
          "the ids have ", marks, " places (-1) for pictures, and the request has ",
          request.picture_rows.size(), " pictures");
  Prompt prompt;
  for (const int32_t id : request.ids) {
    if (id != kPictureRow) {
      Require(id >= 0, ErrorKind::kPrompt, "the prompt has the id ", id,
              "; ids are 0 or above, or -1 for a picture");
      prompt.ids.push_back(id);
      continue;
    }
    const size_t picture = prompt.pictures.size();
    const int64_t rows = request.picture_rows[picture];
    prompt.pictures.push_back(
        {static_cast<int64_t>(prompt.ids.size()), rows, static_cast<int64_t>(picture)});
    prompt.ids.insert(prompt.ids.end(), static_cast<size_t>(rows), kPictureRow);
  }
  prompt.text_path = IsTextPath(style, request.pictures, request.picture_rows);
  prompt.penalty_ids = prompt.text_path ? prompt.ids : std::vector<int32_t>{request.bos_id};
  return prompt;
}

}  // namespace xcomposer
