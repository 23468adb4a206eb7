#pragma once

#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "cli/tensor_file.h"

namespace xcomposer::testing {

/// One recorded case of the reference; the folder of its kind is found by listing.
struct GoldenCase {
  std::string kind;    ///< the folder's name
  std::string folder;  ///< of the kind
  int64_t index = 0;   ///< in the folder's cases.json
  nlohmann::json record;

  std::string name() const { return record.at("name"); }
  /// The reference's answer here depends on the case that ran before it, which an engine must not
  /// do.
  bool depends_on_earlier() const;
  /// The record as a request. A video starts from its recorded canvas: the reference wrote labels
  /// into the frames with a font that need not be here.
  nlohmann::json Request() const;
};

inline void PrintTo(const GoldenCase& golden, std::ostream* out) {
  *out << golden.kind << ' ' << golden.name();
}

/// All cases of all kinds but the 4-bit ones, or nothing where the shared folder is missing.
const std::vector<GoldenCase>& GoldenCases();
std::vector<std::string> GoldenKinds();

std::string SharedData();

/// Compares what `trace` wrote with the recorded rows, each tensor within 1e-4 of its root mean
/// square, bytes exactly; gives one line for each that differs.
std::vector<std::string> CompareTaps(const GoldenCase& golden, const std::string& traced_file);

}  // namespace xcomposer::testing
