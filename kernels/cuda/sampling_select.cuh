#pragma once

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/sampling.h"

namespace xcomposer::cuda {

// Top-k, top-p and the draw are the same question: in some order of the ids, which is the first
// whose weight, added to those before it, exceeds a target? (Weights of 1 for top-k, probabilities
// for the others.) Of many ids it is answered digit by digit with a histogram, without sorting; of
// few by a thread for each, which adds up all that come before its own.
//
// An id's place in the order is one 64-bit number: 8 bits of its score's distance from the largest
// score, 32 bits of the score itself, 24 bits of the id. The first digit says nothing that the
// second part does not, but spreads usual scores over many bins; of float bits alone the high digit
// is nearly the same for all, and all threads would wait for one bin.

constexpr int kSampleThreads = 256;
constexpr int kSampleWarps = kSampleThreads / 32;
constexpr int kSampleOwn = 8;  // ids of a thread's own
constexpr int kSampleSlice = kSampleThreads * kSampleOwn;
constexpr int kSampleOffers = 128;     // ids that one block may offer for the choice
constexpr int kSampleGathered = 6144;  // offered ids of all blocks, in shared memory
constexpr int kSampleListed = 1024;    // candidates that are kept in shared memory
constexpr int kSampleFew = 256;        // of which a thread for each finds the answer

/// Larger for larger scores.
XCOMPOSER_DEVICE uint32_t KeyOf(float score) {
  const uint32_t bits = score == 0.0f ? 0u : BitsOf(score);  // 0 and -0 are equal
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
XCOMPOSER_DEVICE float ScoreOf(uint32_t key) {
  return FloatOf((key & 0x80000000u) != 0 ? key & 0x7FFFFFFFu : ~key);
}

/// An id's place: ascending by score, then by id.
XCOMPOSER_DEVICE uint64_t PlaceOf(float score, float largest, int id) {
  const float distance = (largest - score) * 8.0f;
  const uint64_t near = distance < 255.0f ? 255 - static_cast<int>(distance) : 0;
  return near << 56 | uint64_t{KeyOf(score)} << 24 | static_cast<uint32_t>(id);
}

/// What the threads of a block share.
struct SampleShared {
  Shared<uint64_t> bins;      // (256)
  Shared<int> counts;         // (256): bins of weights of 1
  Shared<uint64_t> warps;     // (warps): parts of a sum or a maximum over the block
  Shared<uint64_t> found;     // (3): an order, what is left of the target, the weight there
  Shared<uint64_t> gathered;  // (kSampleGathered): places of the ids that blocks offer
  Shared<uint64_t> listed;    // (kSampleListed): places of the candidates
  Shared<uint64_t> weights;   // (kSampleFew): theirs
  Shared<int> count;          // (1)
};

template <typename Join>
XCOMPOSER_DEVICE uint64_t JoinBlock(uint64_t value, const SampleShared& shared, const Join& join) {
  XCOMPOSER_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) value = join(value, ShuffleXor(value, mask));
  SyncThreads();  // the numbers of an earlier call were read
  if (Lane() == 0) shared.warps[Warp()] = value;
  SyncThreads();  // all warps' numbers are there
  value = shared.warps[0];
  for (int w = 1; w < kSampleWarps; ++w) value = join(value, shared.warps[w]);
  return value;
}
XCOMPOSER_DEVICE uint64_t BlockMaximum(uint64_t value, const SampleShared& shared) {
  return JoinBlock(value, shared, [](uint64_t a, uint64_t b) { return a > b ? a : b; });
}
XCOMPOSER_DEVICE uint64_t BlockSum(uint64_t value, const SampleShared& shared) {
  return JoinBlock(value, shared, [](uint64_t a, uint64_t b) { return a + b; });
}

/// The bin where the sum of bins exceeds `target`, by the first warp; to shared.found.
template <typename Bin>
XCOMPOSER_DEVICE void FindBin(const Shared<Bin>& bins, const SampleShared& shared,
                              uint64_t target) {
  uint64_t own = 0;
  for (int i = 0; i < 8; ++i) own += static_cast<uint64_t>(static_cast<Bin>(bins[Lane() * 8 + i]));
  uint64_t up_to = own;  // bins of this lane and those before
  XCOMPOSER_UNROLL
  for (int step = 1; step < 32; step *= 2) {
    const uint64_t before = ShuffleFrom(up_to, Lane() >= step ? Lane() - step : 0);
    if (Lane() >= step) up_to += before;
  }
  uint64_t below = up_to - own;
  if (target < below || target >= up_to) return;
  for (int i = 0; i < 8; ++i) {
    const auto bin = static_cast<uint64_t>(static_cast<Bin>(bins[Lane() * 8 + i]));
    if (target < below + bin) {
      shared.found[0] = static_cast<uint64_t>(Lane() * 8 + i);
      shared.found[1] = target - below;
      shared.found[2] = bin;
      return;
    }
    below += bin;
  }
}

/// Where a target falls among weights.
struct Selected {
  uint64_t order = 0;   ///< of the candidates there
  uint64_t left = 0;    ///< of the target, beyond the weights before them
  uint64_t weight = 0;  ///< of them all; more than `left`
};

/// Of order(place) ascending over all of `source`, the first one whose weight, added to those
/// before it, exceeds `target`; only its high `digits` * 8 bits, and fewer where no more than
/// `enough` of the target are left after them. The sum of all weights must exceed `target`.
template <typename Bin, typename Source, typename Order, typename Weight>
XCOMPOSER_DEVICE Selected SelectByDigits(const Source& source, const SampleShared& shared,
                                         const Shared<Bin>& bins, int digits, uint64_t target,
                                         int64_t enough, const Order& order, const Weight& weight) {
  Selected found{0, target, 0};
  for (int digit = 0; digit < digits; ++digit) {
    const int shift = 56 - 8 * digit;
    for (int i = ThreadIndex(); i < 256; i += kSampleThreads) bins[i] = Bin{0};
    SyncThreads();  // bins are empty before any thread fills them
    source.ForEach([&](uint64_t place) {
      const uint64_t ordered = order(place);
      if (digit > 0 && ordered >> (shift + 8) != found.order >> (shift + 8)) return;
      const Bin own = weight(place);
      if (own > 0) AtomicAdd(bins, static_cast<int>(ordered >> shift & 255), own);
    });
    SyncThreads();  // bins are full before they are added up
    if (Warp() == 0) FindBin(bins, shared, found.left);
    SyncThreads();  // the bin is found before it is read, and bins were read before they are
                    // emptied
    found.order |= static_cast<uint64_t>(shared.found[0]) << shift;
    found.left = shared.found[1];
    found.weight = shared.found[2];
    if (static_cast<int64_t>(found.left) <= enough) break;
  }
  return found;
}

/// Of places alone, each of weight 1.
template <typename Source>
XCOMPOSER_DEVICE Selected SelectPlace(const Source& source, const SampleShared& shared,
                                      uint64_t target, int64_t enough = -1) {
  return SelectByDigits(
      source, shared, shared.counts, 5, target, enough, [](uint64_t place) { return place; },
      [](uint64_t) { return 1; });
}

/// The first `count` places of shared.gathered.
struct GatheredPlaces {
  const SampleShared& shared;
  int count;

