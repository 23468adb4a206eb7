#pragma once

#include <string>

#include "config/model_config.h"
#include "config/weight_names.h"
#include "nlohmann/json.hpp"

namespace xcomposer {

/// The config.json of the shipped 7B checkpoints of a kind, with the fields the engine reads.
inline nlohmann::json ShippedConfig(Kind kind) {
  nlohmann::json json = {{"architectures", {"InternLMXComposer2ForCausalLM"}},
                         {"bias", false},
                         {"bos_token_id", 1},
                         {"eos_token_id", 2},
                         {"pad_token_id", 2},
                         {"hidden_act", "silu"},
                         {"hidden_size", 4096},
                         {"intermediate_size", 14336},
                         {"max_length", 4096},
                         {"max_position_embeddings", 32768},
                         {"num_attention_heads", 32},
                         {"num_hidden_layers", 32},
                         {"num_key_value_heads", 8},
                         {"rms_norm_eps", 1e-5},
                         {"rope_theta", 1000000},
                         {"rope_scaling", {{"type", "dynamic"}, {"factor", 1.0}}},
                         {"tie_word_embeddings", false},
                         {"torch_dtype", "bfloat16"},
                         {"vocab_size", 92544}};
  switch (kind) {
    case Kind::k2_7b:
      json["img_size"] = 224;
      break;
    case Kind::kVl7b:
      json["img_size"] = 490;
      break;
    case Kind::k4khd7b:
      json["rope_scaling"] = nullptr;
      json["max_length"] = 16384;
      break;
    case Kind::k25_7b:
      json["rope_scaling"]["factor"] = 2.0;
      json["max_length"] = 16384;
      json["max_position_embeddings"] = 24576;
      break;
    case Kind::kVl1_8b:
      json["img_size"] = 490;
      json["hidden_size"] = 2048;
      json["intermediate_size"] = 8192;
      json["num_hidden_layers"] = 24;
      json["num_attention_heads"] = 16;
      json["rope_scaling"]["factor"] = 2.0;
      break;
  }
  return json;
}

/// The headers that a complete checkpoint of this configuration has.
inline WeightHeaders HeadersOf(const ModelConfig& config) {
  WeightHeaders headers;
  for (const WeightSpec& spec : WeightTable(config)) headers[spec.name] = {"BF16", spec.shape};
  return headers;
}

}  // namespace xcomposer
