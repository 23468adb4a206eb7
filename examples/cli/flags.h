#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "xcomposer/engine.h"
#include "xcomposer/request.h"
#include "xcomposer/session.h"

namespace xcomposer::cli {

/// Which process of a run over several this one is.
struct RankFlags {
  std::optional<int64_t> rank;
  std::optional<int64_t> world_size;
  std::string rendezvous;
  std::string secret_file;
  std::optional<double> timeout_s;
  std::optional<double> connect_timeout_s;
  std::string bind_address;
  std::optional<int64_t> bind_port;
};

/// Flags of every command that loads a model.
struct EngineFlags {
  std::string model;
  std::string devices = "cpu";
  std::string device_map;
  std::string objective;
  std::string dtype = "auto";
  std::string weights = "stored";
  std::string kv = "auto";
  std::string activations = "fp32";
  std::optional<int64_t> threads;
  std::optional<int64_t> kv_tokens;
  std::optional<int64_t> prefill_chunk;
  std::optional<int64_t> max_image_pixels;
  std::string video_font;
  RankFlags ranks;
  bool show_placement = false;
  bool quiet = false;
};

/// Flags that win over what a request says.
struct RequestFlags {
  std::optional<std::string> system;
  std::optional<std::string> specials;
  std::optional<int64_t> hd_num;
  std::optional<double> deadline_s;
  bool greedy = false;
  GenerationOptions generation;
};

/// A check for options: what is wrong with the name of a file to be written, if anything is.
std::string FileName(const std::string& name);

void AddModelFlag(CLI::App& command, std::string& model);
void AddEngineFlags(CLI::App& command, EngineFlags& flags);
void AddRequestFlags(CLI::App& command, RequestFlags& flags);
void AddJsonFlag(CLI::App& command, bool& json);

/// "a,b" -> a and b.
std::vector<std::string> SplitAtCommas(const std::string& text);

/// Every option gets its environment variable, XCOMPOSER_<NAME>; call it when all are there.
void NameEnvironmentVariables(CLI::App& command);

/// What the flags say to the library.
EngineOptions ToEngineOptions(const EngineFlags& flags);

/// Loads the model with a progress bar where stderr is a terminal.
Engine LoadEngine(const EngineFlags& flags);

/// In a run over several processes, a rank other than 0 serves and ends with rank 0: the exit code.
/// Nothing where this process takes the requests.
std::optional<int> ServeWhereNotFirst(const EngineFlags& flags);

void ApplyFlags(const RequestFlags& flags, Request& request);
SessionOptions ToSessionOptions(const RequestFlags& flags);

}  // namespace xcomposer::cli
