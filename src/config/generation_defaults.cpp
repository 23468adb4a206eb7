#include "config/generation_defaults.h"

#include <filesystem>
#include <set>

#include "base/check.h"
#include "base/small_file.h"
#include "config/json_text.h"
#include "config/model_descriptions.h"
#include "nlohmann/json.hpp"

namespace xcomposer {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxFileBytes = 1 << 20;

double NumberFrom(const Json& value, const std::string& key, double low, double high) {
  Require(value.is_number() && value.get<double>() >= low && value.get<double>() <= high,
          ErrorKind::kConfig, "generation_config.json: ", key, " is ", value.dump(),
          ", expected a number from ", low, " to ", high);
  return value.get<double>();
}

int64_t IntFrom(const Json& value, const std::string& key, int64_t low, int64_t high) {
  Require(value.is_number_integer(), ErrorKind::kConfig, "generation_config.json: ", key, " is ",
          value.dump(), ", expected an integer");
  return static_cast<int64_t>(
      NumberFrom(value, key, static_cast<double>(low), static_cast<double>(high)));
}

/// Settings of transformers that would change an answer, with the value that changes nothing.
bool IsNeutral(const std::string& key, const Json& value) {
  static const std::map<std::string, Json> neutral = {{"min_length", 0},
                                                      {"min_new_tokens", 0},
                                                      {"no_repeat_ngram_size", 0},
                                                      {"typical_p", 1.0},
                                                      {"epsilon_cutoff", 0.0},
                                                      {"eta_cutoff", 0.0},
                                                      {"num_beam_groups", 1},
                                                      {"diversity_penalty", 0.0},
                                                      {"encoder_repetition_penalty", 1.0},
                                                      {"bad_words_ids", {}},
                                                      {"suppress_tokens", {}},
                                                      {"begin_suppress_tokens", {}},
                                                      {"force_words_ids", {}},
                                                      {"forced_bos_token_id", {}},
                                                      {"forced_eos_token_id", {}},
                                                      {"penalty_alpha", 0.0},
                                                      {"guidance_scale", 1.0},
                                                      {"min_p", 0.0},
                                                      {"num_return_sequences", 1},
                                                      {"renormalize_logits", false},
                                                      {"remove_invalid_values", false},
                                                      {"exponential_decay_length_penalty", {}},
                                                      {"sequence_bias", {}}};
  const auto it = neutral.find(key);
  return it == neutral.end() || value.is_null() || value == it->second || value == Json::array();
}

}  // namespace

GenerationDefaults ChatDefaults(Kind kind) {
  const ModelDescription description(kind);
  GenerationDefaults defaults;
  defaults.max_new_tokens = description.Int("chat.max_new_tokens");
  defaults.do_sample = description.Bool("chat.do_sample");
  defaults.temperature = description.Number("chat.temperature");
  defaults.top_p = description.Number("chat.top_p");
  defaults.repetition_penalty = description.Number("chat.repetition_penalty");
  defaults.num_beams = description.Int("chat.num_beams");
  defaults.top_k = description.Int("chat.top_k");
  defaults.length_penalty = description.Number("chat.length_penalty");
  defaults.early_stopping = description.Bool("chat.early_stopping");
  return defaults;
}

void MergeGenerationConfig(const std::string& text, GenerationDefaults& defaults) {
  static const std::set<std::string> not_taken = {
      "max_new_tokens",     "do_sample",    "temperature",        "top_p",
      "repetition_penalty", "max_length",   "use_cache",          "bos_token_id",
      "eos_token_id",       "pad_token_id", "_from_model_config", "transformers_version"};
  const Json json = ParseJsonObject(text, ErrorKind::kConfig, "generation_config.json");
  for (const auto& [key, value] : json.items()) {
    if (not_taken.count(key) != 0 || value.is_null()) continue;
    if (key == "num_beams") {
      defaults.num_beams = IntFrom(value, key, 1, 256);
    } else if (key == "top_k") {
      defaults.top_k = IntFrom(value, key, 0, int64_t{1} << 31);
    } else if (key == "length_penalty") {
      defaults.length_penalty = NumberFrom(value, key, -100.0, 100.0);
    } else if (key == "early_stopping") {
      Require(value.is_boolean(), ErrorKind::kConfig, "generation_config.json: early_stopping is ",
              value.dump(), ", expected true or false");
      defaults.early_stopping = value.get<bool>();
    } else if (!IsNeutral(key, value)) {
      throw Error(ErrorKind::kConfig,
                  StrCat("generation_config.json sets ", key, " to ", value.dump(),
                         ", which would change answers and is not followed here; remove it or set "
                         "it to its neutral value"));
    } else {
      defaults.notes.push_back(StrCat("generation_config.json: ", key, " is not used"));
    }
  }
}

GenerationDefaults LoadGenerationDefaults(const std::filesystem::path& folder, Kind kind) {
  GenerationDefaults defaults = ChatDefaults(kind);
  const std::filesystem::path file = folder / "generation_config.json";
  std::error_code ignored;
  if (!std::filesystem::exists(std::filesystem::symlink_status(file, ignored))) return defaults;
  const std::string text = ReadSmallFile(file, kMaxFileBytes, ErrorKind::kConfig);
  try {
    MergeGenerationConfig(text, defaults);
  } catch (const Error& error) {
    throw error.With("file", file.string());
  }
  return defaults;
}

}  // namespace xcomposer
