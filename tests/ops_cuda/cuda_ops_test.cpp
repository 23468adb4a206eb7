// The CUDA back end of every op, host code and kernels, against float64: under the emulator, and on
// a GPU.
#include <ATen/ops/cat.h>

#include "ops/op_testing.h"
#include "ops/ops.h"
#include "support/cuda_device.h"

namespace xcomposer::ops {
namespace {

using at::Tensor;

class CudaOps : public OpTest, public testing::WithParamInterface<at::ScalarType> {
 protected:
  void SetUp() override { cuda_testing::RequireDevice(); }

  Tensor Stored(at::IntArrayRef shape, double scale = 1.0) const {
    return Uniform(shape, scale).to(GetParam());
  }
  /// On the device, as weights are.
  Tensor Weight(const Tensor& host) const { return cuda_testing::OnDevice(host, true); }
  Tensor Put(const Tensor& host) const { return cuda_testing::OnDevice(host); }

  /// At most twice the error of the plain computation that stores the same, both against float64;
  /// `stored`: what that computation gives before it is stored.
  void ExpectLikeNaive(const Tensor& device, const Tensor& exact, const Tensor& stored,
                       double sums = 0.0) const {
    const Tensor found = device.cpu();
    ASSERT_EQ(found.sizes(), exact.sizes());
    ASSERT_EQ(cuda_testing::TakeFault(), "");
    if (found.numel() == 0) return;
    const Tensor naive = stored.to(found.scalar_type()).to(at::kDouble);
    const double budget = 2 * (naive - exact).abs().max().item<double>() +
                          0x1p-20 * exact.abs().max().item<double>() + sums;
    const double error = (found.to(at::kDouble) - exact).abs().max().item<double>();
    EXPECT_TRUE(error <= budget) << error << " of " << budget;
  }
  void ExpectLikeNaive(const Tensor& device, const Tensor& exact, double sums = 0.0) const {
    ExpectLikeNaive(device, exact, exact, sums);
  }

  /// What float32 sums on tensor cores may err by: an instruction adds at least 16 products to its
  /// sum and cuts off what lies below the sum's last place, instead of rounding it. No sum exceeds
  /// that of the products' magnitudes.
  static double SumsOfTensorCores(int64_t inputs, const Tensor& sums_of_magnitudes) {
    if (sums_of_magnitudes.numel() == 0) return 0.0;
    return static_cast<double>((inputs + 15) / 16) * 0x1p-23 *
           sums_of_magnitudes.max().item<double>();
  }

  /// The plain computation rounds the weights of the values once, and the result once.
  void ExpectLikeNaiveAttention(const Tensor& device, const Tensor& exact, const Tensor& v) const {
    const Tensor found = device.cpu();
    ASSERT_EQ(found.sizes(), exact.sizes());
    ASSERT_EQ(cuda_testing::TakeFault(), "");
    if (found.numel() == 0) return;
    const double unit = GetParam() == at::kHalf ? 0x1p-11 : 0x1p-8;
    const double naive =
        unit * (exact.abs().max().item<double>() + reference::Wide(v).abs().max().item<double>());
    const double error = (found.to(at::kDouble) - exact).abs().max().item<double>();
    EXPECT_TRUE(error <= 2 * naive) << error << " of " << 2 * naive;
  }

