#pragma once

#include <cstdint>

#include "kernels/cpu/activations.h"
#include "kernels/cpu/cpu_info.h"
#include "kernels/cpu/group_choice.h"
#include "kernels/cpu/half_cast.h"
#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/number.h"
#include "kernels/cpu/packed_matrix.h"

namespace xcomposer::cpu {

/// Many rows of x in float32: x is packed once, by all threads, then each takes blocks.
struct PanelKernel {
  int64_t few_rows = 0;     ///< of x: for up to so many the weight is streamed instead
  int64_t rows = 0;         ///< of x in a packed panel
  int64_t columns = 0;      ///< outputs in a panel of the weight
  int64_t scratch = 0;      ///< floats that `multiply` needs beside the sums
  int64_t least_depth = 1;  ///< inputs that it is meant for
  int64_t depth_grain = 1;  ///< inputs, and how far rows of the weight lie apart, are multiples of
  int64_t x_bytes = 4;      ///< of a packed number of x
  void (*pack_x)(const LinearKernelArgs&, int64_t panel_begin, int64_t panel_end) = nullptr;
  void (*multiply)(const LinearKernelArgs&, const LinearBlock&, float* scratch) = nullptr;
};

/// How rows of x are rounded for quantised weights (integer_x.h).
struct RoundingKernel {
  int64_t block = 0;        ///< inputs that share a scale
  float most = 0;           ///< largest code
  int64_t dword_codes = 0;  ///< codes in a dword
  void (*round)(const LinearKernelArgs&, int64_t panel, int64_t k_begin, int64_t k_end) = nullptr;
};

/// The same with rounded rows of x, for quantised weights.
struct IntegerKernel {
  int64_t few_rows = 0;       ///< of x: only for more
  int64_t rows = 0;           ///< most rows of x in a panel
  bool equal_panels = false;  ///< panels may have fewer rows, all the same
  int64_t columns = 0;        ///< tasks hold a multiple of so many outputs
  int64_t scratch = 0;        ///< floats that `multiply` needs beside one for each sum
  RoundingKernel x = {};
  void (*multiply)(const LinearKernelArgs&, const LinearBlock&, float* scratch) = nullptr;
};

/// The same for a few rows (integer_rows.h), which are rounded as for the IntegerKernel: the same
/// sums.
struct IntegerRowsKernel {
  int64_t few_rows = 0;  ///< of x: only for so many
  int64_t rows = 0;      ///< most that `multiply` takes at a time
  void (*multiply)(const LinearKernelArgs&, int64_t n_begin, int64_t n_end) = nullptr;
};

/// Weights in 12 bits (bf12_rows.h).
struct Bf12Kernels {
  /// x for `rows`, in blocks of kBf12Block inputs.
  void (*pack_x)(const LinearKernelArgs&, int64_t begin, int64_t end) = nullptr;
  /// Up to panels.few_rows rows of x.
  void (*rows)(const LinearKernelArgs&, int64_t n_begin, int64_t n_end) = nullptr;
  PanelKernel panels;
};

/// Both, for one width of a weight in panels.
struct IntegerKernels {
  IntegerKernel many;
  IntegerRowsKernel few;
};

/// Kernels for many rows that some processors have besides: tiles, and pairs of bfloat16.
struct SpecialKernels {
  PanelKernel bfloat16;
  PanelKernel bf12;  ///< the same for such weights in 12 bits
  IntegerKernel int8;
};

/// What takes the place of other kernels where activations are rounded to bfloat16 and multiplied
/// in pairs.
struct PairKernels {
  PanelKernel dense;
  PanelKernel bf12;
  PanelKernel packed[kOfficialPackings];
  void (*attention[2])(const AttentionTileArgs&, float* scratch) = {};  ///< by KvFormat
};

/// The inner kernels, compiled once for each instruction set. The functions of linear.h, norm.h,
/// ... divide the work over threads and call these.
struct IsaKernels {
  int64_t attention_lanes = 0;  ///< most rows * heads of an attention tile

  void (*linear_rows[3])(const LinearKernelArgs&, int64_t n_begin, int64_t n_end);  ///< by Format
  /// x for linear_rows, in pieces of row_piece(rows) inputs.
  int64_t (*row_piece)(int64_t rows);
  void (*linear_pack_pieces[3])(const LinearKernelArgs&, int64_t begin, int64_t end);
  PanelKernel linear_panels[3];
  Bf12Kernels bf12;
  /// The same for weights in official packings, by Packing.
  void (*packed_rows[kOfficialPackings])(const LinearKernelArgs&, const LinearBlock&, int64_t span,
                                         const RowSums& to);
  void (*pack_places[2])(const LinearKernelArgs&, int64_t begin, int64_t end);  ///< not kAwq4
  PanelKernel packed_panels[kOfficialPackings];
  /// Weights in panels with rounded rows of x, by IntegerIndex.
  IntegerKernels integers[2];
  /// y from the sums of spans, of packed_rows.
  void (*finish_spans)(const LinearKernelArgs&, float* sums, int64_t stride, int64_t n_begin,
                       int64_t n_end);
  /// How a group of values, filled up to whole kQuantisedLanes, is rounded for such a weight, and
  /// its codes; by IntegerIndex.
  GroupChoice (*quantise_group[2])(const float* values, int64_t count, float* codes);
  SpecialKernels special = {};  ///< without functions where there are none

  void (*rms_norm)(const NormKernelArgs&, int64_t row_begin, int64_t row_end);
  void (*layer_norm)(const NormKernelArgs&, int64_t row_begin, int64_t row_end);
  void (*quick_gelu)(float* x, int64_t count);
  void (*silu_mul)(float* gate, const float* up, int64_t count);
  void (*add)(float* y, const float* x, int64_t count);
  void (*widen[3])(const void* stored, float* out, int64_t count);
  void (*halves_of_bfloat16)(const uint16_t* in, uint16_t* out, int64_t count, HalfLosses& losses);
  void (*rotate)(const float* x, const float* cos, const float* sin, int64_t half, float* out);

  int64_t (*attention_scratch)(int64_t head_dim);                     ///< floats
  void (*attention[2])(const AttentionTileArgs&, float* scratch);     ///< by KvFormat
  int64_t (*attention_row_scratch)(int64_t heads);                    ///< floats
  void (*attention_row[2])(const AttentionRowArgs&, float* scratch);  ///< by KvFormat
};

/// The kernels for `isa`, or for the best one below it that this build has. The caller makes sure
/// that the processor can run them (BestIsa).
const IsaKernels& KernelsFor(Isa isa, Activations activations = Activations::kFloat32);

/// A vector as stored, in float32: `out` has room for stored.size numbers.
void Widen(const StoredVector& stored, float* out, const IsaKernels& kernels);

/// The largest that a PanelKernel may have; `rows` is a multiple of all.
struct PanelSizes {
  int64_t few_rows = 0;  ///< up to so many rows of x no weight is cut into panels
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t scratch = 0;
  int64_t x_bytes = 0;
};
/// Whatever activations count as.
PanelSizes LargestPanels(Isa isa);

}  // namespace xcomposer::cpu
