#pragma once

#include "kernels/cpu/attention_row.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/bf12_rows.h"
#include "kernels/cpu/elementwise_range.h"
#include "kernels/cpu/half_range.h"
#include "kernels/cpu/integer_panels.h"
#include "kernels/cpu/isa_kernels.h"
#include "kernels/cpu/linear_packed.h"
#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/linear_rows.h"
#include "kernels/cpu/norm_rows.h"
#include "kernels/cpu/packed_rows.h"
#include "kernels/cpu/quantise_group.h"

namespace xcomposer::cpu {

template <typename S, KvFormat format>
void RunAttentionRow(const AttentionRowArgs& args, float* scratch) {
  AttentionRow<S, format>(args, scratch).Run();
}

/// Measured: above how many rows unpacking once per panel pays.
template <typename S>
inline constexpr int64_t kFewDenseRows = S::kWidth < 16 ? 16 : 28;
/// Of weights in an official packing: with AVX2's registers, tiles of few rows come to less.
template <typename S>
inline constexpr int64_t kFewPackedRows = S::kWidth < 16 ? 10 : 16;

/// Of rounded rows: above so many, taking codes out of their words once for all of them pays, or
/// where words are multiplied as they lie, three vectors of outputs at a time.
template <typename S, Packing packing>
inline constexpr int64_t kFewIntegerRows = kTakesPanels<S, packing> ? 64 : 128;

template <typename S, typename Weight, int64_t few_rows>
inline constexpr PanelKernel kPanelKernel = {.few_rows = few_rows,
                                             .rows = S::kRows,
                                             .columns = kPanelColumns<S>,
                                             .scratch = kDepth* kPanelColumns<S>,
                                             .pack_x = &LinearPackX<S>,
                                             .multiply = &LinearPanels<S, Weight>};

template <typename S, Packing packing>
inline constexpr RoundingKernel kRoundingKernel = {.block = IntegerCodes<S, packing>::kBlock,
                                                   .most = IntegerCodes<S, packing>::kMost,
                                                   .dword_codes = kDwordCodes<S, packing>,
                                                   .round = &LinearRoundX<S, packing>};

template <typename S, Packing packing>
inline constexpr IntegerKernel kIntegerKernel = {.rows = S::kIntegerRows,
                                                 .equal_panels = true,
                                                 .columns = kIntegerColumns<S>,
                                                 .scratch = kPieceFloats<S>,
                                                 .x = kRoundingKernel<S, packing>,
                                                 .multiply = &LinearIntegers<S, packing>};

template <typename S, Packing packing>
inline constexpr IntegerRowsKernel kIntegerRowsKernel = {
    .few_rows = kFewIntegerRows<S, packing>,
    .rows = kRowsTogether<S>,
    .multiply = &LinearIntegerRows<S, packing>};

template <typename S, Packing packing>
inline constexpr IntegerKernels kIntegerKernels = {.many = kIntegerKernel<S, packing>,
                                                   .few = kIntegerRowsKernel<S, packing>};

/// Every kernel, instantiated for one instruction set; the order of Format, Packing and KvFormat.
template <typename S>
struct IsaTable {
  static_assert(kFewPackedRows<S> <= kMostPackedRows && kFewDenseRows<S> <= kMostRows);
  static constexpr IsaKernels kKernels = {
      .attention_lanes = kAttentionLanes<S>,
      .linear_rows = {&LinearRows<S, Format::kFloat32>, &LinearRows<S, Format::kBfloat16>,
                      &LinearRows<S, Format::kFloat16>},
      .row_piece = &RowPiece<S>,
      .linear_pack_pieces = {&LinearPackPieces<S, Format::kFloat32>,
                             &LinearPackPieces<S, Format::kBfloat16>,
                             &LinearPackPieces<S, Format::kFloat16>},
      .linear_panels = {kPanelKernel<S, DenseWeight<S, Format::kFloat32>, kFewDenseRows<S>>,
                        kPanelKernel<S, DenseWeight<S, Format::kBfloat16>, kFewDenseRows<S>>,
                        kPanelKernel<S, DenseWeight<S, Format::kFloat16>, kFewDenseRows<S>>},
      .bf12 = {.pack_x = &PackBf12X<S>,
               .rows = &LinearBf12Rows<S>,
               .panels = kPanelKernel<S, Bf12Weight<S, DenseWeight<S, Format::kBfloat16>, 1>,
                                      kFewDenseRows<S>>},
      .packed_rows = {&LinearPackedRows<S, Packing::kGptq4>, &LinearPackedRows<S, Packing::kGptq8>,
                      &LinearPackedRows<S, Packing::kAwq4>},
      .pack_places = {&PackPlaces<S, Packing::kGptq4>, &PackPlaces<S, Packing::kGptq8>},
      .packed_panels = {kPanelKernel<S, PackedWeight<S, Packing::kGptq4>, kFewPackedRows<S>>,
                        kPanelKernel<S, PackedWeight<S, Packing::kGptq8>, kFewPackedRows<S>>,
                        kPanelKernel<S, PackedWeight<S, Packing::kAwq4>, kFewPackedRows<S>>},
      .integers = {kIntegerKernels<S, Packing::kInt4>, kIntegerKernels<S, Packing::kInt8>},
      .finish_spans = &FinishSpans<S>,
      .quantise_group = {&ChooseGroup4<S>, &ChooseGroup8<S>},
      .rms_norm = &RmsNormRows<S>,
      .layer_norm = &LayerNormRows<S>,
      .quick_gelu = &QuickGeluRange<S>,
      .silu_mul = &SiluMulRange<S>,
      .add = &AddRange<S>,
      .widen = {&WidenRange<S, Format::kFloat32>, &WidenRange<S, Format::kBfloat16>,
                &WidenRange<S, Format::kFloat16>},
      .halves_of_bfloat16 = &HalfRange<S>,
      .rotate = &RotateHead<S>,
      .attention_scratch = &AttentionScratch<S>::Floats,
      .attention = {&RunAttentionTiles<S, KvFormat::kFloat32>,
                    &RunAttentionTiles<S, KvFormat::kInt8>},
      .attention_row_scratch = &AttentionRowFloats<S>,
      .attention_row = {&RunAttentionRow<S, KvFormat::kFloat32>,
                        &RunAttentionRow<S, KvFormat::kInt8>},
  };
};

}  // namespace xcomposer::cpu
