#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "xcomposer/export.h"
#include "xcomposer/image.h"

namespace xcomposer {

/// How control strings inside user text ("<s>", "[UNUSED_TOKEN_145]", ...) are read.
enum class Specials {
  kLiteral,    ///< as ordinary text: a user cannot forge the end of a turn
  kReference,  ///< as the published Python code reads them: they act
};

/// The adapters of 2.5; the other kinds know only kBase.
enum class InferMode { kBase, kWeb, kWrite };

enum class EarlyStopping { kFalse, kTrue, kNever };

struct Turn {
  std::string query;
  std::string answer;
};

/// Hugging Face's generation settings. What is absent takes the default of the model kind's `chat`
/// (sampling with top_p 0.8, temperature 1.0, repetition_penalty 1.005, 1024 new tokens); what that
/// leaves open (num_beams, top_k, length_penalty, early_stopping) is read from the checkpoint's
/// generation_config.json, where it has one, or else Hugging Face's own default (top_k 50).
struct GenerationOptions {
  std::optional<int64_t> max_new_tokens;
  std::optional<bool> do_sample;
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<int64_t> top_k;
  std::optional<int64_t> num_beams;
  std::optional<double> repetition_penalty;
  std::optional<double> length_penalty;
  std::optional<EarlyStopping> early_stopping;
  std::optional<std::vector<int32_t>> eos_token_id;
  /// false: recompute the sequence each step, as the text path does by itself. Prompts on
  /// the embeddings path (with pictures; 2.5's without, too) always use the cache, as in the
  /// reference.
  std::optional<bool> use_cache;
  std::optional<uint64_t> seed;   ///< absent: drawn, and returned in the result
  std::vector<std::string> stop;  ///< texts that end the answer; they are not part of it
};

/// The value in Request::token_ids that stands for the next picture.
inline constexpr int32_t kPictureId = -1;

/// One request. Either `query` (with history and system text) or `token_ids` says what is asked.
struct Request {
  std::string id;  ///< returned with the result
  std::string query;
  std::vector<Turn> history;

  /// The pictures, in the order of the marks <ImageHere> over history and query. Absent: the
  /// reference's default (2.5: the embeddings path without pictures, all others: the text path).
  std::optional<std::vector<ImageSource>> images;
  /// The reference's `image=None`: the text path for every kind. Excludes `images`.
  bool text_path = false;
  /// Pictures without a mark go before the query instead of being an error.
  bool place_missing_marks_first = false;

  /// System text; absent: the kind's own; empty: none.
  std::optional<std::string> meta_instruction;
  /// The system text stands in the prompt; absent in 2.5: where meta_instruction is given and not
  /// empty. The other kinds always use it and refuse false.
  std::optional<bool> use_meta;
  /// 2.5 only: rows of a prompt on the embeddings path; what is beyond is cut off. Absent: 16384.
  /// (The reference's article writer takes 8192.) Not for token_ids, which are never cut.
  std::optional<int64_t> max_length;
  std::optional<int64_t> hd_num;  ///< 4khd and 2.5: limit of tiles
  InferMode infer_mode = InferMode::kBase;
  Specials specials = Specials::kLiteral;

  /// The whole prompt as ids instead of text, BOS included; kPictureId marks a picture. The path
  /// follows from the pictures as it does for text. Needs no tokenizer.
  std::optional<std::vector<int32_t>> token_ids;

  GenerationOptions generation;
  /// Seconds from submission; then the answer so far is returned.
  std::optional<double> deadline_s;
  /// Whether there are events that say how far pictures and prompt are (Event::Type::kProgress).
  bool reports_progress = false;
};

enum class FinishReason { kStop, kLength, kCancelled, kDeadline };

/// "stop", "length", "cancelled" or "deadline".
XCOMPOSER_API const char* ToString(FinishReason reason);

/// What the engine's `load_s` went into, in the process that loaded it; seconds.
struct LoadTimings {
  double device_s = 0;   ///< starting the devices: the driver, streams, libraries
  double weights_s = 0;  ///< memory for weights and KV cache; reading, converting, copying weights
  double warm_up_s = 0;  ///< first launches on GPUs, for which no request has to wait then
  int64_t weight_bytes = 0;  ///< on the devices of this process; mapped files on the CPU
};

struct Timings {
  double load_s = 0;  ///< of the engine
  double image_s = 0;
  double prefill_s = 0;
  double decode_s = 0;
  double tokens_per_s = 0;  ///< new tokens after the first, per second of decoding
  double step_s = 0;  ///< median from one new token to the next: where other requests' prompts were
                      ///< in between now and then, the time without them
  LoadTimings load = {};
};

struct Placement {
  std::string device;
  std::vector<std::string> modules;
};

struct Result {
  std::string id;
  std::string text;
  std::vector<int32_t> output_ids;  ///< new ids, with the end id where one was produced
  int64_t prompt_tokens = 0;        ///< rows of the prompt, pictures included
  int64_t image_tokens = 0;         ///< rows that came from pictures
  int64_t prompt_truncated = 0;     ///< rows lost to the kind's prompt limit
  FinishReason finish_reason = FinishReason::kStop;
  uint64_t seed = 0;
  Timings timings;
  std::vector<Placement> placement;
};

}  // namespace xcomposer
