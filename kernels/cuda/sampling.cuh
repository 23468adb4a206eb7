#pragma once

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/sampling.h"

namespace xcomposer::cuda {

// One block per row. Top-k, top-p and the draw are the same question: in some order of the ids,
// which is the first whose weight, added to those before it, exceeds a target? (Weights of 1 for
// top-k, probabilities for the others.) It is answered digit by digit with a histogram, without
// sorting.
//
// An id's place in the order is one 64-bit number: 8 bits of its score's distance from the largest
// score, 32 bits of the score itself, 24 bits of the id. The first digit says nothing that the
// second part does not, but spreads usual scores over many bins; of float bits alone the high digit
// is nearly the same for all, and all threads would wait for one bin.

constexpr int kSampleThreads = 512;
constexpr int kSampleWarps = kSampleThreads / 32;
constexpr int kSampleListed = 1024;  // candidates that are kept in shared memory

/// Philox 4x32-10 (Salmon et al. 2011), the words 0 and 1 that engine/counter_random.h takes.
XCOMPOSER_DEVICE double UniformAt(uint64_t seed, uint64_t step) {
  uint32_t c[4] = {static_cast<uint32_t>(step), static_cast<uint32_t>(step >> 32), 0, 0};
  uint32_t key0 = static_cast<uint32_t>(seed);
  uint32_t key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint32_t high0 = MultiplyHigh(0xD2511F53u, c[0]);
    const uint32_t low0 = 0xD2511F53u * c[0];
    const uint32_t high1 = MultiplyHigh(0xCD9E8D57u, c[2]);
    const uint32_t low1 = 0xCD9E8D57u * c[2];
    c[0] = high1 ^ c[1] ^ key0;
    c[1] = low1;
    c[2] = high0 ^ c[3] ^ key1;
    c[3] = low0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  const uint64_t bits = (uint64_t{c[1]} << 32 | c[0]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

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

struct SampleShared {
  Shared<uint64_t> bins;    // (256)
  Shared<uint64_t> warps;   // (warps): parts of a sum or a maximum over the block
  Shared<uint64_t> found;   // (3): a bin, what is left of the target, the bin's weight
  Shared<uint64_t> listed;  // (kSampleListed): places of the candidates
  Shared<int> listed_count;
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

/// The scores of one row, and which ids are still candidates.
struct Candidates {
  const float* logits;
  const uint32_t* seen;
  int vocab;
  float penalty;
  float temperature;
  float largest = 0.0f;  ///< score
  uint64_t lowest = 0;   ///< place: candidates are those from here on
  int listed = -1;       ///< how many lie in SampleShared::listed; -1: look at the whole vocabulary

  XCOMPOSER_DEVICE float Score(int id) const {
    float score = Load(logits + id);
    if ((Load(seen + id / 32) >> (id % 32) & 1) != 0) {
      score = score < 0.0f ? score * penalty : score / penalty;
    }
    return score / temperature;
  }

  /// Calls use(place) for this thread's share of the candidates.
  template <typename Use>
  XCOMPOSER_DEVICE void ForEach(const SampleShared& shared, const Use& use) const {
    if (listed >= 0) {
      for (int i = ThreadIndex(); i < listed; i += kSampleThreads) {
        const uint64_t place = shared.listed[i];
        if (place >= lowest) use(place);
      }
      return;
    }
    for (int id = ThreadIndex(); id < vocab; id += kSampleThreads) {
      const uint64_t place = PlaceOf(Score(id), largest, id);
      if (place >= lowest) use(place);
    }
  }

  /// exp(score - largest) in units of 2^-44.
  XCOMPOSER_DEVICE uint64_t Mass(uint64_t place) const {
    const float score = ScoreOf(static_cast<uint32_t>(place >> 24));
    return static_cast<uint64_t>(Exp(score - largest) * 0x1p44f);
  }
};

/// The bin where the sum of bins exceeds `target`, by the first warp; to shared.found.
XCOMPOSER_DEVICE void FindBin(const SampleShared& shared, uint64_t target) {
  uint64_t own = 0;
  for (int i = 0; i < 8; ++i) own += shared.bins[Lane() * 8 + i];
  uint64_t up_to = own;  // bins of this lane and those before
  XCOMPOSER_UNROLL
  for (int step = 1; step < 32; step *= 2) {
    const uint64_t before = ShuffleFrom(up_to, Lane() >= step ? Lane() - step : 0);
    if (Lane() >= step) up_to += before;
  }
  uint64_t below = up_to - own;
  if (target < below || target >= up_to) return;
  for (int i = 0; i < 8; ++i) {
    const uint64_t bin = shared.bins[Lane() * 8 + i];
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

/// Of order(place) ascending over all candidates, the first one whose weight, added to those before
/// it, exceeds `target`; only its high `digits` * 8 bits. The sum of all weights must exceed
/// `target`.
template <typename Order, typename Weight>
XCOMPOSER_DEVICE Selected Select(const Candidates& candidates, const SampleShared& shared,
                                 int digits, uint64_t target, const Order& order,
                                 const Weight& weight) {
  Selected found{0, target, 0};
  for (int digit = 0; digit < digits; ++digit) {
    const int shift = 56 - 8 * digit;
    for (int i = ThreadIndex(); i < 256; i += kSampleThreads) shared.bins[i] = uint64_t{0};
    SyncThreads();  // bins are empty before any thread fills them
    candidates.ForEach(shared, [&](uint64_t place) {
      const uint64_t ordered = order(place);
      if (digit > 0 && ordered >> (shift + 8) != found.order >> (shift + 8)) return;
      const uint64_t own = weight(place);
      if (own > 0) AtomicAdd(shared.bins, static_cast<int>(ordered >> shift & 255), own);
    });
    SyncThreads();  // bins are full before they are added up
    if (Warp() == 0) FindBin(shared, found.left);
    SyncThreads();  // the bin is found before it is read, and bins were read before they are
                    // emptied
    found.order |= static_cast<uint64_t>(shared.found[0]) << shift;
    found.left = shared.found[1];
    found.weight = shared.found[2];
  }
  return found;
}

/// Keeps the top_k largest scores and all that equal the last of them.
XCOMPOSER_DEVICE void KeepTopK(int top_k, const SampleShared& shared, Candidates& candidates) {
  if (top_k <= 0 || top_k >= candidates.vocab) return;
  const Selected last = Select(
      candidates, shared, 5, static_cast<uint64_t>(candidates.vocab - top_k),
      [](uint64_t place) { return place; }, [](uint64_t) { return uint64_t{1}; });
  candidates.lowest = last.order;
  if (ThreadIndex() == 0) shared.listed_count[0] = 0;
  SyncThreads();  // the list is empty before any thread adds to it
  candidates.ForEach(shared, [&](uint64_t place) {
    const int at = AtomicAdd(shared.listed_count, 0, 1);
    if (at < kSampleListed) shared.listed[at] = place;
  });
  SyncThreads();  // the list is whole before it is read
  // In whatever order the threads came: nothing that follows depends on it.
  const int count = shared.listed_count[0];
  if (count <= kSampleListed) candidates.listed = count;
}

XCOMPOSER_DEVICE uint64_t TotalMass(const Candidates& candidates, const SampleShared& shared) {
  uint64_t mass = 0;
  candidates.ForEach(shared, [&](uint64_t place) { mass += candidates.Mass(place); });
  return JoinBlock(mass, shared, [](uint64_t a, uint64_t b) { return a + b; });
}

/// By how much sums of masses may part from the engine's sums of probabilities. Both sides' exp
/// errs by less than one unit in the last place (2^-23); the engine rounds probabilities, their sum
/// and its partial sums to float32 (2^-24 each): together 5.5 * 2^-23 of the total. Here each mass
/// was rounded down to a unit.
XCOMPOSER_DEVICE uint64_t Doubt(uint64_t total, int vocab) {
  return (total >> 20) + static_cast<uint64_t>(vocab);
}

struct Kept {
  uint64_t total = 0;      ///< mass of all candidates
  uint64_t uncertain = 0;  ///< of those among them that the engine may have dropped
};

/// Drops the ids of lowest score whose masses add up to `dropped_mass` of the total, less what the
/// engine's sums may part from these.
XCOMPOSER_DEVICE Kept KeepTopP(float dropped_mass, uint64_t total, const SampleShared& shared,
                               Candidates& candidates) {
  const auto select = [&](uint64_t target) {
    return Select(
        candidates, shared, 8, target, [](uint64_t place) { return place; },
        [&](uint64_t place) { return candidates.Mass(place); });
  };
  const uint64_t doubt = Doubt(total, candidates.vocab);
  const auto wanted =
      static_cast<uint64_t>(static_cast<double>(dropped_mass) * static_cast<double>(total));
  const uint64_t border = wanted < total ? wanted : total - 1;
  const uint64_t above = border + doubt < total ? border + doubt : total - 1;
  const uint64_t below = border > doubt ? border - doubt : 0;
  const Selected first = select(below);
  candidates.lowest = first.order;
  const uint64_t kept = TotalMass(candidates, shared);
  if (first.left + (above - below) < first.weight) return {kept, 0};
  Candidates surely = candidates;
  surely.lowest = select(above).order;
  return {kept, kept - TotalMass(surely, shared)};
}

/// -1 where the draw falls so near to the border of two ids that rounding decides between them.
XCOMPOSER_DEVICE int Draw(const SamplingOptions& options, int64_t step, const SampleShared& shared,
                          Candidates& candidates) {
  KeepTopK(options.top_k, shared, candidates);
  Kept kept{TotalMass(candidates, shared), 0};
  if (options.dropped_mass > 0.0f) {
    kept = KeepTopP(options.dropped_mass, kept.total, shared, candidates);
  }
  const double uniform = UniformAt(options.seed, static_cast<uint64_t>(step));
  const auto target = static_cast<uint64_t>(uniform * static_cast<double>(kept.total));
  // By id, as the engine draws. The ids' own bits go first, so that they spread over many bins.
  int shift = 63;
  while (shift > 40 && static_cast<int64_t>(candidates.vocab - 1) >> (64 - shift) != 0) --shift;
  const Selected chosen = Select(
      candidates, shared, 3, target < kept.total ? target : kept.total - 1,
      [shift](uint64_t place) { return (place & 0xFFFFFFu) << shift; },
      [&](uint64_t place) { return candidates.Mass(place); });
  // Without a mass u of a total t all sums relative to the total move by u / (t - u) at most: by
  // 2 u / t, unless u is more than half, and then no id is as far from its borders as is asked
  // here.
  const uint64_t doubt = Doubt(kept.total, candidates.vocab) + 2 * kept.uncertain;
  if (chosen.left < doubt || chosen.weight - chosen.left <= doubt) return -1;
  return static_cast<int>(chosen.order >> shift);
}

template <int kThreads>
__global__ void __launch_bounds__(kThreads, 1) SampleKernel(SampleParams p) {
  GridDependencyLaunch();
  GridDependencyWait();
  SharedArena arena;
  const SampleShared shared{arena.Take<uint64_t>(256), arena.Take<uint64_t>(kSampleWarps),
                            arena.Take<uint64_t>(3), arena.Take<uint64_t>(kSampleListed),
                            arena.Take<int>(1)};
  const int64_t row = BlockX();
  const int vocab = static_cast<int>(p.vocab);
  const SamplingOptions options = Load(p.options + row);
  uint32_t* seen = p.seen + row * ((p.vocab + 31) / 32);
  Candidates candidates{p.logits + row * p.vocab, seen, vocab, options.repetition_penalty,
                        options.do_sample != 0 ? options.temperature : 1.0f};
  // The largest score, of equal ones the smallest id; and whether all scores are finite numbers.
  uint64_t best = 0;
  uint64_t broken = 0;
  for (int id = ThreadIndex(); id < vocab; id += kThreads) {
    const float score = candidates.Score(id);
    if (!(score - score == 0.0f)) broken = 1;
    const uint64_t place = uint64_t{KeyOf(score)} << 24 | static_cast<uint32_t>(0xFFFFFF - id);
    best = place > best ? place : best;
  }
  best = BlockMaximum(best, shared);
  broken = BlockMaximum(broken, shared);
  const int64_t step = Load(p.steps + row);
  int id = 0xFFFFFF - static_cast<int>(best & 0xFFFFFF);
  candidates.largest = ScoreOf(static_cast<uint32_t>(best >> 24));
  if (broken != 0) {
    id = -1;
  } else if (options.do_sample != 0) {
    id = Draw(options, step, shared, candidates);
  }
  SyncThreads();  // all threads have read what thread 0 now changes
  if (ThreadIndex() != 0) return;
  Store(p.ids + row, id);
  Store(p.steps + row, step + 1);
  if (id >= 0) Store(seen + id / 32, Load(seen + id / 32) | 1u << (id % 32));
}

}  // namespace xcomposer::cuda
