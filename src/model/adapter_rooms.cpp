#include "model/adapter_rooms.h"

#include <ATen/ops/zeros.h>

namespace xcomposer {

RoomyRows::RoomyRows(int64_t rows, const Widths& widths, const at::TensorOptions& options)
    : widths_(widths),
      all_(at::zeros({rows, widths.before + widths.columns + widths.behind}, options)) {}

at::Tensor RoomyRows::Pair(int64_t first, int64_t count, int64_t distance) const {
  return all_.as_strided({all_.size(0), 2, count}, {all_.stride(0), distance, 1},
                         widths_.before + first);
}

}  // namespace xcomposer
