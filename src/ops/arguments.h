#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "ops/linear_weight.h"

/// What each op demands of its arguments, and the shape of what it returns: shared by every back
/// end, so that a dry run over Meta tensors finds what a real run would find. All throw
/// Error(kInternal).
namespace xcomposer::ops {

/// Returns the shape of the result.
std::vector<int64_t> CheckLinear(const at::Tensor& x, const at::Tensor& weight,
                                 const std::optional<at::Tensor>& bias);
/// For matrices, and for as many of each beside each other (T, P, columns).
void CheckLinearInto(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight);
/// A matrix of this shape whose rows may lie apart, to be written.
void CheckRowsInto(const char* op, const at::Tensor& out, at::IntArrayRef shape);
/// The parts of a packed weight fit together; `weight` is not dense.
void CheckPackedWeight(const char* op, const LinearWeight& weight);
/// Returns the shape of the result.
std::vector<int64_t> CheckPackedLinear(const at::Tensor& x, const LinearWeight& weight);
/// y is dense and has the shape of x times the weight.
void CheckLinearOnto(const char* op, const at::Tensor& y, at::IntArrayRef shape);
void CheckLinearAddRows(const at::Tensor& y, const at::Tensor& x, const at::Tensor& a,
                        const at::Tensor& b, at::IntArrayRef spans);
/// For both norms; RmsNorm passes no bias.
void CheckNorm(const char* op, const at::Tensor& x, const at::Tensor& weight,
               const std::optional<at::Tensor>& bias);
void CheckElementwise(const char* op, const at::Tensor& x);
void CheckSameShape(const char* op, const at::Tensor& y, const at::Tensor& x);
void CheckSiluMul(const at::Tensor& gate, const at::Tensor& up);
/// Returns the shape of the result.
std::vector<int64_t> CheckEmbedding(const at::Tensor& ids, const at::Tensor& table);
/// Returns the shape of either result.
std::vector<int64_t> CheckRopeTable(const at::Tensor& inverse_frequencies, const at::Tensor& tables,
                                    const at::Tensor& positions);

/// Sizes of an attention layer, read off the arguments.
struct HeadShape {
  int64_t rows = 0;      ///< T
  int64_t heads = 0;     ///< H
  int64_t kv_heads = 0;  ///< G
  int64_t head_dim = 0;  ///< D
};

HeadShape CheckRopeKv(const at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin,
                      const at::Tensor& k_cache, const at::Tensor& v_cache,
                      const at::Tensor& slots);
HeadShape CheckPagedAttention(const at::Tensor& q, const at::Tensor& k_cache,
                              const at::Tensor& v_cache, const at::Tensor& first_rows,
                              const at::Tensor& row_counts, const at::Tensor& positions,
                              const at::Tensor& block_tables);
void CheckNormScores(const at::Tensor& scores, const at::Tensor& hidden, const at::Tensor& output);
void CheckNormScores(const at::Tensor& scores, const at::Tensor& hidden,
                     const LinearWeight& output);
/// `rule_bytes`: of one row of rules.
void CheckChooseIds(const at::Tensor& scores, const at::Tensor& rules, int64_t rule_bytes,
                    const at::Tensor& seen, const at::Tensor& steps);
/// Returns the numbers between the rows, which are equal in all three.
int64_t CheckVisionAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);
/// Returns the shape of the result.
std::vector<int64_t> CheckNormalisePixels(const at::Tensor& rgb, const at::Tensor& levels);

/// Sizes of the vision tower's rows, read off the arguments.
struct ViewShape {
  int64_t views = 0;    ///< n
  int64_t grid = 0;     ///< patches along a side; grid * grid = N
  int64_t patch = 0;    ///< p, pixels along a side
  int64_t columns = 0;  ///< C
};
ViewShape CheckEmbedViews(const at::Tensor& views, const at::Tensor& patch_embedding,
                          const at::Tensor& class_embedding, const at::Tensor& position_embedding);
ViewShape CheckDropClass(const at::Tensor& features);
ViewShape CheckMergeViews(const at::Tensor& features, const at::Tensor& sub_gn,
                          const at::Tensor& glb_gn, int64_t tile_rows, int64_t tile_columns);
void CheckCopyBlocks(const at::Tensor& cache, at::IntArrayRef source, at::IntArrayRef target);

}  // namespace xcomposer::ops
