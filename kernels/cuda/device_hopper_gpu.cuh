#pragma once

#include "kernels/cuda/device_gpu.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define XCOMPOSER_WARPGROUP_PRODUCTS
#endif

namespace xcomposer::cuda {

// --- barriers in shared memory (mbarrier)
// ------------------------------------------------------------
/// A barrier's phase ends with `arrivals` arrivals, and the next one begins. Other threads may use
/// it after SyncThreads.
XCOMPOSER_DEVICE void BarrierInit(const Shared<uint64_t>& barriers, int index, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(barriers, index)),
               "r"(arrivals)
               : "memory");
}
/// What this thread did before is seen by those that wait for the phase.
XCOMPOSER_DEVICE void BarrierArrive(const Shared<uint64_t>& barriers, int index) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(barriers, index))
               : "memory");
}
/// Arrives when this thread's copies (CopyAsync16) so far have ended, without waiting for them;
/// those that wait for the phase see what they wrote.
XCOMPOSER_DEVICE void BarrierArriveAfterCopies(const Shared<uint64_t>& barriers, int index) {
  asm volatile(
      "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(SharedAddress(barriers, index))
      : "memory");
}
/// Returns when the phase of this parity has ended: of the first phase it is 0, and of the one that
/// was before it, which has ended, 1.
XCOMPOSER_DEVICE void BarrierWait(const Shared<uint64_t>& barriers, int index, int parity) {
  uint32_t ended;
  do {
    asm volatile(
        "{\n"
        ".reg .pred ended;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2;\n"
        "selp.u32 %0, 1, 0, ended;\n"
        "}"
        : "=r"(ended)
        : "r"(SharedAddress(barriers, index)), "r"(parity)
        : "memory");
  } while (ended == 0);
}

// --- bulk copies
// ------------------------------------------------------------------------------------
/// Barriers that this thread made are there for copies too.
XCOMPOSER_DEVICE void BarriersReady() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
/// Arrives, and keeps the phase from ending before copies have brought `bytes` more.
XCOMPOSER_DEVICE void BarrierArriveExpecting(const Shared<uint64_t>& barriers, int index,
                                             int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                   SharedAddress(barriers, index)),
               "r"(bytes)
               : "memory");
}
/// One thread copies `bytes` (a multiple of 16, to and from multiples of 16) for all that wait for
/// the phase of a barrier that expects them. For what is read once, weights: it is the first to
/// leave the level-2 cache.
template <typename V>
XCOMPOSER_DEVICE void CopyBulkStream(const Shared<V>& shared, int index, const V* global, int bytes,
                                     const Shared<uint64_t>& barriers, int barrier) {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0;" : "=l"(policy));
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1], %2, [%3], %4;" ::"r"(SharedAddress(shared, index)),
      "l"(global), "r"(bytes), "r"(SharedAddress(barriers, barrier)), "l"(policy)
      : "memory");
}

