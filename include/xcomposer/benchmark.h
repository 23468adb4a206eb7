#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "xcomposer/engine.h"
#include "xcomposer/export.h"

namespace xcomposer {

/// A figure over its runs. With an even number of runs the median is the mean of the middle two.
struct Spread {
  double median = 0;
  double min = 0;
  double max = 0;
  int64_t runs = 0;
};

struct BenchmarkProgress {
  std::string what;  ///< being measured
  int64_t done = 0;  ///< steps of `total`
  int64_t total = 0;
};

struct BenchmarkOptions {
  /// What is loaded, as for Engine::Load. `random_weights` needs no checkpoint.
  EngineOptions engine;

  std::vector<int64_t> prompt_tokens = {128, 512};  ///< one figure each
  std::vector<int64_t> contexts = {128};  ///< tokens before those that decoding is timed on
  int64_t new_tokens = 32;                ///< of a decode run; at least 2
  bool picture = true;                    ///< the vision tower, and a prompt with its rows
  int64_t image_width = 0;                ///< pixels; 0: the size with the most rows under hd_num
  int64_t image_height = 0;
  std::optional<int64_t> hd_num;  ///< tiles, for the kinds that have them; absent: the kind's
  int64_t repeat = 5;             ///< runs of each figure, after one that does not count

  /// Called between runs; what it throws ends the benchmark.
  std::function<void(const BenchmarkProgress&)> progress;
};

/// What the machine can do at most: of a CPU measured between the runs, of a GPU by its name.
struct MachineLimit {
  std::string name;       ///< "memory read", "fp32 fma", ...; of a GPU "memory", "fp16 product"
  std::string detail;     ///< how it was measured, or where the figure comes from
  std::string unit;       ///< "B/s" or "op/s"
  bool measured = false;  ///< false: known by the device's name only
  Spread rate;
};

/// A figure as a part of a limit: what it moved or computed, over its time and the limit's rate in
/// the same minute.
struct LimitShare {
  std::string limit;
  Spread percent;
};

struct BenchmarkFigure {
  std::string name;   ///< "load", "vision", "prefill 128", "prefill picture", "decode 128", ...
  std::string phase;  ///< "load", "vision", "prefill", "decode"
  int64_t rows = 0;   ///< of a run: of the prompt, or new tokens that were timed
  int64_t picture_rows = 0;  ///< of them
  int64_t context = 0;       ///< decode: positions before the first timed token
  Spread seconds;            ///< of a run
  Spread rows_per_s;         ///< tokens per second; none for "load"
  double bytes = 0;          ///< of a run: weights, keys and values that must be read
  double operations = 0;     ///< of a run: products and sums
  Spread bytes_per_s;
  Spread operations_per_s;
  std::vector<LimitShare> shares;  ///< of the limits that apply
  std::string bound;  ///< memory, or the fastest arithmetic limit, whichever share is larger
  std::optional<double> foreign_cpu;  ///< percent of all processors that others used meanwhile
  std::optional<double> stolen_cpu;   ///< percent that the machine's host kept for itself
};

struct BenchmarkReport {
  std::string version;
  std::string commit;  ///< empty where the build could not tell
  std::string host;
  std::string processor;
  std::string kernels;  ///< as Machine() names them
  int threads = 0;
  int64_t cache_bytes = 0;  ///< last level; 0: unknown
  std::vector<std::string> devices;
  ModelInfo model;
  bool random_weights = false;
  std::string weights;  ///< "bf16", "fp16", "fp32", "bf12", "int8", "int4"
  std::string kv;       ///< keys and values: "fp32", "16-bit", "int8"
  /// What those of prompts and pictures count as: "fp32", "bf16"; "16-bit" on CUDA.
  std::string activations;
  int64_t prefill_chunk = 0;
  int64_t new_tokens = 0;
  std::vector<MachineLimit> limits;
  std::vector<BenchmarkFigure> figures;
  std::optional<double> foreign_cpu;  ///< over everything, as in BenchmarkFigure
  std::optional<double> stolen_cpu;
  /// What makes the figures doubtful: other programs, a figure above its limit, ...
  std::vector<std::string> warnings;
};

/// Loads the model and measures it. Runs of all figures take turns; the limits are measured again
/// before a run where that was more than five seconds ago, so that what a figure is compared with
/// is of the same minute. Throws what Engine::Load and `progress` throw, kUsage for options out of
/// range, kCapacity where a prompt does not fit.
XCOMPOSER_API BenchmarkReport RunBenchmark(const BenchmarkOptions& options);

}  // namespace xcomposer
