#include <torch/library.h>

// The one list of our ops. A back end registers under these names; see meta.cpp, cpu_*.cpp and
// cuda_*.cpp, and composed.cpp for those that are made of others.
TORCH_LIBRARY(xcomposer, m) {
  m.def("linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor");
  m.def("linear_float(Tensor x, Tensor weight) -> Tensor");
  m.def("linear_into_(Tensor(a!) y, Tensor x, Tensor weight, float scale) -> ()");
  m.def("linear_add_(Tensor(a!) y, Tensor x, Tensor weight) -> ()");
  m.def(
      "linear_packed(Tensor x, str packing, Tensor words, Tensor scales, Tensor zeros, int group, "
      "Tensor? bias) -> Tensor");
  m.def(
      "linear_packed_into_(Tensor(a!) y, Tensor x, str packing, Tensor words, Tensor scales, "
      "Tensor zeros, int group, Tensor? bias, bool accumulate) -> ()");
  m.def(
      "linear_add_rows_(Tensor(a!) y, Tensor x, Tensor a, Tensor b, int[] spans, float scale) "
      "-> ()");
  m.def("rms_norm(Tensor x, Tensor weight, float eps) -> Tensor");
  m.def("rms_norm_into_(Tensor(a!) out, Tensor x, Tensor weight, float eps) -> ()");
  m.def("layer_norm(Tensor x, Tensor weight, Tensor bias, float eps) -> Tensor");
  m.def("layer_norm_(Tensor(a!) x, Tensor weight, Tensor bias, float eps) -> ()");
  m.def("add_layer_norm(Tensor(a!) y, Tensor x, Tensor weight, Tensor bias, float eps) -> Tensor");
  m.def("quick_gelu_(Tensor(a!) x) -> ()");
  m.def("gelu_(Tensor(a!) x) -> ()");
  m.def("silu_mul_(Tensor(a!) gate, Tensor up) -> ()");
  m.def("add_(Tensor(a!) y, Tensor x) -> ()");
  m.def("embedding(Tensor ids, Tensor table) -> Tensor");
  m.def(
      "rope_table(Tensor inverse_frequencies, Tensor tables, Tensor positions) "
      "-> (Tensor, Tensor)");
  m.def(
      "rope_kv(Tensor qkv, Tensor cos, Tensor sin, Tensor(a!) k_cache, Tensor(b!) v_cache, "
      "Tensor slots) -> Tensor");
  m.def(
      "paged_attention(Tensor q, Tensor k_cache, Tensor v_cache, Tensor first_rows, "
      "Tensor row_counts, Tensor positions, Tensor block_tables, int longest) -> Tensor");
  m.def(
      "paged_attention_into_(Tensor(a!) out, Tensor q, Tensor k_cache, Tensor v_cache, "
      "Tensor first_rows, Tensor row_counts, Tensor positions, Tensor block_tables, int longest) "
      "-> ()");
  m.def("vision_attention(Tensor q, Tensor k, Tensor v) -> Tensor");
  m.def(
      "norm_qkv_rope(Tensor hidden, Tensor norm, float eps, Tensor wqkv, Tensor cos, Tensor sin, "
      "Tensor(a!) k_cache, Tensor(b!) v_cache, Tensor slots) -> Tensor");
  m.def("norm_gate_up(Tensor hidden, Tensor norm, float eps, Tensor w1, Tensor w3) -> Tensor");
  m.def(
      "norm_gate_up_packed(Tensor hidden, Tensor norm, float eps, str packing, Tensor[] w1, "
      "Tensor[] w3, int group) -> Tensor");
  m.def(
      "norm_scores_(Tensor(a!) scores, Tensor hidden, Tensor norm, float eps, Tensor output) "
      "-> ()");
  m.def("choose_ids(Tensor scores, Tensor rules, Tensor(a!) seen, Tensor(b!) steps) -> Tensor");
  m.def("normalise_pixels(Tensor rgb, Tensor levels) -> Tensor");
  m.def(
      "embed_views(Tensor views, Tensor patch_embedding, Tensor class_embedding, "
      "Tensor position_embedding) -> Tensor");
  m.def("drop_class(Tensor features, ScalarType stored) -> Tensor");
  m.def(
      "merge_views(Tensor features, Tensor sub_gn, Tensor glb_gn, int tile_rows, "
      "int tile_columns, ScalarType stored) -> Tensor");
  m.def("copy_blocks_(Tensor(a!) cache, int[] source, int[] target) -> ()");
}
