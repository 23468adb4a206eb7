#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "checkpoint/fault.h"

namespace xcomposer {

/// The keys from the root to a value. Elements of an array have the array's own path.
using JsonPath = std::vector<std::string>;

/// An integer that does not fit into int64 arrives as a double.
using JsonScalar = std::variant<std::nullptr_t, bool, int64_t, double, std::string>;

/// Receives a JSON text as events in the order of the text; throws to refuse it.
class JsonVisitor {
 public:
  virtual ~JsonVisitor() = default;
  virtual void BeginObject(const JsonPath& path) = 0;
  virtual void EndObject(const JsonPath& path) = 0;
  virtual void BeginArray(const JsonPath& path) = 0;
  virtual void EndArray(const JsonPath& path) = 0;
  virtual void Value(const JsonPath& path, const JsonScalar& value) = 0;
};

struct JsonLimits {
  int64_t max_depth = 0;      ///< objects and arrays inside of each other
  int64_t max_open_keys = 0;  ///< keys read so far of all objects that are open
};

/// Visits `text`, which must be one JSON value and white space. Stricter than the parser below it:
/// duplicate keys, NUL bytes (taken as the end by that parser), numbers that overflow a double and
/// what exceeds `limits` are refused with kCheckpoint at `place`. Time O(n log n), memory of the
/// keys of the open objects.
void VisitJson(std::string_view text, const Place& place, const JsonLimits& limits,
               JsonVisitor& visitor);

}  // namespace xcomposer
