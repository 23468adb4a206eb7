#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "placement/weight_type.h"

namespace xcomposer {

/// A picture as the vision tower gets it.
struct PictureShape {
  int64_t width = 0;  ///< pixels, padding included
  int64_t height = 0;
  int64_t tile_rows = 1;
  int64_t tile_columns = 1;
  int64_t rows = 0;  ///< in the sequence
};

enum class Objective {
  kThroughput,  ///< the slowest stage with its hand-over counts
  kLatency,     ///< the sum of all stages and hand-overs counts
  kRequest,     ///< the same sum over a whole request: its pictures, its prompt, its answer
};

const char* ToString(Objective objective);

/// "throughput", "latency" or "request"; nothing for "". Throws kUsage.
std::optional<Objective> ParseObjective(const std::string& name);

inline constexpr int64_t kKvBlock = 32;         ///< positions of a KV block in the engine
inline constexpr int64_t kPrefillChunk = 1024;  ///< rows of a prefill step in the engine
inline constexpr int64_t kAnswerTokens = 128;   ///< of an answer, where nobody says how many

/// What is to be run.
struct Workload {
  int64_t context = 0;    ///< positions of a sequence, prompt and answer
  int64_t sequences = 1;  ///< in flight
  int64_t images = 1;     ///< per request
  PictureShape picture;
  int64_t hd_num = 0;  ///< 0: the kind has no tiles
  int64_t prefill_chunk = kPrefillChunk;
  int64_t answer_tokens = kAnswerTokens;  ///< for the time of a request
  WeightType weights = WeightType::kBFloat16;
  WeightType stored = WeightType::kBFloat16;  ///< of what packed formats leave as it is
  bool int8_kv = false;                       ///< keys and values in int8; CPU only
  std::optional<Objective> objective;         ///< absent: latency for one sequence, else throughput

  /// The type of all that is not packed.
  WeightType Unquantised() const { return IsPacked(weights) ? stored : weights; }

  Objective Goal() const {
    return objective.value_or(sequences == 1 ? Objective::kLatency : Objective::kThroughput);
  }
};

}  // namespace xcomposer
