#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace xcomposer {

/// Rows on their way into linears, x (T, K), with room on both sides for what partial LoRA puts
/// beside them: one product then takes x and A x. Room is zeros at first, and stays so beside rows
/// without adapters.
class RoomyRows {
 public:
  struct Widths {
    int64_t before = 0;
    int64_t columns = 0;  ///< K
    int64_t behind = 0;
  };
  RoomyRows(int64_t rows, const Widths& widths, const at::TensorOptions& options);

  /// Counted from x's first column, which those before it precede.
  at::Tensor Columns(int64_t first, int64_t count) const {
    return all_.narrow(1, widths_.before + first, count);
  }
  at::Tensor x() const { return Columns(0, widths_.columns); }
  /// Two parts of so many columns, the second `distance` columns behind the first: (T, 2, count).
  at::Tensor Pair(int64_t first, int64_t count, int64_t distance) const;
  const Widths& widths() const { return widths_; }

 private:
  Widths widths_;
  at::Tensor all_;  // (T, before + K + behind)
};

/// A batch's memory for the input of all linears of a layer, used by one layer after the other.
struct AdapterRooms {
  RoomyRows narrow;  ///< x (T, C) of wqkv, wo, w1 and w3
  RoomyRows wide;    ///< x (T, F) of w2, at first w1's result; w3's ends each row

  /// Where w3's result is in `wide`: (T, F).
  at::Tensor up() const { return wide.Columns(wide.widths().behind, wide.widths().columns); }
  /// Both results: (T, 2, F).
  at::Tensor gate_and_up() const {
    return wide.Pair(0, wide.widths().columns, wide.widths().behind);
  }
};

}  // namespace xcomposer