 private:
  cuda_testing::CudaRun run_;
};

INSTANTIATE_TEST_SUITE_P(, CudaOps, testing::Values(at::kHalf, at::kBFloat16),
                         [](const auto& info) {
                           return info.param == at::kHalf ? "float16" : "bfloat16";
                         });

struct Sizes {
  int64_t rows, outputs, inputs;
};
// One row, few rows, many rows; few rows of long sums, which are cuBLASLt's; inputs that suit no
// kernel for few rows, or no kernel at all.
const Sizes kSizes[] = {{0, 24, 64},  {1, 24, 64},    {1, 25, 64}, {5, 24, 64},   {32, 40, 96},
                        {33, 24, 64}, {17, 24, 8224}, {5, 24, 40}, {41, 24, 588}, {3, 24, 13}};

TEST_P(CudaOps, Linear) {
  for (const auto& [rows, outputs, inputs] : kSizes) {
    SCOPED_TRACE(testing::Message() << rows << " rows, " << inputs << " inputs");
    const Tensor x = Stored({rows, inputs});
    const Tensor w = Stored({outputs, inputs});
    const Tensor bias = Stored({outputs});
    ExpectLikeNaive(Linear(Put(x), Weight(w)), reference::Linear(x, w));
    ExpectLikeNaive(Linear(Put(x), Weight(w), Weight(bias)), reference::Linear(x, w, bias));
    const Tensor scores = LinearFloat(Put(x), Weight(w));
    EXPECT_EQ(scores.scalar_type(), at::kFloat);
    const double sums = SumsOfTensorCores(inputs, reference::Linear(x.abs(), w.abs()));
    ExpectLikeNaive(scores, reference::Linear(x, w), sums);
    // float32 input, as pictures' features are, is rounded first.
    ExpectLikeNaive(Linear(Put(x.to(at::kFloat)), Weight(w)), reference::Linear(x, w));
    const Tensor before = Uniform({rows, outputs});
    Tensor y = Put(before);
    LinearAdd_(y, Put(x), LinearWeight::Dense(Weight(w)));
    ExpectLikeNaive(y, reference::Wide(before) + reference::Linear(x, w), sums);
  }
  const Tensor views = Stored({2, 3, 64});
  const Tensor w = Stored({8, 64});
  ExpectLikeNaive(Linear(Put(views), Weight(w)), reference::Linear(views, w));
}

// Rows of x and of the result lie apart, as those that have room for an adapter's part do.
TEST_P(CudaOps, LinearWhereItsResultLies) {
  for (const auto& [rows, outputs, inputs] : kSizes) {
    if (inputs % 8 != 0 || inputs > 1000) continue;
    SCOPED_TRACE(testing::Message() << rows << " rows, " << inputs << " inputs");
    const Tensor x = Stored({rows, inputs + 24});
    const Tensor w = Stored({outputs, inputs + 8});
    const Tensor before = Stored({rows, outputs + 16});
    const Tensor narrow_x = x.narrow(1, 8, inputs);
    const Tensor narrow_w = w.narrow(1, 0, inputs);
    const Tensor device_x = Put(x).narrow(1, 8, inputs);
    const Tensor device_w = Weight(w).narrow(1, 0, inputs);
    const Tensor exact = reference::Linear(narrow_x, narrow_w);
    ExpectLikeNaive(Linear(device_x, device_w), exact);
    if (outputs % 8 != 0) continue;
    const Tensor all = Put(before);
    Tensor y = all.narrow(1, 8, outputs);
    LinearInto_(y, device_x, device_w, 2.0);
    ExpectLikeNaive(y, 2.0 * exact);
    EXPECT_TRUE(all.cpu().narrow(1, 0, 8).equal(before.narrow(1, 0, 8)));
    EXPECT_TRUE(all.cpu().narrow(1, outputs + 8, 8).equal(before.narrow(1, outputs + 8, 8)));
    const Tensor stream = Uniform({rows, outputs});
    Tensor sum = Put(stream);
    LinearAdd_(sum, device_x, LinearWeight::Dense(device_w));
    ExpectLikeNaive(sum, reference::Wide(stream) + exact,
                    SumsOfTensorCores(inputs, reference::Linear(narrow_x.abs(), narrow_w.abs())));
  }
}

TEST_P(CudaOps, SeveralProductsInOneCall) {
  for (const int64_t rows : {0, 1, 7, 40}) {
    const Tensor x = Stored({rows, 96});
    const Tensor w = Stored({2, 24, 72});
    const Tensor device_x = Put(x).as_strided({rows, 2, 64}, {96, 32, 1});
    const Tensor device_w = Weight(w).narrow(2, 8, 64);
    Tensor y = Put(Stored({rows, 64})).as_strided({rows, 2, 24}, {64, 40, 1});
    LinearInto_(y, device_x, device_w);
    for (int64_t p = 0; p < 2; ++p) {
      ExpectLikeNaive(y.select(1, p),
                      reference::Linear(x.narrow(1, 32 * p, 64), w.select(0, p).narrow(1, 8, 64)));
    }
  }
}

TEST_P(CudaOps, LinearAddRows) {
  for (const int64_t rank : {8, 5, 32}) {
    const Tensor x = Stored({23, 64});
    const Tensor a = Stored({rank, 64});
    const Tensor b = Stored({40, rank});
    const std::vector<int64_t> spans = {1, 4, 4, 4, 4, 9, 20, 23};
    const Tensor low = reference::Linear(x, a).to(GetParam());
    for (const at::ScalarType type : {at::kFloat, GetParam()}) {
      SCOPED_TRACE(testing::Message() << "rank " << rank << " added to " << c10::toString(type));
      const Tensor before = Uniform({23, 40}).to(type);
      Tensor y = Put(before);
      LinearAddRows_(y, Put(x), Weight(a), Weight(b), spans, 2.0);
      // The plain computation stores the product before it is added, in the type of the sum.
      Tensor naive = reference::Wide(before).clone();
      for (const auto& [begin, end] : {std::pair{1, 9}, std::pair{20, 23}}) {
        const Tensor up = 2.0 * reference::Linear(low.slice(0, begin, end), b);
        naive.slice(0, begin, end).add_(reference::Wide(up.to(type)));
      }
      ExpectLikeNaive(y, reference::LinearAddRows(before, x, a, b, spans, 2.0), naive);
      EXPECT_TRUE(y.cpu().slice(0, 9, 20).equal(before.slice(0, 9, 20)));
    }
  }
}

TEST_P(CudaOps, Rows) {
  for (const auto& shape :
       std::vector<std::vector<int64_t>>{{0, 8}, {1, 8}, {5, 72}, {2, 3, 264}}) {
    const Tensor x = Uniform(shape, 3.0);
    const Tensor weight = Stored({shape.back()});
    const Tensor bias = Stored({shape.back()});
    ExpectLikeNaive(RmsNorm(Put(x), Weight(weight), 1e-5), reference::RmsNorm(x, weight, 1e-5));
    const Tensor norm = reference::LayerNorm(x, weight, bias, 1e-5);
    ExpectLikeNaive(LayerNorm(Put(x), Weight(weight), Weight(bias), 1e-5), norm);
    const Tensor added = Stored(shape);
    const Tensor total = reference::Wide(x) + reference::Wide(added);
    Tensor stream = Put(x);
    ExpectLikeNaive(AddLayerNorm(stream, Put(added), Weight(weight), Weight(bias), 1e-5),
                    reference::LayerNorm(total, weight, bias, 1e-5),
                    reference::LayerNorm(total.to(at::kFloat), weight, bias, 1e-5));
    ExpectLikeNaive(stream, total);
    Tensor in_place = Put(x);
    LayerNorm_(in_place, Weight(weight), Weight(bias), 1e-5);
    EXPECT_EQ(in_place.scalar_type(), at::kFloat);
    ExpectLikeNaive(in_place, norm);
    const Tensor gate = Stored(shape, 3.0);
    const Tensor up = Stored(shape, 3.0);
    Tensor y = Put(gate);
    QuickGelu_(y);
    ExpectLikeNaive(y, reference::QuickGelu(gate));
    y = Put(gate);
    Gelu_(y);
    ExpectLikeNaive(y, reference::Gelu(gate));
    y = Put(gate);
    SiluMul_(y, Put(up));
    ExpectLikeNaive(y, reference::SiluMul(gate, up));
    y = Put(x);
    Add_(y, Put(up));
    ExpectLikeNaive(y, reference::Wide(x) + reference::Wide(up));
  }
  // Rows that lie apart.
  const Tensor x = Uniform({5, 72}, 3.0);
  const Tensor weight = Stored({72});
  const Tensor pair = Stored({5, 3 * 72}, 3.0);
  Tensor all = Put(pair);
  Tensor out = all.narrow(1, 72, 72);
  RmsNormInto_(out, Put(x), Weight(weight), 1e-5);
  EXPECT_TRUE(out.cpu().equal(RmsNorm(Put(x), Weight(weight), 1e-5).cpu()));
  Tensor gate = all.narrow(1, 0, 72);
  SiluMul_(gate, all.narrow(1, 2 * 72, 72));
  ExpectLikeNaive(gate, reference::SiluMul(pair.narrow(1, 0, 72), pair.narrow(1, 2 * 72, 72)));
  EXPECT_TRUE(all.cpu().narrow(1, 2 * 72, 72).equal(pair.narrow(1, 2 * 72, 72)));
  const Tensor table = Stored({11, 24});
  const Tensor rows = Embedding(Put(Ints({3, -1, 10, 0})), Weight(table));
  EXPECT_EQ(rows.scalar_type(), at::kFloat);
  ExpectLikeNaive(rows, reference::Embedding(Ints({3, -1, 10, 0}), table));
  const Tensor cache = Stored({4, 2, 8});
  Tensor copied = Put(cache);
  CopyBlocks_(copied, {0, 3, 2}, {3, 1, 2});
  EXPECT_TRUE(copied.cpu().equal(at::cat(std::vector<Tensor>{
      cache.slice(0, 0, 1), cache.slice(0, 0, 1), cache.slice(0, 2, 3), cache.slice(0, 0, 1)})));
}

struct Heads {
  int64_t heads, kv_heads, dim;
};
// Groups of 2, 1, 8, and one that the decoding kernel does not take.
const Heads kHeads[] = {{4, 2, 64}, {2, 2, 128}, {8, 1, 64}, {9, 1, 64}};

TEST_P(CudaOps, RopeTable) {
  const Tensor inverse = Uniform({3, 33});
  const auto [cos, sin] =
      RopeTable(Put(inverse), Put(Ints({2, 0, 1, 1})), Put(Ints({0, 1289, 5, 32767})));
  const auto [cos_reference, sin_reference] =
      reference::RopeTable(inverse, Ints({2, 0, 1, 1}), Ints({0, 1289, 5, 32767}));
  ExpectLikeNaive(cos, cos_reference);
  ExpectLikeNaive(sin, sin_reference);
}

TEST_P(CudaOps, RopeKvAndItsFusedForm) {
  for (const auto& [heads, kv_heads, dim] : kHeads) {
    for (const int64_t rows : {0, 1, 5}) {
      const int64_t width = (heads + 2 * kv_heads) * dim;
      const Tensor angles = Uniform({rows, dim / 2}, 3.0);
      const Tensor cos = angles.cos();
      const Tensor sin = angles.sin();
      const Tensor slots = at::arange(2, 2 + rows, at::kLong);
      const Tensor cache = Stored({3, 4, kv_heads, dim});
      const auto expect = [&](const Tensor& q, const Tensor& keys, const Tensor& values,
                              const Tensor& exact_qkv, const Tensor& stored_qkv) {
        const auto exact = reference::RopeKv(exact_qkv, cos, sin, kv_heads, dim);
        const auto naive = reference::RopeKv(stored_qkv, cos, sin, kv_heads, dim);
        ExpectLikeNaive(q, exact.q, naive.q);
        const auto at_slots = [&](const Tensor& t) {
          return t.view({-1, kv_heads, dim}).slice(0, 2, 2 + rows);
        };
        ExpectLikeNaive(at_slots(keys), exact.k, naive.k);
        ExpectLikeNaive(at_slots(values), exact.v, naive.v);
        EXPECT_TRUE(keys.cpu()
                        .view({-1, kv_heads, dim})
                        .slice(0, 2 + rows)
                        .equal(cache.view({-1, kv_heads, dim}).slice(0, 2 + rows)));
      };
      Tensor keys = Put(cache);
      Tensor values = Put(cache);
      const Tensor qkv = Stored({rows, width});
      const Tensor q = RopeKv(Put(qkv), Put(cos), Put(sin), keys, values, Put(slots));
      expect(q, keys, values, qkv, qkv);

      const Tensor hidden = Uniform({rows, 64});
      const Tensor norm = Stored({64});
      const Tensor wqkv = Stored({width, 64});
      const Tensor exact = reference::Linear(reference::RmsNorm(hidden, norm, 1e-5), wqkv);
      const Tensor x = reference::RmsNorm(hidden, norm, 1e-5).to(GetParam());
      const LinearWeight weight = LinearWeight::Dense(Weight(wqkv));
      const Tensor on_device[] = {Put(hidden), Weight(norm), Put(cos), Put(sin), Put(slots)};
      const Tensor fused = NormQkvRope({.hidden = on_device[0],
                                        .norm = on_device[1],
                                        .eps = 1e-5,
                                        .wqkv = weight,
                                        .cos = on_device[2],
                                        .sin = on_device[3],
                                        .slots = on_device[4]},
                                       keys, values);
      expect(fused, keys, values, exact, reference::Linear(x, wqkv).to(GetParam()));
    }
  }
}

TEST_P(CudaOps, GateUpAndScores) {
  for (const auto& [rows, outputs, inputs] : kSizes) {
    if (inputs % 8 != 0) continue;  // the norm's rows
    const Tensor hidden = Uniform({rows, inputs});
    const Tensor norm = Stored({inputs});
    const Tensor w1 = Stored({outputs, inputs});
    const Tensor w3 = Stored({outputs, inputs});
    const Tensor exact_x = reference::RmsNorm(hidden, norm, 1e-5);
    const Tensor x = exact_x.to(GetParam());
    const bool separate = rows > 32 || (rows > 1 && inputs % 32 != 0);
    const auto product = [&](const Tensor& w) {
      const Tensor y = reference::Linear(x, w);
      return separate ? reference::Wide(y.to(GetParam())) : y;
    };
    if (outputs % 8 == 0) {
      ExpectLikeNaive(
          NormGateUp(Put(hidden), Weight(norm), 1e-5, LinearWeight::Dense(Weight(w1)),
                     LinearWeight::Dense(Weight(w3))),
          reference::SiluMul(reference::Linear(exact_x, w1), reference::Linear(exact_x, w3)),
          reference::SiluMul(product(w1), product(w3)));
      // In one piece of memory, w3 behind w1.
      const Tensor both = Weight(at::cat({w1, w3}, 1));
      ExpectLikeNaive(
          NormGateUp(Put(hidden), Weight(norm), 1e-5,
                     LinearWeight::Dense(both.narrow(1, 0, inputs)),
                     LinearWeight::Dense(both.narrow(1, inputs, inputs))),
          reference::SiluMul(reference::Linear(exact_x, w1), reference::Linear(exact_x, w3)),
          reference::SiluMul(product(w1), product(w3)));
    }
    Tensor scores = Put(at::zeros({rows, outputs}));
    NormScores_(scores, Put(hidden), Weight(norm), 1e-5, LinearWeight::Dense(Weight(w1)));
    ExpectLikeNaive(scores, reference::Linear(exact_x, w1), reference::Linear(x, w1));
  }
}

struct Slice {
  int64_t rows, position;
};

TEST_P(CudaOps, PagedAttention) {
  const std::vector<std::vector<Slice>> batches = {
      {},
      {{1, 70}},                            // one sequence decodes
      {{1, 3}, {1, 70}, {1, 0}},            // several do
      {{19, 0}, {1, 40}, {0, 0}, {5, 3}}};  // prompts among them
  for (const auto& [heads, kv_heads, dim] : kHeads) {
    for (const auto& slices : batches) {
      std::vector<int32_t> first, counts, positions;
      int64_t rows = 0;
      int64_t longest = 0;
      int64_t blocks = 1;
      int64_t widest = 1;
      for (const Slice& slice : slices) {
        first.push_back(static_cast<int32_t>(rows));
        counts.push_back(static_cast<int32_t>(slice.rows));
        positions.push_back(static_cast<int32_t>(slice.position));
        rows += slice.rows;
        longest = std::max(longest, slice.rows);
        const int64_t used = (slice.position + slice.rows + 15) / 16;
        widest = std::max(widest, used);
        blocks += used;
      }
      Tensor tables = at::full({static_cast<int64_t>(slices.size()), widest}, -1, at::kInt);
      int64_t next = blocks - 1;
      for (size_t s = 0; s < slices.size(); ++s) {
        for (int64_t i = 0; i * 16 < slices[s].position + slices[s].rows; ++i) {
          tables[static_cast<int64_t>(s)][i] = next--;
        }
      }
      const SequenceTable host{.first_rows = at::tensor(first, at::kInt),
                               .row_counts = at::tensor(counts, at::kInt),
                               .positions = at::tensor(positions, at::kInt),
                               .block_tables = tables,
                               .longest = longest};
      const SequenceTable table{.first_rows = Put(host.first_rows),
                                .row_counts = Put(host.row_counts),
                                .positions = Put(host.positions),
                                .block_tables = Put(host.block_tables),
                                .longest = longest};
      const Tensor q = Stored({rows, heads, dim}, 4.0);
      const Tensor k = Stored({blocks, 16, kv_heads, dim});
      const Tensor v = Stored({blocks, 16, kv_heads, dim});
      const Tensor out = PagedAttention(Put(q), Put(k), Put(v), table);
      const Tensor exact = reference::PagedAttention(q, k, v, host);
      ExpectLikeNaiveAttention(out, exact, v);
      const Tensor all = Put(Stored({rows, heads * dim + 16}));
      Tensor apart = all.narrow(1, 8, heads * dim);
      PagedAttentionInto_(apart, Put(q), Put(k), Put(v), table);
      ExpectLikeNaiveAttention(apart, exact.flatten(1), v);
    }
  }
}

TEST_P(CudaOps, VisionAttention) {
  for (const auto& shape :
       std::vector<std::vector<int64_t>>{{0, 5, 2, 64}, {1, 1, 1, 64}, {2, 67, 3, 64}}) {
    const Tensor q = Stored(shape, 4.0);
    const Tensor k = Stored(shape);
    const Tensor v = Stored(shape);
    const Tensor exact = reference::VisionAttention(q, k, v);
    ExpectLikeNaiveAttention(VisionAttention(Put(q), Put(k), Put(v)), exact, v);
    // As one product leaves them.
    const int64_t width = shape[2] * shape[3];
    const Tensor all = Put(at::cat({q.flatten(2), k.flatten(2), v.flatten(2)}, 2));
    const auto part = [&](int64_t i) { return all.narrow(2, i * width, width).view(shape); };
    ExpectLikeNaiveAttention(VisionAttention(part(0), part(1), part(2)), exact, v);
    if (q.numel() == 0 || shape[1] == 1) continue;
    ExpectInternalError([&] { VisionAttention(part(0), part(1), Put(v)); }, "equally far apart");
  }
}

TEST_P(CudaOps, PicturesBecomeRows) {
  const Tensor rgb = at::randint(256, {7, 11, 3}, at::kByte);
  const Tensor levels = Uniform({3, 256}, 2.0);
  const Tensor planes = NormalisePixels(rgb, levels);
  EXPECT_EQ(planes[2][6][10].item<float>(), levels[2][rgb[6][10][2].item<int64_t>()].item<float>());
  EXPECT_TRUE(NormalisePixels(Put(rgb), Put(levels)).cpu().equal(planes));

  for (const int64_t patch : {2, 14}) {  // neither's pixels are a multiple of 8 numbers
    for (const int64_t views : {1, 3}) {
      SCOPED_TRACE(testing::Message() << views << " views, patches of " << patch);
      const Tensor pixels = Uniform({views, 3, 4 * patch, 4 * patch}, 2.0);
      const Tensor patches = Stored({16, 3 * patch * patch});
      const Tensor classes = Stored({16}).to(at::kFloat);
      const Tensor positions = Stored({17, 16}).to(at::kFloat);
      const Tensor device_patches = Weight(patches);
      const Tensor device_classes = Put(classes);
      const Tensor device_positions = Put(positions);
      const Tensor hidden = EmbedViews(
          Put(pixels),
          {.patches = device_patches, .classes = device_classes, .positions = device_positions});
      EXPECT_EQ(hidden.scalar_type(), at::kFloat);
      const Tensor stored = pixels.to(GetParam());
      const Tensor magnitudes =
          reference::EmbedViews(stored.abs(), patches.abs(), classes.abs(), positions.abs());
      ExpectLikeNaive(hidden, reference::EmbedViews(pixels, patches, classes, positions),
                      reference::EmbedViews(stored, patches, classes, positions),
                      SumsOfTensorCores(patches.size(1), magnitudes));
      ExpectLikeNaive(DropClass(Put(pixels.view({1, -1, 16})), GetParam()),
                      reference::Wide(pixels).view({-1, 16}).slice(0, 1));
    }
  }
  // Copies: what the CPU's op gives, rounded once.
  const Tensor features = Uniform({1 + 2 * 3, 4 * 4 + 1, 8});
  const Tensor sub_gn = Stored({32}).to(at::kFloat);
  const Tensor glb_gn = Stored({32}).to(at::kFloat);
  const Tensor device_sub = Put(sub_gn);
  const Tensor device_glb = Put(glb_gn);
  const Tensor merged =
      MergeViews(Put(features), {.sub_gn = device_sub, .glb_gn = device_glb}, 2, 3, GetParam());
  EXPECT_TRUE(merged.cpu().equal(
      MergeViews(features, {.sub_gn = sub_gn, .glb_gn = glb_gn}, 2, 3, GetParam()).to(GetParam())));
  ASSERT_EQ(cuda_testing::TakeFault(), "");
}

TEST_P(CudaOps, RefusesWhatItHasNoKernelFor) {
  const Tensor x = Put(Stored({2, 64}));
  ExpectInternalError([&] { Linear(x, Put(Uniform({8, 64}))); }, "float16 and bfloat16");
  Tensor half = Put(Stored({2, 8}));
  ExpectInternalError([&] { Add_(half, half); }, "was expected");
  const Tensor odd = Put(Stored({1, 5, 2, 20}));
  ExpectInternalError([&] { VisionAttention(odd, odd, odd); }, "does not take these arguments");
  LinearWeight packed;
  packed.packing = WeightPacking::kGptq4;
  packed.data = Put(at::zeros({8, 8}, at::kInt));
  packed.scales = Put(at::zeros({1, 8}, at::kHalf));
  packed.zeros = Put(at::zeros({1, 1}, at::kInt));
  packed.group = 64;
  try {
    Linear(x, packed);
    ADD_FAILURE() << "a packed weight was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDevice);
    EXPECT_NE(std::string(error.what()).find("gptq4"), std::string::npos);
  }
}

/// A tensor of the host among those of the device: the kernel would read an address that is none.
TEST_P(CudaOps, AHostPointerInAKernelIsAFault) {
  if (!cuda_testing::IsEmulated()) GTEST_SKIP() << "would cost the process its GPU";
  const Tensor norm = Stored({8});
  EXPECT_THROW(RmsNorm(Put(Uniform({2, 8})), norm, 1e-5), Error);
  EXPECT_NE(cuda_testing::TakeFault().find("out of bounds"), std::string::npos);
}

}  // namespace
}  // namespace xcomposer::ops
