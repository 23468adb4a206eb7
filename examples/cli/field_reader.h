#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace xcomposer::cli {

/// Reads one value of a request and refuses what has another type or lies outside the range. The
/// errors are kRequest and name the key, what was expected and what was found.
class FieldReader {
 public:
  FieldReader(std::string key, const nlohmann::json& value) : key_(std::move(key)), value_(value) {}

  const std::string& key() const { return key_; }
  const nlohmann::json& value() const { return value_; }
  FieldReader At(size_t index) const;

  std::string Text() const;
  bool Flag() const;
  int64_t Integer(int64_t low, int64_t high) const;
  uint64_t Unsigned() const;  ///< 0 to 2^64-1
  double Number(double low, double high) const;
  std::vector<std::string> Texts() const;
  std::vector<int32_t> Ids(int64_t low) const;  ///< one id, or a list of them
  const nlohmann::json& List() const;

  [[noreturn]] void Refuse(const std::string& expected) const;

 private:
  std::string key_;
  const nlohmann::json& value_;
};

}  // namespace xcomposer::cli
