#pragma once

#include <cstdint>
#include <string>

namespace xcomposer::cli {

/// One line on stderr that is drawn over and over; silent where stderr is no terminal. Gone when
/// destroyed.
class ProgressBar {
 public:
  ProgressBar(std::string label, bool wanted);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void Update(int64_t bytes_done, int64_t bytes_total);

 private:
  std::string label_;
  bool shown_;
  int percent_ = -1;
};

}  // namespace xcomposer::cli
