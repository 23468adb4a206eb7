#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "xcomposer/engine.h"
#include "xcomposer/request.h"
#include "xcomposer/session.h"

namespace xcomposer::cli {

/// Flags of every command that loads a model.
struct EngineFlags {
  std::string model;
  std::string devices = "cpu";
  std::string device_map;
  std::string dtype = "auto";
  std::string weights = "stored";
  std::optional<int64_t> threads;
  std::optional<int64_t> max_image_pixels;
  std::string video_font;
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

void AddModelFlag(CLI::App& command, std::string& model);
void AddEngineFlags(CLI::App& command, EngineFlags& flags);
void AddRequestFlags(CLI::App& command, RequestFlags& flags);
void AddJsonFlag(CLI::App& command, bool& json);

/// Every option gets its environment variable, XCOMPOSER_<NAME>; call it when all are there.
void NameEnvironmentVariables(CLI::App& command);

/// Loads the model with a progress bar where stderr is a terminal.
Engine LoadEngine(const EngineFlags& flags);

void ApplyFlags(const RequestFlags& flags, Request& request);
SessionOptions ToSessionOptions(const RequestFlags& flags);

}  // namespace xcomposer::cli
