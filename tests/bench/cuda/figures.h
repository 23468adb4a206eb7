#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bench/cuda/gpu_timer.h"

namespace xcomposer::cuda {

/// What one measurement moved and computed, so that a rate follows from its time.
struct Work {
  double bytes = 0;
  double flops = 0;
};

/// The measurements of one program. Each is one line of JSON on the standard output as soon as it
/// is known, so that a run that is stopped leaves what it had:
///
///     {"figure": NAME, "seconds": median, "least": S, "most": S, "runs": N, "bytes": B, "flops":
///     F}
///     {"skipped": NAME, "reason": TEXT}      {"failed": NAME, "reason": TEXT}
class Figures {
 public:
  /// Only figures whose name begins with one of `wanted`; all of them if there are none.
  explicit Figures(std::vector<std::string> wanted) : wanted_(std::move(wanted)) {}

  bool Wants(const std::string& name) const;
  /// Whether any figure that begins with `group` is wanted.
  bool WantsAny(const std::string& group) const;

  void Give(const std::string& name, const Timing& timing, const Work& work,
            const std::string& note = "");
  void Skip(const std::string& name, const std::string& reason);

  /// Runs `measure`, which gives figures. An exception is a failed figure of this name, and the
  /// next group goes on - unless the device is lost, which is thrown.
  void Group(const std::string& name, const std::function<void()>& measure);

  int failures() const { return failures_; }

 private:
  std::vector<std::string> wanted_;
  int failures_ = 0;
};

/// The device's name, memory and versions, as the first line of a program's output. Returns false,
/// having said why, where there is no device.
bool DescribeDevice();

/// Reads --only and --scratch; false, having said what is allowed, where there is anything else.
bool ReadOptions(int argc, char** argv, std::vector<std::string>& only, std::string& scratch);

constexpr int kNoDevice = 5;  ///< exit code, as xcomposer has it
constexpr int kWrongUsage = 2;

}  // namespace xcomposer::cuda
