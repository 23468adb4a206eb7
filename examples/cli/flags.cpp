#include "flags.h"

#include <algorithm>
#include <cctype>
#include <limits>
#include <map>
#include <sstream>

#include "exit_code.h"
#include "interrupt.h"
#include "number_option.h"
#include "progress_bar.h"
#include "utf8.h"
#include "xcomposer/log.h"

namespace xcomposer::cli {
namespace {

WeightPrecision ToWeightPrecision(const std::string& weights) {
  static const std::map<std::string, WeightPrecision> precisions = {
      {"stored", WeightPrecision::kAsStored},
      {"bf12", WeightPrecision::kBf12},
      {"int8", WeightPrecision::kInt8},
      {"int4", WeightPrecision::kInt4}};
  return precisions.at(weights);
}

StorageType ToStorageType(const std::string& name) {
  static const std::map<std::string, StorageType> types = {{"auto", StorageType::kAuto},
                                                           {"fp32", StorageType::kFloat32},
                                                           {"fp16", StorageType::kFloat16},
                                                           {"bf16", StorageType::kBFloat16}};
  return types.at(name);
}

template <typename T>
void Override(const std::optional<T>& flag, std::optional<T>& value) {
  if (flag) value = flag;
}

Specials ToSpecials(const std::string& name) {
  return name == "literal" ? Specials::kLiteral : Specials::kReference;
}

void ApplyGeneration(const RequestFlags& flags, GenerationOptions& options) {
  const GenerationOptions& given = flags.generation;
  if (flags.greedy) options.do_sample = false;
  Override(given.max_new_tokens, options.max_new_tokens);
  Override(given.temperature, options.temperature);
  Override(given.top_p, options.top_p);
  Override(given.top_k, options.top_k);
  Override(given.num_beams, options.num_beams);
  Override(given.repetition_penalty, options.repetition_penalty);
  Override(given.length_penalty, options.length_penalty);
  Override(given.seed, options.seed);
  if (!given.stop.empty()) options.stop = given.stop;
}

void AddRankFlags(CLI::App& command, RankFlags& flags) {
  AddNumber<int64_t>(command, "--rank", flags.rank, {0, 65535},
                     "Which process of a run over several this is; 0 takes the requests");
  AddNumber<int64_t>(command, "--world-size", flags.world_size, {1, 65536}, "Processes of the run");
  command.add_option("--rendezvous", flags.rendezvous, "Where rank 0 listens")
      ->type_name("HOST:PORT");
  command
      .add_option(
          "--secret-file", flags.secret_file,
          "What all ranks know and nobody else (or XCOMPOSER_SECRET); needed beyond loopback")
      ->type_name("FILE");
  AddNumber<double>(command, "--rank-timeout", flags.timeout_s, {0.1, 86400},
                    "Seconds after which a silent rank is lost (default 10)");
  AddNumber<double>(command, "--connect-timeout", flags.connect_timeout_s, {0.1, 86400},
                    "Seconds to wait for all ranks to come (default: --rank-timeout)");
  command.add_option("--bind-address", flags.bind_address, "Listen on this local address only")
      ->type_name("HOST");
  AddNumber<int64_t>(command, "--bind-port", flags.bind_port, {1, 65535},
                     "Rank R listens on this port + R (default: any)");
}

RankOptions ToRankOptions(const RankFlags& flags) {
  RankOptions options;
  if (flags.rank) options.rank = static_cast<int>(*flags.rank);
  if (flags.world_size) options.world_size = static_cast<int>(*flags.world_size);
  options.rendezvous = flags.rendezvous;
  options.secret_file = flags.secret_file;
  options.timeout_s = flags.timeout_s.value_or(options.timeout_s);
  options.connect_timeout_s = flags.connect_timeout_s.value_or(options.connect_timeout_s);
  options.bind_address = flags.bind_address;
  options.bind_port = static_cast<int>(flags.bind_port.value_or(0));
  options.from_environment = true;
  return options;
}

}  // namespace

std::vector<std::string> SplitAtCommas(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) parts.push_back(part);
  return parts;
}

void AddModelFlag(CLI::App& command, std::string& model) {
  command
      .add_option("--model", model,
                  "Checkpoint folder, or a Hugging Face repository id in the local cache")
      ->required()
      ->type_name("DIR");
}

