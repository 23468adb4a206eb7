#include "ops/arguments.h"

#include <algorithm>
#include <ostream>

#include "base/check.h"
#include "kernels/cpu/bf12_matrix.h"
#include "kernels/cpu/kv_format.h"
#include "kernels/cpu/packed_matrix.h"
#include "ops/cpu_context.h"

namespace xcomposer::ops {
namespace {

using at::IntArrayRef;
using at::Tensor;

/// What a refusal says of a tensor. Not a string: checks are passed thousands of times a step.
struct Described {
  const Tensor& tensor;
};

std::ostream& operator<<(std::ostream& out, const Described& described) {
  const Tensor& t = described.tensor;
  if (!t.defined()) return out << "nothing";
  return out << t.scalar_type() << ' ' << t.sizes() << " with strides " << t.strides();
}

Described Describe(const Tensor& t) { return {t}; }

bool IsStored(const Tensor& t) {
  return t.scalar_type() == at::kFloat || t.scalar_type() == at::kBFloat16 ||
         t.scalar_type() == at::kHalf;
}

/// float32; on CUDA also what weights are stored as. Which of them an op takes, the back end knows.
bool IsActivation(const Tensor& t) {
  const bool float_only = t.is_cpu() || t.is_meta();
  return t.scalar_type() == at::kFloat || (!float_only && IsStored(t));
}

void CheckActivation(const char* op, const char* name, const Tensor& t) {
  Check(IsActivation(t) && t.is_contiguous(), op, ": ", name,
        " must be contiguous activations (on the CPU float32), found ", Describe(t));
}

/// A matrix of activations whose rows may lie apart.
void CheckRows(const char* op, const char* name, const Tensor& t) {
  Check(IsActivation(t) && t.dim() == 2 && (t.stride(1) == 1 || t.size(1) <= 1), op, ": ", name,
        " must be a matrix of activations (on the CPU float32) with dense rows, found ",
        Describe(t));
}

void CheckWeight(const char* op, const char* name, const Tensor& t) {
  Check(IsStored(t) && t.dim() == 2 && (t.stride(1) == 1 || t.size(1) <= 1), op, ": ", name,
        " must be a bfloat16, float16 or float32 matrix with dense rows, found ", Describe(t));
}

void CheckVector(const char* op, const char* name, const Tensor& t, int64_t size) {
  Check(IsStored(t) && t.dim() == 1 && t.size(0) == size && t.is_contiguous(), op, ": ", name,
        " must be a dense bfloat16, float16 or float32 vector of ", size, ", found ", Describe(t));
}

void CheckInts(const char* op, const char* name, const Tensor& t, at::ScalarType type,
               int64_t size) {
  Check(t.scalar_type() == type && t.dim() == 1 && t.size(0) == size && t.is_contiguous(), op, ": ",
        name, " must be a dense ", type, " vector of ", size, ", found ", Describe(t));
}

/// Keys or values in int8, which the CPU has kernels for.
bool IsRounded(const Tensor& cache) { return cache.scalar_type() == at::kChar && !cache.is_cuda(); }

/// `head_dim`: numbers of a head.
void CheckCaches(const char* op, const Tensor& k_cache, const Tensor& v_cache, int64_t head_dim) {
  const bool rounded = IsRounded(k_cache);
  for (const Tensor* cache : {&k_cache, &v_cache}) {
    Check(cache->is_contiguous() && cache->scalar_type() == k_cache.scalar_type() &&
              (rounded || IsActivation(*cache)),
          op, ": the caches must be contiguous activations or, on the CPU, int8, found ",
          Describe(*cache));
  }
  const int64_t width = rounded ? cpu::KvHeadBytes(cpu::KvFormat::kInt8, head_dim) : head_dim;
  Check(k_cache.dim() == 4 && k_cache.sizes() == v_cache.sizes() && k_cache.size(3) == width, op,
        ": the caches must be (blocks, block_size, kv_heads, ", width, ") and equal, found ",
        k_cache.sizes(), " and ", v_cache.sizes());
  Check(k_cache.size(1) > 0 && k_cache.size(2) > 0 && k_cache.size(3) > 0, op,
        ": the caches have an empty dimension: ", k_cache.sizes());
}

/// Of the outliers the first and the last place are looked at, which say how many there are: what
/// lies between them is PackBf12's, and too much to be read with every product.
void CheckBf12Weight(const char* op, const LinearWeight& weight) {
  const Tensor& words = weight.data;
  constexpr int64_t kBlockWords = cpu::kBf12Rows * cpu::kBf12Words;
  Check(words.scalar_type() == at::kInt && words.dim() == 3 && words.size(2) == kBlockWords &&
            words.is_contiguous(),
        op, ": the words of bf12 must be a dense int32 tensor of blocks of ", kBlockWords,
        ", found ", Describe(words));
  const int64_t n = weight.outputs();
  const int64_t k = weight.inputs();
  Check(cpu::FitsBf12(n, k), op, ": a weight of ", n, " outputs and ", k,
        " inputs, which bf12 does not hold");
  Check(weight.group == 0, op, ": bf12 in groups of ", weight.group, " inputs; it has none");
  const Tensor& scales = weight.scales;
  Check(scales.defined() && scales.scalar_type() == at::kFloat && scales.dim() == 1 &&
            scales.size(0) == n && scales.is_contiguous(),
        op, ": the scales of bf12 must be dense Float [", n, "], found ", Describe(scales));
  const Tensor& outliers = weight.zeros;
  const int64_t places = n / cpu::kBf12Rows + 1;
  Check(outliers.defined() && outliers.scalar_type() == at::kInt && outliers.dim() == 1 &&
            outliers.size(0) >= places && (outliers.size(0) - places) % 2 == 0 &&
            outliers.is_contiguous(),
        op, ": the outliers of bf12 must be dense Int, ", places, " places and then pairs, found ",
        Describe(outliers));
  if (outliers.is_cpu()) {
    const int32_t* place = outliers.const_data_ptr<int32_t>();
    Check(place[0] == places && place[places - 1] == outliers.size(0), op,
          ": the outliers of bf12 begin at ", place[0], " and end at ", place[places - 1],
          ", expected ", places, " and ", outliers.size(0));
  }
  if (weight.bias) CheckVector(op, "bias", *weight.bias, n);
}

}  // namespace

std::vector<int64_t> CheckLinear(const Tensor& x, const Tensor& weight,
                                 const std::optional<Tensor>& bias) {
  if (x.dim() == 2) {
    CheckRows("linear", "x", x);
  } else {
    CheckActivation("linear", "x", x);
  }
  CheckWeight("linear", "weight", weight);
  Check(x.dim() >= 1 && x.size(-1) == weight.size(1), "linear: x ", x.sizes(),
        " does not fit the weight ", weight.sizes());
  if (bias) CheckVector("linear", "bias", *bias, weight.size(0));
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight.size(0);
  return shape;
}

void CheckLinearInto(const Tensor& y, const Tensor& x, const Tensor& weight) {
  const char* op = "linear_into_";
  for (const Tensor* t : {&y, &x, &weight}) {
    Check(t->dim() == y.dim() && (t->stride(-1) == 1 || t->size(-1) <= 1), op,
          ": expected three matrices with dense rows, or three of as many, found y ", Describe(y),
          ", x ", Describe(x), ", weight ", Describe(weight));
  }
  Check(IsActivation(y) && IsActivation(x) && IsStored(weight), op,
        ": y and x must be activations (on the CPU float32), found ", Describe(y), " and ",
        Describe(x), ", and a weight as stored, found ", Describe(weight));
  const bool fits =
      y.dim() == 2 || (y.dim() == 3 && y.size(1) == x.size(1) && y.size(1) == weight.size(0));
  Check(fits && y.size(0) == x.size(0) && y.size(-1) == weight.size(-2) &&
            x.size(-1) == weight.size(-1),
        op, ": shapes do not fit: y ", y.sizes(), ", x ", x.sizes(), ", weight ", weight.sizes());
}

void CheckRowsInto(const char* op, const Tensor& out, IntArrayRef shape) {
  CheckRows(op, "out", out);
  Check(out.sizes() == shape, op, ": out must be ", shape, ", found ", out.sizes());
}

void CheckPackedWeight(const char* op, const LinearWeight& weight) {
  if (weight.packing == WeightPacking::kBf12) return CheckBf12Weight(op, weight);
  const Tensor& words = weight.data;
  const cpu::Packing packing = PackingOf(weight.packing);
  const bool panels = cpu::TakesIntegers(packing);
  Check(words.scalar_type() == at::kInt && words.dim() == (panels ? 3 : 2) &&
            (!panels || words.size(2) == cpu::kPanelOutputs) && words.is_contiguous(),
        op, ": the words of ", ToString(weight.packing), " must be a dense int32 ",
        panels ? "tensor of panels of 16 outputs" : "matrix", ", found ", Describe(words));
  const int64_t n = weight.outputs();
  const int64_t k = weight.inputs();
  Check(n % 8 == 0 && k % 8 == 0, op, ": a packed weight of ", n, " outputs and ", k,
        " inputs; both must be multiples of 8");
  const int64_t grain = panels ? cpu::IntegerBlock(packing) : 8;
  Check(weight.group > 0 && (weight.group % grain == 0 || (panels && weight.group >= k)), op,
        ": groups of ", weight.group, " inputs, expected a positive multiple of ", grain);
  const int64_t groups = (k + weight.group - 1) / weight.group;
  const int64_t columns = panels ? cpu::kPanelOutputs : n;
  const auto expect = [&](const char* name, const Tensor& t, at::ScalarType type, int64_t last) {
    std::vector<int64_t> shape{groups, last};
    if (panels) shape.insert(shape.begin(), words.size(0));
    Check(t.defined() && t.scalar_type() == type && t.is_contiguous() && t.sizes() == shape, op,
          ": the ", name, " must be dense ", type, " ", IntArrayRef(shape), ", found ",
          Describe(t));
  };
  expect("scales", weight.scales, at::kHalf, columns);
  expect("zeros", weight.zeros, at::kInt, columns * weight.bits() / 32);
  if (weight.bias) CheckVector(op, "bias", *weight.bias, n);
}

std::vector<int64_t> CheckPackedLinear(const Tensor& x, const LinearWeight& weight) {
  CheckActivation("linear_packed", "x", x);
  CheckPackedWeight("linear_packed", weight);
  Check(x.dim() >= 1 && x.size(-1) == weight.inputs(), "linear_packed: x ", x.sizes(),
        " does not fit a weight of ", weight.inputs(), " inputs");
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight.outputs();
  return shape;
}

void CheckLinearOnto(const char* op, const Tensor& y, IntArrayRef shape) {
  CheckActivation(op, "y", y);
  Check(y.sizes() == shape, op, ": y must be ", shape, ", found ", y.sizes());
}

void CheckLinearAddRows(const Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b,
                        IntArrayRef spans) {
  const char* op = "linear_add_rows_";
  CheckRows(op, "y", y);
  CheckRows(op, "x", x);
  CheckWeight(op, "a", a);
  CheckWeight(op, "b", b);
  Check(y.size(0) == x.size(0) && x.size(1) == a.size(1) && a.size(0) == b.size(1) &&
            y.size(1) == b.size(0),
        op, ": shapes do not fit: y ", y.sizes(), ", x ", x.sizes(), ", a ", a.sizes(), ", b ",
        b.sizes());
  Check(spans.size() % 2 == 0, op, ": spans must come in pairs, found ", spans.size(), " numbers");
  int64_t previous = 0;
  for (size_t i = 0; i < spans.size(); i += 2) {
    Check(previous <= spans[i] && spans[i] <= spans[i + 1] && spans[i + 1] <= y.size(0), op,
          ": span [", spans[i], ", ", spans[i + 1], ") is out of order or outside of ", y.size(0),
          " rows");
    previous = spans[i + 1];
  }
}

void CheckNorm(const char* op, const Tensor& x, const Tensor& weight,
               const std::optional<Tensor>& bias) {
  CheckActivation(op, "x", x);
  Check(x.dim() >= 1, op, ": x must have at least one dimension");
  CheckVector(op, "weight", weight, x.size(-1));
  if (bias) CheckVector(op, "bias", *bias, x.size(-1));
}

void CheckElementwise(const char* op, const Tensor& x) { CheckActivation(op, "x", x); }

void CheckSameShape(const char* op, const Tensor& y, const Tensor& x) {
  CheckActivation(op, "the first argument", y);
  CheckActivation(op, "the second argument", x);
  Check(y.sizes() == x.sizes(), op, ": shapes differ: ", y.sizes(), " and ", x.sizes());
}

void CheckSiluMul(const Tensor& gate, const Tensor& up) {
  const char* op = "silu_mul_";
  if (gate.is_contiguous()) return CheckSameShape(op, gate, up);
  CheckRows(op, "gate", gate);
  CheckRows(op, "up", up);
  Check(gate.sizes() == up.sizes() && gate.stride(0) == up.stride(0), op,
        ": gate and up differ: ", Describe(gate), " and ", Describe(up));
}

void CheckNormScores(const Tensor& scores, const Tensor& hidden, const Tensor& output) {
  CheckNormScores(scores, hidden, LinearWeight::Dense(output));
}

void CheckNormScores(const Tensor& scores, const Tensor& hidden, const LinearWeight& output) {
  const auto shape = output.packing == WeightPacking::kDense
                         ? CheckLinear(hidden, output.data, output.bias)
                         : CheckPackedLinear(hidden, output);
  Check(scores.scalar_type() == at::kFloat && scores.sizes() == shape && scores.is_contiguous(),
        "norm_scores_: scores must be dense float32 ", at::IntArrayRef(shape), ", found ",
        Describe(scores));
}

void CheckChooseIds(const Tensor& scores, const Tensor& rules, int64_t rule_bytes,
                    const Tensor& seen, const Tensor& steps) {
  const char* op = "choose_ids";
  Check(scores.scalar_type() == at::kFloat && scores.dim() == 2 && scores.is_contiguous(), op,
        ": scores must be dense float32 (R, V), found ", Describe(scores));
  const auto require = [&](const Tensor& t, const char* name, at::ScalarType type,
                           const std::vector<int64_t>& shape) {
    Check(t.scalar_type() == type && t.sizes() == shape && t.is_contiguous(), op, ": ", name,
          " must be dense ", type, " ", at::IntArrayRef(shape), ", found ", Describe(t));
  };
  const int64_t rows = scores.size(0);
  require(rules, "rules", at::kByte, {rows, rule_bytes});
  require(seen, "seen", at::kInt, {rows, (scores.size(1) + 31) / 32});
  require(steps, "steps", at::kLong, {rows});
}

std::vector<int64_t> CheckEmbedding(const Tensor& ids, const Tensor& table) {
  Check((ids.scalar_type() == at::kInt || ids.scalar_type() == at::kLong) && ids.dim() == 1 &&
            ids.is_contiguous(),
        "embedding: ids must be a dense vector of int32 or int64, found ", Describe(ids));
  CheckWeight("embedding", "table", table);
  return {ids.size(0), table.size(1)};
}

std::vector<int64_t> CheckRopeTable(const Tensor& inverse_frequencies, const Tensor& tables,
                                    const Tensor& positions) {
  const char* op = "rope_table";
  Check(inverse_frequencies.scalar_type() == at::kFloat && inverse_frequencies.dim() == 2 &&
            inverse_frequencies.size(1) > 0 && inverse_frequencies.is_contiguous(),
        op, ": the inverse frequencies must be a dense float32 matrix, found ",
        Describe(inverse_frequencies));
  const int64_t rows = positions.dim() == 1 ? positions.size(0) : 0;
  CheckInts(op, "tables", tables, at::kInt, rows);
  CheckInts(op, "positions", positions, at::kInt, rows);
  return {rows, inverse_frequencies.size(1)};
}

HeadShape CheckRopeKv(const Tensor& qkv, const Tensor& cos, const Tensor& sin,
                      const Tensor& k_cache, const Tensor& v_cache, const Tensor& slots) {
  const char* op = "rope_kv";
  CheckRows(op, "qkv", qkv);
  CheckActivation(op, "cos", cos);
  CheckActivation(op, "sin", sin);
  Check(
      cos.dim() == 2 && cos.size(0) == qkv.size(0) && cos.size(1) > 0 && cos.sizes() == sin.sizes(),
      op, ": cos and sin must be (", qkv.size(0), ", head_dim / 2), found ", cos.sizes(), " and ",
      sin.sizes());
  const int64_t head_dim = 2 * cos.size(1);
  CheckCaches(op, k_cache, v_cache, head_dim);
  HeadShape shape{
      .rows = qkv.size(0), .heads = 0, .kv_heads = k_cache.size(2), .head_dim = head_dim};
  const int64_t blocks = qkv.size(1) / shape.head_dim;
  const int64_t slots_per_group = blocks / shape.kv_heads;
  Check(slots_per_group >= 3 && slots_per_group * shape.kv_heads * shape.head_dim == qkv.size(1),
        op, ": qkv ", qkv.sizes(), " does not divide into ", shape.kv_heads,
        " groups of query heads, key and value of ", shape.head_dim);
  shape.heads = (slots_per_group - 2) * shape.kv_heads;
  CheckInts(op, "slots", slots, at::kLong, shape.rows);
  return shape;
}

HeadShape CheckPagedAttention(const Tensor& q, const Tensor& k_cache, const Tensor& v_cache,
                              const Tensor& first_rows, const Tensor& row_counts,
                              const Tensor& positions, const Tensor& block_tables) {
  const char* op = "paged_attention";
  CheckActivation(op, "q", q);
  Check(q.dim() == 3 && q.size(2) > 0, op, ": q must be (rows, heads, head_dim), found ",
        q.sizes());
  CheckCaches(op, k_cache, v_cache, q.size(2));
  Check(q.size(1) % k_cache.size(2) == 0, op, ": q ", q.sizes(), " does not fit the cache ",
        k_cache.sizes());
  const int64_t sequences = first_rows.dim() == 1 ? first_rows.size(0) : 0;
  CheckInts(op, "first_rows", first_rows, at::kInt, sequences);
  CheckInts(op, "row_counts", row_counts, at::kInt, sequences);
  CheckInts(op, "positions", positions, at::kInt, sequences);
  Check(block_tables.scalar_type() == at::kInt && block_tables.dim() == 2 &&
            block_tables.size(0) == sequences && block_tables.is_contiguous(),
        op, ": block_tables must be a dense int32 matrix with ", sequences, " rows, found ",
        Describe(block_tables));
  return {
      .rows = q.size(0), .heads = q.size(1), .kv_heads = k_cache.size(2), .head_dim = q.size(2)};
}

int64_t CheckVisionAttention(const Tensor& q, const Tensor& k, const Tensor& v) {
  const char* op = "vision_attention";
  Check(q.dim() == 4 && q.sizes() == k.sizes() && q.sizes() == v.sizes() && q.size(3) > 0, op,
        ": q, k and v must be equal (n, N, H, D), found ", q.sizes(), ", ", k.sizes(), ", ",
        v.sizes());
  const int64_t row = q.size(2) * q.size(3);
  if (q.numel() == 0) return row;
  const bool dense = q.is_contiguous();
  const bool apart = q.stride(3) == 1 && q.stride(2) == q.size(3) && q.stride(1) >= row &&
                     q.stride(0) == q.size(1) * q.stride(1);
  for (const Tensor* t : {&q, &k, &v}) {
    Check(
        IsActivation(*t) && t->strides() == q.strides() && (dense || (apart && !t->is_cpu())), op,
        ": q, k and v must be activations (on the CPU contiguous float32) whose rows lie equally ",
        "far apart, found ", Describe(*t), " with strides ", t->strides());
  }
  return dense ? row : q.stride(1);
}

std::vector<int64_t> CheckNormalisePixels(const Tensor& rgb, const Tensor& levels) {
  const char* op = "normalise_pixels";
  Check(rgb.scalar_type() == at::kByte && rgb.dim() == 3 && rgb.size(2) == 3 && rgb.is_contiguous(),
        op, ": pixels must be dense bytes (h, w, 3), found ", rgb.sizes());
  CheckActivation(op, "levels", levels);
  Check(levels.sizes() == IntArrayRef({3, 256}), op, ": levels must be (3, 256), found ",
        levels.sizes());
  return {3, rgb.size(0), rgb.size(1)};
}

namespace {

/// The whole number whose square this is; -1 where there is none.
int64_t SideOf(int64_t square) {
  const auto side = static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(square))));
  return side * side == square ? side : -1;
}

}  // namespace

