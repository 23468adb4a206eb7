#pragma once

#include "support/emulator/device.h"

// mma.sync.m16n8k16 and ldmatrix as the PTX manual lays out their fragments ("Matrix Fragments for
// mma.m16n8k16 with floating point type", "ldmatrix"). groupID = lane / 4, in-group = lane % 4.

namespace xcomposer::cuda {
namespace fragment {

/// Place of element i (0 .. 7) of A (16 x 16) that a lane holds; two in each register.
inline int RowOfA(int lane, int i) { return lane / 4 + ((i & 2) != 0 ? 8 : 0); }
inline int ColumnOfA(int lane, int i) { return lane % 4 * 2 + (i & 1) + (i >= 4 ? 8 : 0); }
/// Of element i (0 .. 3) of B (16 x 8).
inline int RowOfB(int lane, int i) { return lane % 4 * 2 + (i & 1) + (i >= 2 ? 8 : 0); }
inline int ColumnOfB(int lane, int) { return lane / 4; }
/// Of element i (0 .. 3) of C and D (16 x 8).
inline int RowOfC(int lane, int i) { return lane / 4 + (i >= 2 ? 8 : 0); }
inline int ColumnOfC(int lane, int i) { return lane % 4 * 2 + (i & 1); }

template <typename T>
float Element(const uint32_t* registers, int i) {
  T value;
  value.bits = static_cast<uint16_t>(registers[i / 2] >> (i % 2 * 16));
  return Widen(value);
}

}  // namespace fragment

template <typename T>
void MultiplyAdd(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Where where) {
  struct Operand {
    const uint32_t* a;
    uint32_t b[2];
    float* d;
  } operand{a, {b0, b1}, d};
  Gpu().WarpCollective(
      &operand,
      [](std::array<void*, 32>& operands) {
        float left[16][16];
        float right[16][8];
        for (int lane = 0; lane < 32; ++lane) {
          const auto& o = *static_cast<Operand*>(operands[static_cast<size_t>(lane)]);
          for (int i = 0; i < 8; ++i) {
            left[fragment::RowOfA(lane, i)][fragment::ColumnOfA(lane, i)] =
                fragment::Element<T>(o.a, i);
          }
          for (int i = 0; i < 4; ++i) {
            right[fragment::RowOfB(lane, i)][fragment::ColumnOfB(lane, i)] =
                fragment::Element<T>(o.b, i);
          }
        }
        for (int lane = 0; lane < 32; ++lane) {
          float* sums = static_cast<Operand*>(operands[static_cast<size_t>(lane)])->d;
          for (int i = 0; i < 4; ++i) {
            float sum = 0;
            for (int k = 0; k < 16; ++k) {
              sum += left[fragment::RowOfC(lane, i)][k] * right[k][fragment::ColumnOfC(lane, i)];
            }
            sums[i] += sum;
          }
        }
      },
      SiteOf(where));
}

namespace fragment {

/// Each lane names one row of 8 numbers: lanes 0-7 the rows of the first matrix, 8-15 of the second
/// and so on. Register m of lane l gets two neighbours of matrix m.
template <typename T>
void LoadMatrices(uint32_t (&out)[4], const Shared<T>& shared, int index, bool transposed,
                  Where where) {
  const T* row = shared.At(index, where);
  Gpu().SharedAccess(row, 16, emulator::AccessKind::kRead, SiteOf(where));
  struct Operand {
    const T* row;
    uint32_t* out;
  } operand{row, out};
  Gpu().WarpCollective(
      &operand,
      [transposed](std::array<void*, 32>& operands) {
        const auto at = [&operands](int lane) {
          return static_cast<Operand*>(operands[static_cast<size_t>(lane)]);
        };
        for (int lane = 0; lane < 32; ++lane) {
          for (int m = 0; m < 4; ++m) {
            uint32_t pair = 0;
            for (int i = 0; i < 2; ++i) {
              const int r = transposed ? lane % 4 * 2 + i : lane / 4;
              const int c = transposed ? lane / 4 : lane % 4 * 2 + i;
              pair |= uint32_t{at(8 * m + r)->row[c].bits} << (16 * i);
            }
            at(lane)->out[m] = pair;
          }
        }
      },
      SiteOf(where));
}

}  // namespace fragment

template <typename T>
void LoadMatrices(uint32_t (&out)[4], const Shared<T>& shared, int index, Where where) {
  fragment::LoadMatrices(out, shared, index, false, where);
}

template <typename T>
void LoadMatricesTransposed(uint32_t (&out)[4], const Shared<T>& shared, int index, Where where) {
  fragment::LoadMatrices(out, shared, index, true, where);
}

}  // namespace xcomposer::cuda
