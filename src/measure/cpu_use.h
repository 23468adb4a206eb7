#pragma once

#include <chrono>
#include <optional>
#include <string>

/// What other programs did on this machine's processors while we measured.
namespace xcomposer::measure {

/// Processor time since the machine was started, over all its processors, in seconds.
struct CpuTime {
  double busy = 0;    ///< of all programs
  double idle = 0;    ///< waiting for a disk included
  double stolen = 0;  ///< that the host of a virtual machine gave to others

  double all() const { return busy + idle + stolen; }
};

/// The first line of /proc/stat; nothing where the text does not begin with one.
std::optional<CpuTime> ParseCpuTime(const std::string& stat, double ticks_per_second);

/// Shares of all processors' time, 0 to 1.
struct CpuShares {
  double foreign = 0;
  double stolen = 0;
};

/// Adds up intervals, since the system counts in ticks of 10 ms and a run may take less.
class CpuUse {
 public:
  /// From now on.
  void Start();
  /// Until now. Without Start, nothing.
  void Stop();

  /// Nothing where the system does not tell, or no time has passed.
  std::optional<CpuShares> shares() const;

  /// What Stop does with the readings at both ends; `own` is this process's time between them.
  void Add(const CpuTime& before, const CpuTime& after, double own);

 private:
  struct Reading {
    CpuTime machine;
    double own = 0;
  };
  static std::optional<Reading> Read();

  std::optional<Reading> started_;
  double all_ = 0;
  double foreign_ = 0;
  double stolen_ = 0;
};

}  // namespace xcomposer::measure
