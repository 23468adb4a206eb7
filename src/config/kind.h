#pragma once

#include <optional>
#include <string>

#include "config/config_file.h"
#include "config/model_config.h"

namespace xcomposer {

inline constexpr const char* kPositionTable =
    "vit.vision_tower.vision_model.embeddings.position_embedding.weight";

/// What helps where the files leave the kind open: the other commands load weights, and those that
/// tell no kind cannot be loaded.
inline constexpr const char* kKindAdvice = "plan and inspect can be told the kind (--kind)";

/// One extent of a tensor, or nothing where the tensor is missing or has another number of axes.
std::optional<int64_t> Extent(const WeightHeaders& headers, const std::string& name, size_t axes,
                              size_t axis);

/// What config.json alone says, or nothing where it is ambiguous.
std::optional<Kind> KindOfConfig(const ConfigFile& file);

/// What the tensors say, with config.json for what they leave open. Throws kConfig, with
/// kKindAdvice.
Kind KindOfTensors(const WeightHeaders& headers, const ConfigFile& file);

}  // namespace xcomposer
