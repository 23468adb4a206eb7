// Attention on warpgroups, one of which is much slower than the others: in the emulator alone.
#include <vector>

#include "kernels/cuda/attention_prefill.h"
#include "kernels_cuda/kernel_test.h"
#include "support/emulator/runtime.h"

namespace xcomposer::cuda {
namespace {

constexpr int64_t kHeads = 2;
constexpr int64_t kDim = 64;

/// Of views whose last tile of rows gives two of three groups some, on one multiprocessor, where a
/// block takes all tiles.
std::vector<Half> Attend(int64_t views, int64_t rows, PrefillTiling tiling) {
  constexpr int64_t kWidth = kHeads * kDim;
  Context context = Ways()[0];
  context.multiprocessors = 1;
  const Array<Half> in(
      Random(3).Normal<Half>(static_cast<size_t>(views * rows * 3 * kWidth), 1.0f));
  const Array<Half> out(static_cast<size_t>(views * rows * kWidth));
  EXPECT_EQ(Finish(VisionAttention({.q = in.data(),
                                    .k = in.data() + kWidth,
                                    .v = in.data() + 2 * kWidth,
                                    .stride = 3 * kWidth,
                                    .out = out.data(),
                                    .views = views,
                                    .rows = rows,
                                    .heads = kHeads,
                                    .head_dim = kDim,
                                    .tiling = tiling},
                                   context)),
            "");
  return out.Read();
}

TEST(WarpgroupAttention, AnyGroupMayBeSlow) {
  for (const PrefillTiling tiling : {PrefillTiling::kWarpgroups, PrefillTiling::kThreeWarpgroups}) {
    for (const int64_t rows : {266, 193}) {
      emulator::SetSchedule({});
      const std::vector<Half> all = Attend(2, rows, tiling);
      for (const int group : {0, 1, 2, 3}) {
        emulator::SetSchedule({.lagging_warpgroup = group});
        EXPECT_TRUE(SameBits(all, Attend(2, rows, tiling)))
            << rows << " rows, group " << group << " of tiling " << static_cast<int>(tiling);
      }
    }
  }
  emulator::SetSchedule({});
}

}  // namespace
}  // namespace xcomposer::cuda
