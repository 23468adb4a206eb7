#include "input/prompt_style.h"

namespace xcomposer {

PromptStyle PromptStyleFor(Kind kind, PromptRevision revision) {
  switch (kind) {
    case Kind::k2_7b:
    case Kind::kVl7b:
    case Kind::kVl1_8b:
      return {.errors_on_mark_count = revision == PromptRevision::kMain, .max_length = 4096};
    case Kind::k4khd7b:
      return {.max_length = 16384};
    case Kind::k25_7b:
      break;
  }
  return {.bos_every_piece = false,
          .empty_list_is_text_path = false,
          .uses_meta_by_default = false,
          .errors_on_mark_count = false,
          .lone_picture_goes_first = true,
          .max_length = 16384};
}

PromptStyle PromptStyleFor(const ModelConfig& config) {
  PromptStyle style =
      PromptStyleFor(config.kind, config.before_february_2024 ? PromptRevision::kBeforeFebruary2024
                                                              : PromptRevision::kMain);
  if (config.kind != Kind::k25_7b) style.max_length = config.max_length;
  return style;
}

}  // namespace xcomposer
