#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "checkpoint/fault.h"
#include "checkpoint/limits.h"

namespace xcomposer {

/// The part of a PyTorch file that errors of the unpickler name.
inline constexpr std::string_view kPicklePart = "data.pkl";

/// What a pickled value is.
enum class PickleKind : uint8_t {
  kNone,
  kBool,
  kInt,
  kText,
  kTuple,
  kList,  // its items are checked and dropped: no weight needs them
  kDict,
  kGlobal,
  kStorage,
  kTensor,
};

/// "a text", "a tuple" ...
const char* Word(PickleKind kind);

/// A value on the stack or in the memo: small, copied freely. Compound values are indices into the
/// pools of the unpickler, so that a value used twice costs nothing and no value is walked
/// recursively.
struct PickleValue {
  PickleKind kind = PickleKind::kNone;
  int64_t number = 0;          // bool, int; index into a pool; first item of a tuple
  int64_t size = 0;            // items of a tuple
  std::string_view text = {};  // a view into the pickle
};

/// The stack, the marks and the memo of an unpickler, each bounded by `limits`. Values below the
/// last mark are out of reach. Every misuse throws kCheckpoint naming the file and the opcode's
/// byte.
class PickleStack {
 public:
  PickleStack(std::string_view file, const CheckpointLimits& limits)
      : file_(file), limits_(limits) {}

  /// Where the current opcode stands; errors name it.
  void SetOffset(int64_t offset) { offset_ = offset; }

  template <typename... Parts>
  [[noreturn]] void RefuseHere(const Parts&... parts) const {
    Refuse({.file = file_, .part = kPicklePart, .offset = offset_}, parts...);
  }

  bool IsEmpty() const { return values_.empty() && marks_.empty(); }
  size_t size() const { return values_.size(); }
  /// Values above the last mark.
  size_t Reachable() const { return values_.size() - Floor(); }

  void Push(const PickleValue& value);
  PickleValue Pop();
  PickleValue Pop(PickleKind kind, const char* what);
  const PickleValue& Top() const;
  void RequireKind(const PickleValue& value, PickleKind kind, const char* what) const;

  void Mark();
  /// Removes the last mark; the values above it start at the returned place.
  size_t PopMark();
  /// The values from `begin` to the top; valid until the next change.
  std::span<const PickleValue> From(size_t begin) const {
    return std::span(values_).subspan(begin);
  }
  /// The value below `begin`, which must be in reach.
  PickleValue Below(size_t begin) const;
  void CutTo(size_t begin) { values_.resize(begin); }

  void Put(uint32_t index);
  void Get(uint32_t index);

  /// Counts values that are kept for the whole pickle, against limits.max_pickle_values.
  void Count(int64_t values);

 private:
  size_t Floor() const { return marks_.empty() ? 0 : marks_.back(); }

  std::string_view file_;
  const CheckpointLimits& limits_;
  int64_t offset_ = 0;
  int64_t kept_ = 0;
  std::vector<PickleValue> values_;
  std::vector<size_t> marks_;
  std::vector<PickleValue> memo_;
};

}  // namespace xcomposer
