#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "config/model_config.h"

namespace xcomposer {

/// The fields of a config.json that the engine reads, checked one by one.
struct ConfigFile {
  int64_t hidden_size = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t intermediate_size = 0;
  int64_t vocab_size = 0;
  double rms_norm_eps = 0.0;
  RopeConfig rope;
  std::optional<int64_t> max_length;
  std::optional<int64_t> img_size;
  int32_t bos_id = 0;
  int32_t eos_id = 0;
  int32_t pad_id = 0;
  std::string torch_dtype;
  std::string model_type;
  std::optional<DeclaredQuantization> quantization;  ///< quantization_config
};

/// Throws kConfig: not JSON, or one error that names every missing and every wrong field.
ConfigFile ParseConfigFile(const std::string& text);

}  // namespace xcomposer
