#include "support/emulator/clocks.h"

#include <algorithm>

namespace xcomposer::emulator {
namespace {

void TakeLargest(std::vector<uint32_t>& to, const std::vector<uint32_t>& from) {
  if (to.size() < from.size()) to.resize(from.size(), 0);
  for (size_t i = 0; i < from.size(); ++i) to[i] = std::max(to[i], from[i]);
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
    for (size_t i = 0; i < common.seen.size(); ++i) {
      common.seen[i] = std::min(common.seen[i], Of(t).seen[i]);
      common.fenced[i] = std::min(common.fenced[i], Of(t).fenced[i]);
    }
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
