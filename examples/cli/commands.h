#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace xcomposer::cli {

/// What parsing the command line leaves behind: the chosen command, ready to run.
struct Chosen {
  std::function<int()> run;  ///< gives the exit code; throws Error
  bool json = false;         ///< how main reports that error
};

/// Each adds its command to the application.
void AddGenerate(CLI::App& app, Chosen& chosen);
void AddChat(CLI::App& app, Chosen& chosen);
void AddTrace(CLI::App& app, Chosen& chosen);
void AddTokenize(CLI::App& app, Chosen& chosen);
void AddInspect(CLI::App& app, Chosen& chosen);
void AddConvert(CLI::App& app, Chosen& chosen);
void AddQuantize(CLI::App& app, Chosen& chosen);
void AddDevices(CLI::App& app, Chosen& chosen);
void AddPlan(CLI::App& app, Chosen& chosen);
void AddBench(CLI::App& app, Chosen& chosen);

}  // namespace xcomposer::cli
