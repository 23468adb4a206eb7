#pragma once

#include <map>
#include <stdexcept>
#include <string>
#include <utility>

#include "xcomposer/export.h"

namespace xcomposer {

/// What went wrong, as coarse as a program needs to react. The command line has exit codes for it.
enum class ErrorKind {
  kUsage,       ///< wrong use of the command line or of the API
  kRequest,     ///< a request that contradicts itself or names unknown things
  kImage,       ///< a picture that cannot be read or exceeds the limits
  kPrompt,      ///< the prompt's text or its picture marks
  kTokenizer,   ///< the tokenizer's file or its input
  kCheckpoint,  ///< weight files
  kConfig,      ///< config.json and its companions
  kPlan,        ///< a placement that is not possible
  kCapacity,    ///< does not fit into memory
  kDevice,      ///< no such device, or it failed
  kRank,        ///< another process of the run was lost
  kTransport,   ///< the connection to another process failed
  kDeadline,    ///< the time the caller allowed has passed
  kCancelled,   ///< the caller asked to stop
  kInternal,    ///< a defect of this library
};

/// The lower-case word used in JSON output, for example "checkpoint".
XCOMPOSER_API const char* ToString(ErrorKind kind);

/// The exception of this library. The message says what was found, what was expected and what to
/// do; `where()` names the place: keys such as "file", "tensor", "offset", "rank", "device".
class XCOMPOSER_API Error : public std::runtime_error {
 public:
  using Where = std::map<std::string, std::string>;

  Error(ErrorKind kind, const std::string& message, Where where = {})
      : std::runtime_error(message), kind_(kind), where_(std::move(where)) {}

  ErrorKind kind() const noexcept { return kind_; }
  const Where& where() const noexcept { return where_; }

  /// The same error with one more place, used by callers that know more (the file's name, say).
  Error With(const std::string& key, const std::string& value) const {
    Where where = where_;
    where.emplace(key, value);
    return Error(kind_, what(), std::move(where));
  }

 private:
  ErrorKind kind_;
  Where where_;
};

}  // namespace xcomposer