// --- barriers of some of a block's warps: 1 .. 15, each of `threads` threads in all
// ------------------------------------------------------------------------------------
/// What any of them did before, those that waited may see after.
XCOMPOSER_DEVICE void NamedBarrierSync(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
/// Counts without waiting.
XCOMPOSER_DEVICE void NamedBarrierArrive(int barrier, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// --- products of warpgroups (wgmma): called by all 128 threads
// -----------------------------------------------------------------------
/// What was written to shared memory before, by this thread or seen by it, will be seen by products
/// of those that see what this thread does next.
XCOMPOSER_DEVICE void ProductFence() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
/// Before products that use registers which anything else has used.
XCOMPOSER_DEVICE void WarpgroupFence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
/// Makes one group of the products since the last call.
XCOMPOSER_DEVICE void CommitProducts() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits for all groups but the newest kPending; `d`, which one of those that ended has added up,
/// may be used. Until then nothing may touch it, nor registers that are factors.
template <int kPending, int kCount>
XCOMPOSER_DEVICE void WaitProducts(float (&d)[kCount]) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
  // Nothing that reads them may be moved before the wait.
  XCOMPOSER_UNROLL
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

/// The compiler moves waits for products up, before arithmetic that was meant to be done while they
/// run; but not past this, which is executed when `x`, a number that is not negative, is known.
XCOMPOSER_DEVICE void HoldWaits(float x) {
  asm volatile(
      "{\n"
      ".reg .pred never;\n"
      "setp.lt.f32 never, %0, 0f00000000;\n"
      "@never membar.cta;\n"
      "}" ::"f"(x)
      : "memory");
}

/// x, of which the compiler does not know that it was there before: what follows from it is
/// computed here, and not kept in registers through the loop around it.
XCOMPOSER_DEVICE int Anew(int x) {
  asm volatile("" : "+r"(x));
  return x;
}

// Lists of 32 and 64 registers for the text and the operands of an asm statement.
#define XCOMPOSER_NAMES_32                                                 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define XCOMPOSER_NAMES_64                                                        \
  XCOMPOSER_NAMES_32                                                              \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, " \
  "%47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define XCOMPOSER_SUMS_4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define XCOMPOSER_SUMS_16(d, i)                                                   \
  XCOMPOSER_SUMS_4(d, i), XCOMPOSER_SUMS_4(d, i + 4), XCOMPOSER_SUMS_4(d, i + 8), \
      XCOMPOSER_SUMS_4(d, i + 12)
#define XCOMPOSER_SUMS_32(d) XCOMPOSER_SUMS_16(d, 0), XCOMPOSER_SUMS_16(d, 16)
#define XCOMPOSER_SUMS_64(d) \
  XCOMPOSER_SUMS_32(d), XCOMPOSER_SUMS_16(d, 32), XCOMPOSER_SUMS_16(d, 48)

// The operands after the sums: whether to add, negations (none), majors: 0 along K, 1 along N.
#define XCOMPOSER_PRODUCT_SHARED(columns, type, names, sums, a_name, b_name, add_name)         \
  asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, " add_name                                \
               ", 0;\n"                                                                        \
               "wgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type " {" names \
               "}, " a_name ", " b_name ", add, 1, 1, 0, 0;\n}"                                \
               : sums                                                                          \
               : "l"(a), "l"(b), "n"(kAdd ? 1 : 0)                                             \
               : "memory")
#define XCOMPOSER_PRODUCT_REGISTERS(columns, type, names, sums, a_names, b_name)               \
  asm volatile("wgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type " {" names \
               "}, {" a_names "}, " b_name ", 1, 1, 1, 1;"                                     \
               : sums                                                                          \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)                            \
               : "memory")

/// wgmma m64nNk16, N = 2 kCount: begins d (64 x N) = a (64 x 16) b (16 x N), or += if kAdd. Rows of
/// a, and columns of b, lie in shared memory as rows of 16 numbers, each matrix in panels
/// (PanelDescriptor). Warp w of the group holds rows 16 w to 16 w + 15 of d; with g = lane / 4 and
/// t = lane % 4 a lane holds of columns 8 n + 2t and 8 n + 2t + 1: row g (d[4n], d[4n + 1]) and
/// g + 8 (d[4n + 2], d[4n + 3]).
template <typename T, bool kAdd, int kCount>
XCOMPOSER_DEVICE void WarpgroupMultiply(float (&d)[kCount], uint64_t a, uint64_t b) {
  static_assert(kCount == 32 || kCount == 64);
  constexpr bool kHalf = sizeof(T) == 2 && __is_same(T, Half);
  if constexpr (kCount == 64 && kHalf) {
    XCOMPOSER_PRODUCT_SHARED("128", "f16", XCOMPOSER_NAMES_64, XCOMPOSER_SUMS_64(d), "%64", "%65",
                             "%66");
  } else if constexpr (kCount == 64) {
    XCOMPOSER_PRODUCT_SHARED("128", "bf16", XCOMPOSER_NAMES_64, XCOMPOSER_SUMS_64(d), "%64", "%65",
                             "%66");
  } else if constexpr (kHalf) {
    XCOMPOSER_PRODUCT_SHARED("64", "f16", XCOMPOSER_NAMES_32, XCOMPOSER_SUMS_32(d), "%32", "%33",
                             "%34");
  } else {
    XCOMPOSER_PRODUCT_SHARED("64", "bf16", XCOMPOSER_NAMES_32, XCOMPOSER_SUMS_32(d), "%32", "%33",
                             "%34");
  }
}

/// The same, adding up, with a in registers, each warp's 16 rows as mma.sync has them (see
/// MultiplyAdd), and the rows of b in shared memory as rows of N numbers.
template <typename T, int kCount>
XCOMPOSER_DEVICE void WarpgroupMultiplyRows(float (&d)[kCount], const uint32_t (&a)[4],
                                            uint64_t b) {
  static_assert(kCount == 32 || kCount == 64);
  constexpr bool kHalf = __is_same(T, Half);
  if constexpr (kCount == 64 && kHalf) {
    XCOMPOSER_PRODUCT_REGISTERS("128", "f16", XCOMPOSER_NAMES_64, XCOMPOSER_SUMS_64(d),
                                "%64, %65, %66, %67", "%68");
  } else if constexpr (kCount == 64) {
    XCOMPOSER_PRODUCT_REGISTERS("128", "bf16", XCOMPOSER_NAMES_64, XCOMPOSER_SUMS_64(d),
                                "%64, %65, %66, %67", "%68");
  } else if constexpr (kHalf) {
    XCOMPOSER_PRODUCT_REGISTERS("64", "f16", XCOMPOSER_NAMES_32, XCOMPOSER_SUMS_32(d),
                                "%32, %33, %34, %35", "%36");
  } else {
    XCOMPOSER_PRODUCT_REGISTERS("64", "bf16", XCOMPOSER_NAMES_32, XCOMPOSER_SUMS_32(d),
                                "%32, %33, %34, %35", "%36");
  }
}

#undef XCOMPOSER_PRODUCT_REGISTERS
#undef XCOMPOSER_PRODUCT_SHARED
#undef XCOMPOSER_SUMS_64
#undef XCOMPOSER_SUMS_32
#undef XCOMPOSER_SUMS_16
#undef XCOMPOSER_SUMS_4
#undef XCOMPOSER_NAMES_64
#undef XCOMPOSER_NAMES_32

// --- registers: called by all threads of a warpgroup
// ------------------------------------------------------------------------------
/// Gives up registers but for so many of each thread, or waits until there are so many.
template <int kRegisters>
XCOMPOSER_DEVICE void GiveUpRegisters() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
XCOMPOSER_DEVICE void TakeRegisters() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace xcomposer::cuda
