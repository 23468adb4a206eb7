#pragma once

#include <cstdint>

#include "config/model_config.h"

namespace xcomposer {

/// The published code of 2-7b and 2-vl-7b changed how it treats surplus pictures and marks.
enum class PromptRevision {
  kMain,
  kBeforeFebruary2024,  ///< also the code in the 4bit repositories of the two
};

/// How a kind assembles its prompt (model specification 8.2 to 8.5).
struct PromptStyle {
  bool bos_every_piece = true;  ///< BOS before each non-empty piece; else before the first only
  bool empty_list_is_text_path = true;   ///< no pictures; else embeddings with one BOS
  bool uses_meta_by_default = true;      ///< the default system text stands in the prompt unasked
  bool errors_on_mark_count = true;      ///< as many <ImageHere> as pictures, or kPrompt
  bool lone_picture_goes_first = false;  ///< one picture and no mark: before the whole prompt
  int64_t max_length = 0;                ///< rows kept on the embeddings path
};

/// With the kind's own max_length.
PromptStyle PromptStyleFor(Kind kind, PromptRevision revision = PromptRevision::kMain);

/// With the revision and the max_length of a config.json; in 2.5 it is an argument of chat() and
/// config.json has no say.
PromptStyle PromptStyleFor(const ModelConfig& config);

}  // namespace xcomposer
