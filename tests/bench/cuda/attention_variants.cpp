#include "bench/cuda/attention_variants.h"

#include <vector>

namespace xcomposer::cuda {
namespace {

struct NamedTiling {
  PrefillTiling tiling;
  const char* name;
};
constexpr NamedTiling kTilings[] = {{PrefillTiling::kBySize, "chosen"},
                                    {PrefillTiling::kWarpgroups, "warpgroups"},
                                    {PrefillTiling::kThreeWarpgroups, "warpgroups3"},
                                    {PrefillTiling::k128Rows, "rows128"},
                                    {PrefillTiling::k64Rows, "rows64"}};

}  // namespace

void AttentionVariants::Measure() {
  for (const int64_t rows : {8201, 1289, 2048, 512}) MeasureCausal(rows);
  MeasureViews(56, 577);
  MeasureViews(1, 1226);
}

void AttentionVariants::MeasureCausal(int64_t rows) {
  const std::string name = "variant.attention.causal." + std::to_string(rows);
  figures_.Group(name, [&] {
    DeviceMemory memory(fill_);
    const KvCache cache(shape_, 1, rows, memory);
    const HeadShape& heads = shape_.heads;
    const void* q = memory.RandomStored(rows * shape_.mixed(), 1.0f);
    void* out = memory.Stored(rows * shape_.mixed());
    const int32_t* zero = memory.Written(std::vector<int32_t>{0});
    const int32_t* count = memory.Written(std::vector<int32_t>{static_cast<int32_t>(rows)});
    const auto number = static_cast<double>(rows);
    const double pairs = number * (number + 1) / 2;  // of row and key that it sees
    Give(name, 4 * pairs * static_cast<double>(shape_.mixed()), heads.head_dim,
         [&](int64_t layer, PrefillTiling tiling) {
           Require(PrefillAttention({.q = q,
                                     .cache = cache.Layer(layer),
                                     .first_rows = zero,
                                     .row_counts = count,
                                     .positions = zero,
                                     .sequences = 1,
                                     .rows = rows,
                                     .shape = heads,
                                     .out = out,
                                     .tiling = tiling},
                                    timer_.context()),
                   "PrefillAttention");
         });
  });
}

void AttentionVariants::MeasureViews(int64_t views, int64_t rows) {
  constexpr int64_t kHeads = 16;
  constexpr int64_t kHeadDim = 64;
  constexpr int64_t kWidth = kHeads * kHeadDim;
  const std::string name =
      "variant.attention.views." + std::to_string(views) + "x" + std::to_string(rows);
  figures_.Group(name, [&] {
    DeviceMemory memory(fill_);
    const void* qkv = memory.RandomStored(views * rows * 3 * kWidth, 1.0f);
    void* out = memory.Stored(views * rows * kWidth);
    Give(name, 4.0 * static_cast<double>(views * rows * rows * kWidth), kHeadDim,
         [&](int64_t, PrefillTiling tiling) {
           Require(VisionAttention({.q = qkv,
                                    .k = Behind(qkv, kWidth),
                                    .v = Behind(qkv, 2 * kWidth),
                                    .stride = 3 * kWidth,
                                    .out = out,
                                    .views = views,
                                    .rows = rows,
                                    .heads = kHeads,
                                    .head_dim = kHeadDim,
                                    .tiling = tiling},
                                   timer_.context()),
                   "VisionAttention");
         });
  });
}

void AttentionVariants::Give(const std::string& name, double flops, int64_t head_dim,
                             const std::function<void(int64_t, PrefillTiling)>& layer) {
  for (const NamedTiling& variant : kTilings) {
    const bool warpgroups = variant.tiling >= PrefillTiling::kWarpgroups;
    if (warpgroups && !timer_.context().warpgroup_products) continue;
    if (variant.tiling == PrefillTiling::kThreeWarpgroups && head_dim != 64) continue;
    const Timing timing = timer_.Measure(
        [&] {
          for (int64_t l = 0; l < shape_.layers; ++l) layer(l, variant.tiling);
        },
        {.least_runs = 5, .most_runs = 20, .budget_s = 0.1, .warm_up_s = 0.02});
    figures_.Give(name + "." + variant.name, timing.Part(static_cast<double>(shape_.layers)),
                  {.flops = flops});
  }
}

}  // namespace xcomposer::cuda
