#include "placement/workload.h"

#include <array>

#include "base/check.h"

namespace xcomposer {
namespace {

constexpr std::array<Objective, 3> kAll = {Objective::kThroughput, Objective::kLatency,
                                           Objective::kRequest};

}  // namespace

const char* ToString(Objective objective) {
  switch (objective) {
    case Objective::kThroughput:
      return "throughput";
    case Objective::kLatency:
      return "latency";
    case Objective::kRequest:
      return "request";
  }
  return "?";
}

std::optional<Objective> ParseObjective(const std::string& name) {
  if (name.empty()) return std::nullopt;
  std::string expected;
  for (const Objective objective : kAll) {
    if (name == ToString(objective)) return objective;
    expected += (expected.empty() ? "" : ", ") + std::string(ToString(objective));
  }
  throw Error(ErrorKind::kUsage,
              StrCat("the objective is '", name, "', expected one of ", expected));
}

}  // namespace xcomposer
