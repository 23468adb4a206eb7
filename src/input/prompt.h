#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "input/chat_template.h"
#include "input/prompt_style.h"
#include "input/tokenizer.h"

namespace xcomposer {

/// What a request says about pictures; the difference decides which path the reference takes.
enum class PictureArgument {
  kAbsent,  ///< the kind's default: 2.5 as an empty list, all others as kNull
  kNull,    ///< the reference's None: the text path, whatever the kind
  kList,    ///< a list, perhaps empty
};

struct PromptRequest {
  std::string query;
  std::vector<ChatTurn> history;
  PictureArgument pictures = PictureArgument::kAbsent;
  /// kList: rows of each picture in the merged sequence, in the order of the marks over history and
  /// query.
  std::vector<int64_t> picture_rows;
  std::optional<std::string> meta_instruction;  ///< absent: the kind's own; empty: no system block
  /// Absent: the kind's default, or true where a system text is given.
  std::optional<bool> use_meta;
  SpecialsMode specials = SpecialsMode::kReference;
  /// Pictures without any mark: all marks go to the beginning of the query (before the whole prompt
  /// where the kind itself does that) instead of what the kind does.
  bool place_missing_marks_first = false;
};

/// Rows of the prompt that come from a picture.
struct PictureRows {
  int64_t first_row = 0;
  int64_t row_count = 0;  ///< fewer than the picture's rows where the prompt was cut in it
  int64_t picture = 0;    ///< index into picture_rows
};

struct Prompt {
  std::vector<int32_t> ids;           ///< (T), -1 at picture rows
  std::vector<PictureRows> pictures;  ///< ascending, exactly the -1 rows
  bool text_path = false;
  int64_t truncated_rows = 0;        ///< rows lost to the cut at max_length
  std::vector<int32_t> penalty_ids;  ///< what the processors see before the first new id
  std::string text;                  ///< the prompt string; the text path puts <s> in front
  std::vector<std::string> pieces;   ///< the strings as given to the tokenizer
  /// Pictures that have no rows, for lack of a mark or beyond the cut; the reference ignores them.
  std::vector<int64_t> unused_pictures;
};

/// Assembles the prompt of a request as the published code of its kind does (model specification
/// 8). Throws kPrompt where marks and pictures do not match and the kind insists on it, or
/// picture_rows is not empty without kList or holds a number below 1; kTokenizer as the tokenizer
/// does.
Prompt BuildPrompt(const CheckpointTokenizer& tokenizer, const PromptStyle& style,
                   const PromptRequest& request);

/// A prompt that is given as ids instead of text.
struct IdPrompt {
  std::span<const int32_t> ids = {};  ///< BOS included, -1 for each picture
  PictureArgument pictures = PictureArgument::kAbsent;
  std::span<const int64_t> picture_rows = {};  ///< as PromptRequest's
  int32_t bos_id = 0;                          ///< what the processors see on the embeddings path
};

/// The prompt of these ids. Nothing is added and nothing is cut; the path is that of a text with
/// these pictures. Throws kPrompt for another number of -1 than pictures, for other negative ids,
/// and for pictures as BuildPrompt does.
Prompt PromptFromIds(const PromptStyle& style, const IdPrompt& request);

}  // namespace xcomposer
