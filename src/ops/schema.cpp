#include <torch/library.h>

// The one list of our ops. A back end registers under these names; see meta.cpp and cpu_*.cpp.
TORCH_LIBRARY(xcomposer, m) {
  m.def("linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor");
  m.def(
      "linear_packed(Tensor x, str packing, Tensor words, Tensor scales, Tensor zeros, int group, "
      "Tensor? bias) -> Tensor");
  m.def(
      "linear_add_rows_(Tensor(a!) y, Tensor x, Tensor a, Tensor b, int[] spans, float scale) "
      "-> ()");
  m.def("rms_norm(Tensor x, Tensor weight, float eps) -> Tensor");
  m.def("layer_norm(Tensor x, Tensor weight, Tensor bias, float eps) -> Tensor");
  m.def("quick_gelu_(Tensor(a!) x) -> ()");
  m.def("gelu_(Tensor(a!) x) -> ()");
  m.def("silu_mul_(Tensor(a!) gate, Tensor up) -> ()");
  m.def("add_(Tensor(a!) y, Tensor x) -> ()");
  m.def("embedding(Tensor ids, Tensor table) -> Tensor");
  m.def("rope_table(Tensor bases, Tensor positions, int head_dim) -> (Tensor, Tensor)");
  m.def(
      "rope_kv(Tensor qkv, Tensor cos, Tensor sin, Tensor(a!) k_cache, Tensor(b!) v_cache, "
      "Tensor slots) -> Tensor");
  m.def(
      "paged_attention(Tensor q, Tensor k_cache, Tensor v_cache, Tensor first_rows, "
      "Tensor row_counts, Tensor positions, Tensor block_tables) -> Tensor");
  m.def("vision_attention(Tensor q, Tensor k, Tensor v) -> Tensor");
  m.def("copy_blocks_(Tensor(a!) cache, int[] source, int[] target) -> ()");
}
