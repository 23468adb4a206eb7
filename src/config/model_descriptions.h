#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "config/model_config.h"
#include "nlohmann/json_fwd.hpp"

namespace xcomposer {

/// The text of configs/models/<kind>.json, built into the library.
std::string_view ModelDescriptionText(Kind kind);

/// What configs/models/<kind>.json says: the constants that no file of a checkpoint holds.
class ModelDescription {
 public:
  explicit ModelDescription(Kind kind);

  /// The value of one entry ("plora.wqkv.rank"). Throws kInternal where it is missing or has
  /// another type.
  int64_t Int(const std::string& key) const;
  double Number(const std::string& key) const;
  bool Bool(const std::string& key) const;

 private:
  const nlohmann::json& Value(const std::string& key) const;

  std::string file_;
  std::shared_ptr<const nlohmann::json> json_;
};

}  // namespace xcomposer
