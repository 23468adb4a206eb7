#include "progress_bar.h"

#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <utility>

#include "output.h"

namespace xcomposer::cli {

ProgressBar::ProgressBar(std::string label, bool wanted, Unit unit)
    : label_(std::move(label)), shown_(wanted && isatty(STDERR_FILENO) == 1), unit_(unit) {}

ProgressBar::~ProgressBar() { Clear(); }

void ProgressBar::Clear() {
  if (std::exchange(percent_, -1) >= 0) std::cerr << "\r\033[K" << std::flush;
}

void ProgressBar::Update(int64_t done, int64_t total) {
  if (!shown_ || total <= 0) return;
  const double share = std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
  const int percent = static_cast<int>(share * 100);
  if (percent == percent_) return;
  percent_ = percent;
  constexpr size_t kWidth = 30;
  const size_t filled = static_cast<size_t>(share * kWidth);
  std::cerr << '\r' << label_ << " [" << std::string(filled, '#')
            << std::string(kWidth - filled, '.') << "] " << percent << "% of "
            << (unit_ == Unit::kBytes ? HumanBytes(total) : std::to_string(total) + " rows")
            << "\033[K" << std::flush;
}

}  // namespace xcomposer::cli