  template <typename Use>
  XCOMPOSER_DEVICE void ForEach(const Use& use) const {
    for (int i = ThreadIndex(); i < count; i += kSampleThreads) use(shared.gathered[i]);
  }
};

/// The first `count` places of shared.listed.
struct ListedPlaces {
  const SampleShared& shared;
  int count;

  template <typename Use>
  XCOMPOSER_DEVICE void ForEach(const Use& use) const {
    for (int i = ThreadIndex(); i < count; i += kSampleThreads) use(shared.listed[i]);
  }

  /// As SelectByDigits, if there are no more than kSampleFew and no two of one order.
  template <typename Order, typename Weight>
  XCOMPOSER_DEVICE Selected SelectOfFew(uint64_t target, const Order& order,
                                        const Weight& weight) const {
    const int own = ThreadIndex();
    if (own < count) shared.weights[own] = weight(shared.listed[own]);
    SyncThreads();  // all weights are there, and what was found before was read
    if (own < count) {
      const uint64_t place = order(shared.listed[own]);
      const uint64_t mine = shared.weights[own];
      uint64_t below = 0;
      for (int i = 0; i < count; ++i) {
        const uint64_t other = shared.weights[i];
        below += order(shared.listed[i]) < place ? other : 0;
      }
      if (target >= below && target - below < mine) {
        shared.found[0] = place;
        shared.found[1] = target - below;
        shared.found[2] = mine;
      }
    }
    SyncThreads();  // it is found before it is read, and weights were read before they change
    return {shared.found[0], shared.found[1], shared.found[2]};
  }
};

}  // namespace xcomposer::cuda
