#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "api/picture_budget.h"
#include "config/generation_defaults.h"
#include "config/model_config.h"
#include "engine/job.h"
#include "input/image_decoder.h"
#include "input/tokenizer.h"
#include "xcomposer/request.h"

namespace xcomposer::api {

/// What turning requests into jobs needs to know of the loaded checkpoint. Const while requests are
/// prepared, so several threads may prepare at once.
struct RequestContext {
  ModelConfig config;
  GenerationDefaults defaults;
  std::shared_ptr<const CheckpointTokenizer> tokenizer;  ///< null: ids in, ids out
  ImageLimits image_limits;
  std::string video_font;
  std::optional<PictureBudget> pictures;  ///< absent: not limited
};

struct PreparedRequest {
  Job job;
  int64_t prompt_truncated = 0;
};

/// Reads and resizes the pictures, assembles the prompt and fills in what the request leaves open.
/// Throws kRequest, kImage, kPrompt, kTokenizer, or
/// kCapacity where the pictures need more memory than was planned for them.
PreparedRequest Prepare(const Request& request, const RequestContext& context);

}  // namespace xcomposer::api
