#include "checkpoint/fault_list.h"

#include "checkpoint/fault.h"

namespace xcomposer {
namespace {

constexpr int64_t kMostLines = 1000;

}  // namespace

void FaultList::Add(std::string_view tensor, std::string_view what) {
  if (count_ == 0) first_tensor_ = tensor;
  if (count_ < kMostLines) lines_ += StrCat("\n  ", Quoted(tensor), " ", what);
  ++count_;
}

void FaultList::ThrowIfAny(std::string_view headline) const {
  if (count_ == 0) return;
  const std::string rest =
      count_ > kMostLines ? StrCat("\n  and ", count_ - kMostLines, " more") : std::string();
  Refuse({.file = file_, .tensor = first_tensor_}, headline, " (", count_, "):", lines_, rest);
}

}  // namespace xcomposer
