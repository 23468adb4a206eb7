#include "checkpoint/pickle_globals.h"

#include <array>

namespace xcomposer {
namespace {

struct Row {
  std::string_view module;
  std::string_view name;
  KnownGlobal known;
};

constexpr Row Storage(std::string_view name, DType dtype) {
  return {"torch", name, {PickleGlobal::kStorage, dtype}};
}

constexpr std::array<Row, 13> kRows = {{
    {"collections", "OrderedDict", {PickleGlobal::kOrderedDict}},
    {"torch._utils", "_rebuild_tensor_v2", {PickleGlobal::kRebuildTensor}},
    {"torch._utils", "_rebuild_parameter", {PickleGlobal::kRebuildParameter}},
    Storage("DoubleStorage", DType::kF64),
    Storage("FloatStorage", DType::kF32),
    Storage("HalfStorage", DType::kF16),
    Storage("BFloat16Storage", DType::kBF16),
    Storage("LongStorage", DType::kI64),
    Storage("IntStorage", DType::kI32),
    Storage("ShortStorage", DType::kI16),
    Storage("CharStorage", DType::kI8),
    Storage("ByteStorage", DType::kU8),
    Storage("BoolStorage", DType::kBool),
}};

}  // namespace

std::optional<KnownGlobal> FindPickleGlobal(std::string_view module, std::string_view name) {
  for (const Row& row : kRows) {
    if (row.module == module && row.name == name) return row.known;
  }
  return std::nullopt;
}

}  // namespace xcomposer
