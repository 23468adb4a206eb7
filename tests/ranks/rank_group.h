#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ranks/process.h"
#include "support/held_port.h"

namespace xcomposer::testing {

/// Processes of rank_program that are the ranks of one run after the other.
class RankGroup : public ::testing::Test {
 protected:
  using Milliseconds = std::chrono::milliseconds;

  static constexpr double kTimeout = 3;  ///< seconds of silence that make a rank lost
  /// Seconds until all ranks must have come. Where one does not, kFewSeconds do.
  static constexpr const char* kManySeconds = "60";
  static constexpr const char* kFewSeconds = "5";
  static constexpr Milliseconds kBound{20'000};  ///< for an error; beyond it something hangs
  static constexpr Milliseconds kPatience{60'000};

  explicit RankGroup(int count = 3);

  int count() const { return static_cast<int>(ranks_.size()); }
  Process& rank(int rank) { return *ranks_.at(static_cast<size_t>(rank)); }

  /// Starts the process of a rank (anew). `before` goes in front of its command line.
  void Start(int rank, const std::vector<std::string>& before = {});

  /// See rank_program's Apply.
  void Set(int rank, const std::string& name, const std::string& value);
  void SetAll(const std::string& name, const std::string& value);

  /// Waits for all processes, then tells those of `ranks` (all) to run.
  void StartRun(const std::vector<int>& ranks = {});
  std::string place() const { return place_; }

  /// A run that nobody disturbs; the ids.
  std::string WholeRun();

  /// How the rank's run ends: "error ..." or "ended". The test fails where it does not.
  std::string EndOf(int rank);

  /// What the rank has printed since the run was started.
  std::string PrintedInRun(int rank) const;

  /// The rank's run ends with an error about rank `lost`, with stage and step.
  void ExpectNamed(int rank, int lost) { ExpectNames(EndOf(rank), rank, lost); }
  /// The same of an end that is known.
  void ExpectNames(const std::string& end, int rank, int lost);

  std::string Transcripts() const;

  std::string host_ = "127.0.0.1";

 private:
  std::vector<std::unique_ptr<Process>> ranks_;
  std::set<Process*> ready_;
  std::vector<size_t> run_begins_;  // in the transcripts
  std::optional<HeldPort> port_;
  std::string place_;
};

/// The checkpoint that comes with the project.
std::string DemoModel();

/// Whether everything is to be tested, however long it takes.
bool Full();

}  // namespace xcomposer::testing
