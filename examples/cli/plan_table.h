#pragma once

#include <string>

#include "xcomposer/plan.h"

namespace xcomposer::cli {

/// The plan for people: a table of stages with a bar of bytes by cause; or what is short, and the
/// commands that would fit.
std::string ToTable(const Plan& plan);

/// "17.33 GB"
std::string Gigabytes(int64_t bytes);

/// "vit ... tok_embeddings, layers 0-9", "layers 10-31, norm, output"
std::string PartsText(const PlannedDevice& device);

}  // namespace xcomposer::cli
