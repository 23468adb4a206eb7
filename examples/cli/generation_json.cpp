#include "generation_json.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <map>
#include <string_view>

#include "field_reader.h"
#include "number_option.h"
#include "xcomposer/error.h"

namespace xcomposer::cli {
namespace {

constexpr double kHuge = 1e9;
constexpr double kTiny = 1e-9;

using Taker = std::function<void(const FieldReader&, GenerationOptions&)>;

EarlyStopping ReadEarlyStopping(const FieldReader& field) {
  if (field.value().is_boolean()) {
    return field.Flag() ? EarlyStopping::kTrue : EarlyStopping::kFalse;
  }
  if (field.value() != "never") field.Refuse("true, false or \"never\"");
  return EarlyStopping::kNever;
}

// Settings that are known, and supported only where they change nothing.
Taker OnlyNeutral(double neutral) {
  return [neutral](const FieldReader& field, GenerationOptions&) {
    if (field.Number(-kHuge, kHuge) != neutral) {
      throw Error(ErrorKind::kRequest,
                  "'" + field.key() + "' is not supported at the value " + field.value().dump() +
                      "; leave it out",
                  {{"key", field.key()}});
    }
  };
}

const std::map<std::string, Taker, std::less<>>& Takers() {
  static const std::map<std::string, Taker, std::less<>> takers = {
      {"max_new_tokens",
       [](const FieldReader& field, GenerationOptions& options) {
         options.max_new_tokens = field.Integer(1, kMostTokens);
       }},
      {"do_sample", [](const FieldReader& field,
                       GenerationOptions& options) { options.do_sample = field.Flag(); }},
      {"temperature",
       [](const FieldReader& field, GenerationOptions& options) {
         options.temperature = field.Number(0, kHuge);
       }},
      {"top_p", [](const FieldReader& field,
                   GenerationOptions& options) { options.top_p = field.Number(0, 1); }},
      {"top_k", [](const FieldReader& field,
                   GenerationOptions& options) { options.top_k = field.Integer(0, kMostTokens); }},
      {"num_beams",
       [](const FieldReader& field, GenerationOptions& options) {
         options.num_beams = field.Integer(1, kMostBeams);
       }},
      {"repetition_penalty",
       [](const FieldReader& field, GenerationOptions& options) {
         options.repetition_penalty = field.Number(kTiny, kHuge);
       }},
      {"length_penalty",
       [](const FieldReader& field, GenerationOptions& options) {
         options.length_penalty = field.Number(-kHuge, kHuge);
       }},
      {"early_stopping",
       [](const FieldReader& field, GenerationOptions& options) {
         options.early_stopping = ReadEarlyStopping(field);
       }},
      {"eos_token_id", [](const FieldReader& field,
                          GenerationOptions& options) { options.eos_token_id = field.Ids(0); }},
      {"use_cache", [](const FieldReader& field,
                       GenerationOptions& options) { options.use_cache = field.Flag(); }},
      {"seed", [](const FieldReader& field,
                  GenerationOptions& options) { options.seed = field.Unsigned(); }},
      {"min_length", OnlyNeutral(0)},
      {"no_repeat_ngram_size", OnlyNeutral(0)},
      {"typical_p", OnlyNeutral(1)},
  };
  return takers;
}

}  // namespace

bool ReadGenerationKey(const std::string& name, const std::string& key, const nlohmann::json& value,
                       GenerationOptions& options) {
  const auto taker = Takers().find(name);
  if (taker == Takers().end()) return false;
  if (!value.is_null()) taker->second(FieldReader(key, value), options);
  return true;
}

bool IsIgnoredGenerationKey(const std::string& name) {
  constexpr std::array<std::string_view, 5> kIgnored = {
      "bos_token_id", "pad_token_id", "max_length", "infer_mode", "logits_processors"};
  return std::find(kIgnored.begin(), kIgnored.end(), name) != kIgnored.end();
}

}  // namespace xcomposer::cli
