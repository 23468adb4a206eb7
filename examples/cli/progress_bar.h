#pragma once

#include <cstdint>
#include <string>

namespace xcomposer::cli {

/// One line on stderr that is drawn over and over; silent where stderr is no terminal. Gone when
/// cleared or destroyed.
class ProgressBar {
 public:
  enum class Unit { kBytes, kRows };

  ProgressBar(std::string label, bool wanted, Unit unit = Unit::kBytes);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void Update(int64_t done, int64_t total);

  /// Before anything else is written to the terminal.
  void Clear();

 private:
  std::string label_;
  bool shown_;
  Unit unit_;
  int percent_ = -1;  // drawn; below 0: nothing is
};

}  // namespace xcomposer::cli
