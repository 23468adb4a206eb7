#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "xcomposer/error.h"
#include "xcomposer/export.h"
#include "xcomposer/plan.h"
#include "xcomposer/ranks.h"
#include "xcomposer/request.h"

namespace xcomposer {

/// How weights are kept. On the CPU arithmetic is float32, but for what WeightPrecision and
/// ActivationPrecision round.
enum class StorageType { kAuto, kFloat32, kFloat16, kBFloat16 };

/// Precision of the decoder's linears and the output matrix. Anything but kAsStored is for CPUs
/// only and made while loading, of a checkpoint that is not quantised; all else stays as it is.
///
/// kBf12 rounds nothing: bfloat16 numbers in 12 bits each, and the few that those do not hold
/// beside them, so that results are those of kAsStored bit for bit and 3/4 of the bytes are read.
/// Weights of another type are refused (kUsage); StorageType::kBFloat16 rounds them first. kInt8
/// and kInt4 round, the output matrix to 8 bits. docs/quantisation.md has layouts and accuracy.
enum class WeightPrecision { kAsStored, kInt8, kInt4, kBf12 };

/// Precision of the KV cache. kAsComputed: float32 on the CPU, the type of the weights on CUDA.
/// kInt8, on CPUs only: rounded in groups of 32 numbers with a scale each, 1/3.76 of the bytes
/// where heads have 128 numbers. docs/quantisation.md has the accuracy.
enum class KvPrecision { kAsComputed, kInt8 };

/// What activations count as on the CPU where there are many rows of them (prompts, pictures):
/// beside bfloat16 weights and official packings, and in attention. kBFloat16 rounds them where the
/// processor has products of bfloat16: about twice as fast where Machine() names its instructions
/// avx512bf16, unmeasured with amx; on other processors it changes nothing, and CUDA devices refuse
/// it (kUsage). Scores move less than by the published recipe in bfloat16: docs/exactness.md has
/// the accuracy.
enum class ActivationPrecision { kFloat32, kBFloat16 };

struct LoadProgress {
  int64_t bytes_done = 0;
  int64_t bytes_total = 0;
  std::string what;  ///< the tensor at hand
};

struct EngineOptions {
  /// Checkpoint folder, or a Hugging Face repository id in the local cache. On the CPU weights are
  /// used as they lie in its files, so these must not be changed or cut in place while the engine
  /// lives; replacing them by renaming, or removing them, is safe.
  std::string model;

  /// One stage each, in the order that the planner finds best. In a run over several processes
  /// these are the devices of every rank, rank 0's first, and keep their order; or each names its
  /// rank: "0:cpu", "1:cuda:0".
  std::vector<std::string> devices = {"cpu"};
  /// "" or "auto": as the planner places it; otherwise a Hugging Face device_map JSON file.
  std::string device_map;
  /// What the planner makes small: "throughput", "latency" or "request", as PlanOptions has it.
  /// Empty: latency where there is room for one sequence of full length only, else throughput.
  std::string objective;
  StorageType dtype = StorageType::kAuto;
  WeightPrecision weights = WeightPrecision::kAsStored;
  KvPrecision kv_precision = KvPrecision::kAsComputed;
  ActivationPrecision activations = ActivationPrecision::kFloat32;
  /// Up to 4096; 0: as many as this process may use. Of our kernels: what LibTorch computes itself
  /// (scaling pictures, some copies) takes OpenMP's threads (OMP_NUM_THREADS).
  int threads = 0;
  int64_t kv_tokens = 0;      ///< positions in the KV pool; 0: from the free memory
  int64_t prefill_chunk = 0;  ///< rows of one prefill step; 0: 1024
  int64_t max_image_pixels = 178956970;
  std::string video_font;  ///< TrueType file for the frame labels of 2.5's videos
  /// Draw the weights instead of reading them, to measure a size without its checkpoint: `model` is
  /// then a kind ("2-vl-7b": as published), a config.json or a folder with one. There is no
  /// tokenizer, and answers mean nothing. One process only.
  bool random_weights = false;
  RankOptions ranks;
  /// Called while loading, one call at a time, not always on the thread that called Load. An
  /// xcomposer::Error that it throws ends the loading and is what Load throws.
  std::function<void(const LoadProgress&)> progress;
};

/// What was loaded.
struct ModelInfo {
  std::string path;
  std::string kind;          ///< "2-7b", "2-vl-7b", "2-4khd-7b", "2.5-7b", "2-vl-1.8b"
  std::string quantization;  ///< "none", "GPTQ 4 bit, groups of 128", ...: as loaded
  int64_t parameters = 0;
  int64_t weight_bytes = 0;
  int64_t layers = 0;
  int64_t hidden = 0;
  int64_t vocab = 0;
  double load_s = 0;
  LoadTimings load;
  std::vector<Placement> placement;
  bool has_tokenizer = false;
};

/// A stage as it is: where, what the plan gave it, and what it has really needed so far.
struct StagePlacement {
  int stage = 0;
  int rank = 0;
  std::string device;
  std::vector<std::string> modules;
  PlanBytes planned;           ///< `overhead` without the part that is activations and workspace
  bool measured_here = false;  ///< a stage of this process: the figures below are counted
  int64_t weights = 0;         ///< bytes
  int64_t kv = 0;              ///< of the pool; the system takes its pages when first used
  int64_t activations = 0;     ///< most at any moment of a step
  int64_t vision = 0;          ///< most while a picture was encoded
};

/// What was looked at before rows of pictures were put between rows of text.
struct JoinReport {
  std::string picture_device;  ///< of vit and vision_proj
  std::string text_device;     ///< of model.tok_embeddings
  std::string type;            ///< of both
  int64_t width = 0;           ///< of both
  int64_t joins = 0;           ///< so far
  int64_t rows = 0;            ///< that were put there
};

struct PlacementReport {
  std::vector<StagePlacement> stages;
  JoinReport join;
};

using RequestId = uint64_t;

/// How far the prompt is. Rows of pictures are rows of it too; while pictures are encoded, none is
/// done.
struct PromptProgress {
  int64_t rows_done = 0;
  int64_t rows_total = 0;
};

/// Something that happened to a request. Errors arrive here, not as exceptions of Await.
struct Event {
  /// kProgress: only where Request::reports_progress asks for it; before all text, from no row to
  /// all of them unless the request ends earlier.
  enum class Type { kText, kDone, kError, kProgress };
  Type type = Type::kText;
  RequestId id = 0;
  std::string text;                             ///< kText: whole UTF-8 characters that were added
  std::optional<Result> result;                 ///< kDone
  std::optional<Error> error;                   ///< kError
  std::optional<PromptProgress> progress = {};  ///< kProgress
};

/// An intermediate tensor of one request; row-major. float32, or uint8 where `bytes` is filled.
struct TraceTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> values;
  std::vector<uint8_t> bytes;
};

