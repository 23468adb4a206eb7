#include "field_reader.h"

#include <cmath>
#include <limits>
#include <sstream>

#include "strict_json.h"
#include "xcomposer/error.h"

namespace xcomposer::cli {
namespace {

std::string Shortened(const std::string& text) {
  constexpr size_t kLongest = 60;
  return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
}

template <typename T>
std::string Between(const char* what, T low, T high) {
  std::ostringstream out;
  out << what << " from " << low << " to " << high;
  return out.str();
}

}  // namespace

void FieldReader::Refuse(const std::string& expected) const {
  throw Error(ErrorKind::kRequest,
              "'" + key_ + "': expected " + expected + ", found " + Shortened(ToLine(value_)),
              {{"key", key_}});
}

FieldReader FieldReader::At(size_t index) const {
  return FieldReader(key_ + "[" + std::to_string(index) + "]", value_.at(index));
}

std::string FieldReader::Text() const {
  if (!value_.is_string()) Refuse("a string");
  return value_.get<std::string>();
}

bool FieldReader::Flag() const {
  if (!value_.is_boolean()) Refuse("true or false");
  return value_.get<bool>();
}

int64_t FieldReader::Integer(int64_t low, int64_t high) const {
  const std::string expected = Between("an integer", low, high);
  if (!value_.is_number_integer()) Refuse(expected);
  if (value_.is_number_unsigned() &&
      value_.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    Refuse(expected);
  }
  const int64_t number = value_.get<int64_t>();
  if (number < low || number > high) Refuse(expected);
  return number;
}

uint64_t FieldReader::Unsigned() const {
  if (!value_.is_number_unsigned()) Refuse("an integer from 0 to 18446744073709551615");
  return value_.get<uint64_t>();
}

double FieldReader::Number(double low, double high) const {
  const std::string expected = Between("a number", low, high);
  if (!value_.is_number()) Refuse(expected);
  const double number = value_.get<double>();
  if (!std::isfinite(number) || number < low || number > high) Refuse(expected);
  return number;
}

const nlohmann::json& FieldReader::List() const {
  if (!value_.is_array()) Refuse("a list");
  return value_;
}

std::vector<std::string> FieldReader::Texts() const {
  std::vector<std::string> texts;
  for (size_t i = 0; i < List().size(); ++i) texts.push_back(At(i).Text());
  return texts;
}

std::vector<int32_t> FieldReader::Ids(int64_t low) const {
  constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();
  if (!value_.is_array()) return {static_cast<int32_t>(Integer(low, kLargest))};
  std::vector<int32_t> ids;
  ids.reserve(value_.size());
  for (size_t i = 0; i < value_.size(); ++i) {
    ids.push_back(static_cast<int32_t>(At(i).Integer(low, kLargest)));
  }
  return ids;
}

}  // namespace xcomposer::cli
