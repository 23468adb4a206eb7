#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "xcomposer/export.h"

namespace xcomposer {

/// What is to be placed where, and for which work. Everything but `model` may be left out.
struct PlanOptions {
  std::string model;  ///< checkpoint folder, repository id in the local cache, or a config.json
  std::string kind;   ///< overrides what config.json tells

  std::string cluster;               ///< JSON file that describes machines; empty: `devices`
  std::vector<std::string> devices;  ///< of this machine; empty: all that it has
  std::string max_memory;     ///< Hugging Face's max_memory, JSON text or file: {"0": "20GiB", ...}
  int64_t extra_devices = 0;  ///< as if the largest device were there that many times more

  std::optional<int64_t> context;  ///< positions of a sequence; absent: the kind's prompt limit and
                                   ///< an answer of 1024
  int64_t sequences = 1;           ///< in flight
  int64_t images = 1;              ///< per request
  int64_t image_width = 0;         ///< pixels; 0: the size that gives the most rows under hd_num
  int64_t image_height = 0;
  std::optional<int64_t> hd_num;  ///< tiles, for the kinds that have them; absent: the kind's
  int64_t prefill_chunk = 0;      ///< rows of one prefill step; 0: the engine's default
  int64_t answer_tokens = 0;      ///< for the time of a request; 0: 128

  /// Formats of the weights in order of preference: "auto" (as stored), "fp32", "fp16", "bf16",
  /// "bf12", "int8", "int4". The first that fits is taken.
  std::vector<std::string> weights = {"auto"};
  std::string kv = "auto";  ///< keys and values: "auto" (as computed), "int8" (CPUs only)
  /// What is made small: "throughput" (the slowest stage of a step), "latency" (all stages of a
  /// step), "request" (all stages of a request: pictures, prompt and `answer_tokens` steps). Empty:
  /// latency for one sequence, else throughput.
  std::string objective;
  std::string order = "any";  ///< "given": stages follow the order of the devices
  std::string device_map;     ///< JSON file of a hand-made map to check and measure; "auto": none
};

/// Bytes on one device by cause.
struct PlanBytes {
  int64_t weights = 0;
  int64_t kv = 0;
  int64_t activations = 0;  ///< beyond what every stage needs (that is part of `overhead`)
  int64_t vision = 0;       ///< picture features, and the vision tower's peak beyond activations
  int64_t workspace = 0;    ///< scratch of the kernels beyond what every stage needs
  int64_t overhead = 0;     ///< the same for every stage on a device of this kind

  int64_t total() const { return weights + kv + activations + vision + workspace + overhead; }
};

/// What `overhead` is made of.
struct PlanOverhead {
  int64_t runtime = 0;      ///< libraries, driver context, threads
  int64_t activations = 0;  ///< of one decoder layer for one step
  int64_t workspace = 0;    ///< scratch of the kernels of one decoder layer
};

/// One stage.
struct PlannedDevice {
  std::string device;  ///< "node/name"
  std::string kind;    ///< "cpu", "cuda"
  std::string model;
  int64_t memory = 0;
  int64_t budget = 0;  ///< what the plan may use of it
  std::vector<std::string> parts;
  int64_t first_layer = 0;
  int64_t last_layer = -1;  ///< below first_layer: no layer
  PlanBytes bytes;
  PlanOverhead overhead;
  double step_s = 0;         ///< this stage, one step of the workload
  double hop_s = 0;          ///< handing its result to the next stage; 0 for the last
  double request_s = 0;      ///< this stage, a whole request; prompt chunks do not overlap in it
  double request_hop_s = 0;  ///< handing all of that to the next stage

  int64_t headroom() const { return budget - bytes.total(); }
};

/// One part of the model, wherever it is put.
struct PlannedModule {
  std::string name;
  int64_t weight_bytes = 0;
  int64_t kv_bytes = 0;
  int64_t activation_bytes = 0;
  int64_t workspace_bytes = 0;
  std::vector<std::pair<std::string, double>> step_s;     ///< device, seconds
  std::vector<std::pair<std::string, double>> request_s;  ///< the same for a whole request
};

/// A device of the cluster, used or not.
struct PlanCandidate {
  std::string device;
  int64_t memory = 0;
  int64_t budget = 0;
  int64_t overhead = 0;
};

/// A device on which the best placement does not fit.
struct PlanShortage {
  std::string device;
  int64_t needed = 0;
  int64_t available = 0;
  PlanBytes by_cause;

  int64_t missing() const { return needed - available; }
};

/// A change that was planned and fits.
struct PlanAlternative {
  std::string change;
  std::vector<std::string> arguments;  ///< of `xcomposer plan`, appended to the same command
  std::vector<PlannedDevice> devices;
};

struct PlanModel {
  std::string kind;
  int64_t layers = 0;
  int64_t hidden = 0;
  int64_t vocab = 0;
  int64_t parameters = 0;
  int64_t weight_bytes = 0;
};

struct PlanWorkload {
  int64_t context = 0;
  int64_t sequences = 0;
  int64_t images = 0;
  int64_t picture_width = 0;  ///< prepared for the vision tower
  int64_t picture_height = 0;
  int64_t picture_rows = 0;  ///< of one picture in the sequence
  int64_t hd_num = 0;        ///< 0: the kind has no tiles
  int64_t prompt_rows = 0;   ///< pictures and 64 rows of text, at most the context
  int64_t prefill_chunk = 0;
  int64_t answer_tokens = 0;
  int64_t step_sequences = 0;  ///< that share one step; see docs/placement.md
  std::string weights;
  std::string kv;  ///< "auto", "int8"
};

/// Seconds where nothing but the described bandwidth and arithmetic limits the devices.
struct PlanTimes {
  double decode_step_s = 0;  ///< one token through all stages and back
  double tokens_per_s = 0;
  double prefill_s = 0;
  double image_s = 0;
  double request_s = 0;  ///< pictures, prompt and `answer_tokens` tokens of one request
};

/// Where everything goes; or, unless `fits`, what is short and what would help.
struct Plan {
  bool fits = false;
  std::string objective;  ///< "throughput", "latency" or "request"
  double value_s = 0;
  bool optimal = false;  ///< no placement of the search space is better
  PlanModel model;
  PlanWorkload workload;
  std::vector<PlannedDevice> devices;  ///< in the order of computation
  std::vector<PlannedModule> modules;
  std::vector<PlanCandidate> candidates;
  /// Seconds between candidates, of a step or, for "request", of a request; empty where many.
  std::vector<std::vector<double>> hops;
  PlanTimes predicted;
  std::string device_map;  ///< Hugging Face JSON
  std::vector<PlanShortage> shortages;
  std::vector<PlanAlternative> alternatives;
  std::vector<std::string> notes;  ///< what was assumed
};

/// Plans without weights and without the devices: config.json is enough. What does not fit is an
/// answer, not an error. Throws kConfig, kCheckpoint (the model), kPlan (a cluster or map that is
/// none), kDevice (no such device here, or one that cannot do what is asked) or kUsage (options out
/// of range).
XCOMPOSER_API Plan MakePlan(const PlanOptions& options);

}  // namespace xcomposer