ViewShape CheckEmbedViews(const Tensor& views, const Tensor& patch_embedding,
                          const Tensor& class_embedding, const Tensor& position_embedding) {
  const char* op = "embed_views";
  CheckActivation(op, "views", views);
  CheckActivation(op, "class embedding", class_embedding);
  CheckActivation(op, "position embedding", position_embedding);
  Check(views.dim() == 4 && views.size(1) == 3 && views.size(2) == views.size(3), op,
        ": views must be (n, 3, P, P), found ", views.sizes());
  Check(patch_embedding.dim() == 2 && patch_embedding.size(1) % 3 == 0, op,
        ": the patch embedding must be (C, 3 p p), found ", patch_embedding.sizes());
  const int64_t patch = SideOf(patch_embedding.size(1) / 3);
  Check(patch > 0 && views.size(2) % patch == 0, op, ": views of ", views.size(2),
        " pixels are no whole patches of ", patch_embedding.sizes());
  const ViewShape shape{.views = views.size(0),
                        .grid = views.size(2) / patch,
                        .patch = patch,
                        .columns = patch_embedding.size(0)};
  Check(class_embedding.sizes() == IntArrayRef({shape.columns}) &&
            position_embedding.sizes() == IntArrayRef({shape.grid * shape.grid + 1, shape.columns}),
        op, ": expected embeddings of a class and of ", shape.grid * shape.grid + 1,
        " positions of ", shape.columns, ", found ", class_embedding.sizes(), " and ",
        position_embedding.sizes());
  return shape;
}