void AddEngineFlags(CLI::App& command, EngineFlags& flags) {
  AddModelFlag(command, flags.model);
  command
      .add_option("--devices", flags.devices,
                  "Where to run: cpu, cuda:0, cuda:0,cuda:1 for two stages, or 0:cpu,1:cpu by rank")
      ->type_name("LIST")
      ->capture_default_str();
  command
      .add_option("--device-map", flags.device_map, "auto, or a Hugging Face device_map JSON file")
      ->type_name("FILE");
  command
      .add_option("--objective", flags.objective,
                  "What several devices are to make small: throughput, latency, or request "
                  "(pictures, prompt and answer)")
      ->check(CLI::IsMember({"throughput", "latency", "request"}).description(""))
      ->type_name("GOAL");
  command.add_option("--dtype", flags.dtype, "How weights are kept: auto, fp32, fp16 or bf16")
      ->check(CLI::IsMember({"auto", "fp32", "fp16", "bf16"}).description(""))
      ->type_name("TYPE")
      ->capture_default_str();
  command
      .add_option("--weights", flags.weights,
                  "The decoder's linears: stored; bf12: bfloat16 packed into 12 bits, exactly; or "
                  "rounded to int8 or int4, and the output matrix to int8 (CPU)")
      ->check(CLI::IsMember({"stored", "bf12", "int8", "int4"}).description(""))
      ->type_name("TYPE")
      ->capture_default_str();
  command
      .add_option("--kv", flags.kv,
                  "Precision of keys and values: auto (as computed), or rounded to int8 (CPU)")
      ->check(CLI::IsMember({"auto", "int8"}))
      ->type_name("TYPE")
      ->capture_default_str();
  command
      .add_option("--activations", flags.activations,
                  "Precision of prompts and pictures as factors: fp32, or bf16, faster where the "
                  "processor multiplies it (CPU)")
      ->check(CLI::IsMember({"fp32", "bf16"}).description(""))
      ->type_name("TYPE")
      ->capture_default_str();
  AddNumber<int64_t>(command, "--threads", flags.threads, {1, 4096}, "Threads to compute with");
  AddNumber<int64_t>(command, "--kv-tokens", flags.kv_tokens, {1, kMostTokens},
                     "Positions in the KV cache (default: from the free memory)");
  AddNumber<int64_t>(command, "--prefill-chunk", flags.prefill_chunk, {1, 1 << 20},
                     "Rows of one prefill step (default 1024)");
  AddNumber<int64_t>(command, "--max-image-pixels", flags.max_image_pixels, {1, int64_t{1} << 40},
                     "Largest picture that is decoded (default 178956970)");
  command
      .add_option("--video-font", flags.video_font,
                  "TrueType font for the frame labels of 2.5's videos")
      ->type_name("FILE");
  AddRankFlags(command, flags.ranks);
  command.add_flag(
      "--show-placement", flags.show_placement,
      "Where each part is, its memory against the plan, and the checks made on the way");
  command.add_flag("--quiet", flags.quiet, "No progress and no statistics on stderr");
  command
      .add_option_function<std::string>(
          "--log-level", [](const std::string& level) { SetLogLevel(level); },
          "trace, debug, info, warn, error or off")
      // The help text lists them already.
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}).description(""))
      ->type_name("LEVEL");
}

void AddRequestFlags(CLI::App& command, RequestFlags& flags) {
  GenerationOptions& generation = flags.generation;
  AddNumber<int64_t>(command, "--max-new-tokens", generation.max_new_tokens, {1, kMostTokens},
                     "Longest answer (default 1024)");
  command.add_flag("--greedy", flags.greedy, "Always the likeliest token, no sampling");
  AddNumber<int64_t>(command, "--num-beams", generation.num_beams, {1, kMostBeams},
                     "Beam search, without sampling");
  AddNumber<double>(command, "--temperature", generation.temperature, {1e-9, 1e9},
                    "Sampling temperature");
  AddNumber<double>(command, "--top-p", generation.top_p, {0, 1},
                    "Sample from this share of the mass");
  AddNumber<int64_t>(command, "--top-k", generation.top_k, {0, kMostTokens},
                     "Sample from the k likeliest");
  AddNumber<double>(command, "--repetition-penalty", generation.repetition_penalty, {1e-9, 1e9},
                    "Above 1 discourages repetition");
  AddNumber<double>(command, "--length-penalty", generation.length_penalty, {-1e9, 1e9},
                    "Exponent of the length in beam search");
  AddNumber<uint64_t>(command, "--seed", generation.seed, {0, std::numeric_limits<uint64_t>::max()},
                      "Seed of the sampling; drawn where absent");
  command.add_option("--stop", generation.stop, "Text that ends the answer (may be repeated)")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  AddNumber<double>(command, "--deadline", flags.deadline_s, {1e-9, 1e9},
                    "Seconds after which the answer so far is given");
  AddNumber<int64_t>(command, "--hd-num", flags.hd_num, {1, 4096}, "Limit of tiles (4khd, 2.5)");
  // Through a function, since an empty text would leave an optional empty.
  command
      .add_option_function<std::string>(
          "--system",
          [&flags](const std::string& text) {
            RequireUtf8(text, ErrorKind::kPrompt, "--system");
            flags.system = text;
          },
          "System text; empty for none")
      ->type_name("TEXT");
  command
      .add_option("--specials", flags.specials,
                  "Control strings in texts: literal (plain text) or reference (they act)")
      ->check(CLI::IsMember({"literal", "reference"}).description(""))
      ->type_name("HOW");
}

