#include "support/emulator/clocks.h"

#include <algorithm>

namespace xcomposer::emulator {
namespace {

using Moments = std::vector<uint32_t>;

void TakeLargest(Moments& to, const Moments& from) {
  if (to.size() < from.size()) to.resize(from.size(), 0);
  std::transform(from.begin(), from.end(), to.begin(), to.begin(),
                 [](uint32_t a, uint32_t b) { return std::max(a, b); });
}

void TakeLeast(Moments& to, const Moments& from) {
  std::transform(to.begin(), to.end(), from.begin(), to.begin(),
                 [](uint32_t a, uint32_t b) { return std::min(a, b); });
}

}  // namespace

void Knowledge::Add(const Knowledge& other) {
  TakeLargest(seen, other.seen);
  TakeLargest(fenced, other.fenced);
}

void Clocks::Start(int threads) {
  if (running_) return;
  running_ = true;
  const auto count = static_cast<size_t>(threads);
  const std::vector<uint32_t> nothing(count, 0);
  threads_.assign(count, {nothing, nothing});
  for (int t = 0; t < threads; ++t) Advance(t);
}

uint32_t Clocks::Now(int thread) const {
  return running_ ? Of(thread).seen[static_cast<size_t>(thread)] : kFirst;
}

Knowledge Clocks::Common(int first, int count) const {
  Knowledge common = Of(first);
  for (int t = first + 1; t < first + count; ++t) {
    TakeLeast(common.seen, Of(t).seen);
    TakeLeast(common.fenced, Of(t).fenced);
  }
  return common;
}

void Clocks::Tell(int thread, Knowledge& listener) {
  listener.Add(Of(thread));
  Advance(thread);
}

void Clocks::Learn(int thread, const Knowledge& told) {
  threads_[static_cast<size_t>(thread)].Add(told);
}

void Clocks::Meet(int first, int count) {
  if (!running_) return;
  Knowledge all;
  for (int t = first; t < first + count; ++t) Tell(t, all);
  for (int t = first; t < first + count; ++t) Learn(t, all);
}

void Clocks::FenceProducts(int thread) {
  Knowledge& own = threads_[static_cast<size_t>(thread)];
  TakeLargest(own.fenced, own.seen);
  Advance(thread);
}

void Clocks::Advance(int thread) {
  ++threads_[static_cast<size_t>(thread)].seen[static_cast<size_t>(thread)];
}

}  // namespace xcomposer::emulator