ViewShape CheckDropClass(const Tensor& features) {
  CheckActivation("drop_class", "features", features);
  Check(features.dim() == 3 && features.size(1) > 1, "drop_class",
        ": features must be (n, N + 1, C), found ", features.sizes());
  return {.views = features.size(0), .columns = features.size(2)};
}

ViewShape CheckMergeViews(const Tensor& features, const Tensor& sub_gn, const Tensor& glb_gn,
                          int64_t tile_rows, int64_t tile_columns) {
  const char* op = "merge_views";
  CheckActivation(op, "features", features);
  CheckActivation(op, "sub_gn", sub_gn);
  CheckActivation(op, "glb_gn", glb_gn);
  Check(features.dim() == 3 && tile_rows > 0 && tile_columns > 0 &&
            features.size(0) == 1 + tile_rows * tile_columns,
        op, ": features must be those of a global view and ", tile_rows, "x", tile_columns,
        " tiles, found ", features.sizes());
  const ViewShape shape{
      .views = features.size(0), .grid = SideOf(features.size(1) - 1), .columns = features.size(2)};
  Check(shape.grid > 0 && shape.grid % 2 == 0, op, ": views need an even grid and a class row, ",
        "found ", features.size(1), " rows");
  const auto is_wide = [&](const Tensor& t) {
    return t.dim() == 1 && t.size(0) == 4 * shape.columns;
  };
  Check(is_wide(sub_gn) && is_wide(glb_gn), op, ": separators must be (", 4 * shape.columns,
        "), found ", sub_gn.sizes(), " and ", glb_gn.sizes());
  return shape;
}

void CheckCopyBlocks(const Tensor& cache, IntArrayRef source, IntArrayRef target) {
  const char* op = "copy_blocks_";
  Check((IsActivation(cache) || IsRounded(cache)) && cache.is_contiguous(), op,
        ": the cache must be contiguous activations or, on the CPU, int8, found ", Describe(cache));
  Check(cache.dim() >= 1 && source.size() == target.size(), op, ": ", source.size(),
        " sources for ", target.size(), " targets");
  for (size_t i = 0; i < source.size(); ++i) {
    Check(
        source[i] >= 0 && source[i] < cache.size(0) && target[i] >= 0 && target[i] < cache.size(0),
        op, ": copy of block ", source[i], " to ", target[i], " in a cache of ", cache.size(0));
  }
}

}  // namespace xcomposer::ops