struct TraceOptions {
  bool forward_only = false;      ///< the prompt once, no generation; adds prefill_logits
  std::vector<std::string> taps;  ///< names to keep; empty: all
  /// Asked several times a second on the calling thread; true ends the request as Cancel does.
  std::function<bool()> stop = {};
};

using TextCallback = std::function<void(const std::string& text)>;
using ProgressCallback = std::function<void(const PromptProgress&)>;
using EventCallback = std::function<void(const Event&)>;
using TraceCallback = std::function<void(TraceTensor&&)>;

/// A loaded model that answers requests, several at once.
///
/// Thread-safety: every method may be called from any thread at any time; callbacks come from the
/// engine's own thread and must not wait for a request. The model is const after Load; nothing of
/// one request is left for the next, except cached picture features, which change no result.
class XCOMPOSER_API Engine {
 public:
  /// Loads a checkpoint. Throws kUsage for options that cannot be or do not go together, kConfig,
  /// kCheckpoint, kTokenizer, kPlan, kDevice or kCapacity, and in a run over several processes
  /// kRank or kTransport. Rank 0 only: the others call Serve.
  static Engine Load(const EngineOptions& options);

  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;

  /// Cancels what is still running: every request gets its last event, kCancelled, before the
  /// destructor returns. No other call may run meanwhile. An EventCallback may destroy (or assign
  /// to) its own engine: then the destructor returns at once, and the last events come, and
  /// everything is freed, after the callback has returned.
  ~Engine();

  const ModelInfo& info() const;

  /// Where every part is, with the plan's figures and what has been measured so far.
  PlacementReport placement() const;

  /// Checks the request, prepares pictures and prompt on the calling thread and queues it.
  /// Throws kRequest, kImage, kPrompt, kTokenizer, or kCapacity for pictures that cannot be
  /// encoded, at once; what does not fit the KV cache arrives as an event. With a callback, events
  /// go there and Await must not be used.
  RequestId Submit(const Request& request, EventCallback callback = {});

  /// The next event of the request, or nothing when `timeout` passes first. After kDone or kError
  /// the id is forgotten; an unknown id is a kUsage error.
  std::optional<Event> Await(RequestId id, std::chrono::milliseconds timeout);

  /// Ends the request, if it still runs, and drops the events that nobody has taken: for requests
  /// whose answer is not wanted any more, which otherwise keep it until Await has taken the last
  /// event. No callback is called from then on (one may be running). Ignores unknown ids.
  void Forget(RequestId id);

  /// Takes the request's events until it is over; `on_text` receives the answer as it grows,
  /// `on_progress` what Request::reports_progress asks for. Throws the request's error.
  Result Wait(RequestId id, const TextCallback& on_text = {},
              const ProgressCallback& on_progress = {});

  /// Ends the request with FinishReason::kCancelled and what it has so far, which is its last
  /// event; ignores unknown ids.
  void Cancel(RequestId id);

  /// Submit and Wait: one request from start to end. Throws kUsage in a callback, as Wait and Trace
  /// do, which would wait for itself.
  Result Generate(const Request& request, const TextCallback& on_text = {});

  /// One request with its intermediate tensors, named as the command line's `trace` names them.
  /// `on_tensor` is called on the engine's own thread. Throws as Generate.
  Result Trace(const Request& request, const TraceOptions& options, const TraceCallback& on_tensor);

 private:
  class Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  static void End(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace xcomposer
