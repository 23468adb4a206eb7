#pragma once

// What only compute capability 9.0 has: barriers in shared memory, copies in bulk, products of
// warpgroups (128 threads, four warps from a multiple of four on), registers that change hands. As
// in device.cuh everything goes through functions that the emulator has too. Without
// XCOMPOSER_WARPGROUP_PRODUCTS they may be named, but not compiled into a kernel.
#include "kernels/cuda/device.cuh"
#ifdef XCOMPOSER_EMULATED_CUDA
#include "support/emulator/hopper.h"
#else
#include "kernels/cuda/device_hopper_gpu.cuh"
#endif

namespace xcomposer::cuda {

constexpr int kWarpgroup = 128;

/// How a matrix of stored numbers lies in shared memory for wgmma, in the 128-byte swizzle: panels
/// of 64 numbers by all rows; a panel begins on 1,024 bytes, its rows are 128 bytes apart, and
/// bits 4 to 6 of an address are exclusive or-ed with bits 7 to 9, so that eight rows repeat.
/// Index of the `part`-th 8 numbers of a row.
template <int kRows>
XCOMPOSER_DEVICE int PanelIndex(int row, int part) {
  return (part / 8 * kRows + row) * 64 + ((part ^ row) & 7) * 8;
}

/// What wgmma wants to know of such a matrix (PTX, "Matrix Descriptor Format"), in units of 16
/// bytes: where it begins, the distance of its panels (leading dimension; read only where the
/// numbers of a row are columns of the product), the distance of eight rows (stride dimension),
/// base offset 0, 128-byte swizzle.
template <int kRows>
XCOMPOSER_DEVICE uint64_t PanelDescriptor(uint32_t address) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  constexpr uint64_t kPanel = kRows * 128 / 16;
  constexpr uint64_t kEightRows = 8 * 128 / 16;
  return kSwizzle128 | kEightRows << 32 | kPanel << 16 | (address & 0x3FFFF) >> 4;
}

/// What to add to a descriptor for the s-th 16 numbers of the rows: 32 bytes further on, or in the
/// next panel. The swizzle is one of addresses, so that it needs no word of this.
template <int kRows>
XCOMPOSER_DEVICE int ColumnStep(int s) {
  return (s / 4 * kRows * 128 + s % 4 * 32) / 16;
}

/// The same for the s-th 16 rows.
XCOMPOSER_DEVICE int RowStep(int s) { return s * 16 * 128 / 16; }

}  // namespace xcomposer::cuda
