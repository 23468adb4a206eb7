#include "checkpoint/dtype.h"

#include <array>

#include "base/check.h"

namespace xcomposer {
namespace {

struct Row {
  DType dtype;
  int64_t size;
  const char* name;
};

constexpr std::array<Row, 10> kRows = {{
    {DType::kF32, 4, "F32"},
    {DType::kF16, 2, "F16"},
    {DType::kBF16, 2, "BF16"},
    {DType::kF64, 8, "F64"},
    {DType::kI64, 8, "I64"},
    {DType::kI32, 4, "I32"},
    {DType::kI16, 2, "I16"},
    {DType::kI8, 1, "I8"},
    {DType::kU8, 1, "U8"},
    {DType::kBool, 1, "BOOL"},
}};

const Row& RowOf(DType dtype) {
  for (const Row& row : kRows) {
    if (row.dtype == dtype) return row;
  }
  throw Error(ErrorKind::kInternal, "a DType outside its enumeration");
}

}  // namespace

int64_t SizeOf(DType dtype) { return RowOf(dtype).size; }

const char* ToString(DType dtype) { return RowOf(dtype).name; }

std::optional<DType> ParseDType(std::string_view name) {
  for (const Row& row : kRows) {
    if (name == row.name) return row.dtype;
  }
  return std::nullopt;
}

}  // namespace xcomposer