std::string FileName(const std::string& name) {
  return name.empty() ? "expected a file's name, found none" : "";
}

void AddJsonFlag(CLI::App& command, bool& json) {
  command.add_flag("--json", json, "JSON on stdout, errors included");
}

void NameEnvironmentVariables(CLI::App& command) {
  // With a callback of its own a command reads the environment when it is parsed; without, every
  // command's variables are read and checked, whichever command is run.
  command.parse_complete_callback([] {});
  for (CLI::Option* option : command.get_options()) {
    if (option->get_lnames().empty() || option == command.get_help_ptr()) continue;
    std::string name = option->get_lnames().front();
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) {
      return c == '-' ? '_' : static_cast<char>(std::toupper(c));
    });
    option->envname("XCOMPOSER_" + name);
  }
}

EngineOptions ToEngineOptions(const EngineFlags& flags) {
  EngineOptions options;
  options.model = flags.model;
  options.devices = SplitAtCommas(flags.devices);
  options.device_map = flags.device_map;
  options.objective = flags.objective;
  options.dtype = ToStorageType(flags.dtype);
  options.weights = ToWeightPrecision(flags.weights);
  options.activations =
      flags.activations == "bf16" ? ActivationPrecision::kBFloat16 : ActivationPrecision::kFloat32;
  options.kv_precision = flags.kv == "int8" ? KvPrecision::kInt8 : KvPrecision::kAsComputed;
  options.threads = static_cast<int>(flags.threads.value_or(0));
  options.kv_tokens = flags.kv_tokens.value_or(0);
  options.prefill_chunk = flags.prefill_chunk.value_or(0);
  if (flags.max_image_pixels) options.max_image_pixels = *flags.max_image_pixels;
  options.video_font = flags.video_font;
  options.ranks = ToRankOptions(flags.ranks);
  return options;
}

Engine LoadEngine(const EngineFlags& flags) {
  EngineOptions options = ToEngineOptions(flags);
  ProgressBar bar("loading", !flags.quiet);
  options.progress = [&bar](const LoadProgress& progress) {
    if (Interrupted()) throw Error(ErrorKind::kCancelled, "interrupted while loading");
    bar.Update(progress.bytes_done, progress.bytes_total);
  };
  options.ranks.stop = [] { return Interrupted(); };
  return Engine::Load(options);
}

std::optional<int> ServeWhereNotFirst(const EngineFlags& flags) {
  EngineOptions options = ToEngineOptions(flags);
  if (RankOf(options.ranks) == 0) return std::nullopt;
  WatchInterrupt();
  options.progress = [](const LoadProgress&) {
    if (Interrupted()) throw Error(ErrorKind::kCancelled, "interrupted while loading");
  };
  Serve(options, [] { return Interrupted(); });
  return Interrupted() ? kInterrupted : kDone;
}

void ApplyFlags(const RequestFlags& flags, Request& request) {
  ApplyGeneration(flags, request.generation);
  Override(flags.system, request.meta_instruction);
  Override(flags.hd_num, request.hd_num);
  Override(flags.deadline_s, request.deadline_s);
  if (flags.specials) request.specials = ToSpecials(*flags.specials);
}

SessionOptions ToSessionOptions(const RequestFlags& flags) {
  SessionOptions options;
  options.meta_instruction = flags.system;
  options.hd_num = flags.hd_num;
  ApplyGeneration(flags, options.generation);
  options.specials = ToSpecials(flags.specials.value_or("literal"));
  options.deadline_s = flags.deadline_s;
  return options;
}

}  // namespace xcomposer::cli
