#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "config/model_config.h"

namespace xcomposer {

/// What a request gets that names no generation settings: the defaults of the published chat() of
/// the kind (model specification 8.6), then generation_config.json for the fields that chat()
/// leaves alone.
struct GenerationDefaults {
  int64_t max_new_tokens = 0;
  bool do_sample = false;
  double temperature = 1.0;
  double top_p = 1.0;
  double repetition_penalty = 1.0;
  int64_t num_beams = 1;  ///< this and the rest may come from generation_config.json
  int64_t top_k = 0;
  double length_penalty = 1.0;
  bool early_stopping = false;

  std::vector<std::string> notes;  ///< entries of generation_config.json that are not followed
};

/// The chat defaults of `kind`, without any file.
GenerationDefaults ChatDefaults(Kind kind);

/// Merges the text of a generation_config.json into `defaults`. Fields that chat() sets,
/// max_length, use_cache and the token ids are not taken. Throws kConfig for text that is no JSON
/// object, a value out of range, or a setting that would change answers and is not followed here.
void MergeGenerationConfig(const std::string& text, GenerationDefaults& defaults);

/// ChatDefaults of the kind merged with `folder`/generation_config.json, if there is one.
GenerationDefaults LoadGenerationDefaults(const std::filesystem::path& folder, Kind kind);

}  // namespace xcomposer
