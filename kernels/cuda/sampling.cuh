#pragma once

#include "kernels/cuda/sampling_select.cuh"

namespace xcomposer::cuda {

// Each block takes a slice of one row's ids. It leaves the largest score, and where top-k is a
// small number so many of its best ids that none of the row's best is missing. The last block of a
// row chooses: the largest of the largest, or a draw among what was offered. Where nothing was
// offered, or too much, it looks at the whole vocabulary again.

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

/// What a block leaves for the last one of its row, as 64-bit words.
struct SampleRecord {
  static constexpr int kBest = 0;    // key, then 0xFFFFFF - id; all ones if a score is no number
  static constexpr int kCount = 1;   // of offers; -1: none were made, or not all that count
  static constexpr int kOffers = 2;  // key, then id, of each
  static constexpr int kWords = kOffers + kSampleOffers;
};

/// The scores of one row.
struct RowScores {
  const float* logits;
  const uint32_t* seen;
  int vocab;
  float penalty;
  float temperature;

  /// Of ids first + i * stride, all loads before the first division; past the end the last id's.
  template <int kCount>
  XCOMPOSER_DEVICE void Read(int first, int stride, float (&scores)[kCount]) const {
    uint32_t marks[kCount];
    XCOMPOSER_UNROLL
    for (int i = 0; i < kCount; ++i) {
      const int id = Min(first + i * stride, vocab - 1);
      scores[i] = Load(logits + id);
      marks[i] = Load(seen + id / 32) >> (id % 32) & 1;
    }
    XCOMPOSER_UNROLL
    for (int i = 0; i < kCount; ++i) {
      if (marks[i] != 0) scores[i] = scores[i] < 0.0f ? scores[i] * penalty : scores[i] / penalty;
      scores[i] = scores[i] / temperature;
    }
  }
};

/// A thread's own ids of its block's slice: first, first + kSampleThreads, ...
struct SlicePlaces {
  const float (&scores)[kSampleOwn];
  int first;
  int vocab;
  float largest;

  template <typename Use>
  XCOMPOSER_DEVICE void ForEach(const Use& use) const {
    XCOMPOSER_UNROLL
    for (int i = 0; i < kSampleOwn; ++i) {
      const int id = first + i * kSampleThreads;
      if (id < vocab) use(PlaceOf(scores[i], largest, id));
    }
  }
};

/// Which ids are still candidates: those listed, or all of the vocabulary, from a place on.
struct Candidates {
  RowScores scores;
  float largest = 0.0f;
  uint64_t lowest = 0;  ///< place: candidates are those from here on
  int listed = -1;      ///< how many lie in SampleShared::listed; -1: look at the whole vocabulary
  const SampleShared& shared;

  /// Calls use(place) for this thread's share.
  template <typename Use>
  XCOMPOSER_DEVICE void ForEach(const Use& use) const {
    if (listed >= 0) {
      ListedPlaces{shared, listed}.ForEach([&](uint64_t place) {
        if (place >= lowest) use(place);
      });
      return;
    }
    constexpr int kAtOnce = 4;
    for (int first = ThreadIndex(); first < scores.vocab; first += kAtOnce * kSampleThreads) {
      float some[kAtOnce];
      scores.Read(first, kSampleThreads, some);
      XCOMPOSER_UNROLL
      for (int i = 0; i < kAtOnce; ++i) {
        const int id = first + i * kSampleThreads;
        const uint64_t place = PlaceOf(some[i], largest, id);
        if (id < scores.vocab && place >= lowest) use(place);
      }
    }
  }

  /// exp(score - largest) in units of 2^-44.
  XCOMPOSER_DEVICE uint64_t Mass(uint64_t place) const {
    const float score = ScoreOf(static_cast<uint32_t>(place >> 24));
    return static_cast<uint64_t>(Exp(score - largest) * 0x1p44f);
  }

  XCOMPOSER_DEVICE uint64_t TotalMass() const {
    uint64_t mass = 0;
    ForEach([&](uint64_t place) { mass += Mass(place); });
    return BlockSum(mass, shared);
  }

  /// Among masses, by an order of places in which no two are equal.
  template <typename Order>
  XCOMPOSER_DEVICE Selected Select(int digits, uint64_t target, const Order& order) const {
    const auto mass = [this](uint64_t place) { return place >= lowest ? Mass(place) : 0; };
    if (listed >= 0 && listed <= kSampleFew) {
      return ListedPlaces{shared, listed}.SelectOfFew(target, order, mass);
    }
    return SelectByDigits(*this, shared, shared.bins, digits, target, -1, order, mass);
  }

  /// Keeps the top_k largest scores of `source`, which holds `count` places, and all that equal the
  /// last of them.
  template <typename Source>
  XCOMPOSER_DEVICE void KeepTopK(int top_k, const Source& source, int count) {
    lowest = SelectPlace(source, shared, static_cast<uint64_t>(count - top_k)).order;
    if (ThreadIndex() == 0) shared.count[0] = 0;
    SyncThreads();  // the list is empty before any thread adds to it
    source.ForEach([&](uint64_t place) {
      if (place < lowest) return;
      const int at = AtomicAdd(shared.count, 0, 1);
      if (at < kSampleListed) shared.listed[at] = place;
    });
    SyncThreads();  // the list is whole before it is read
    // In whatever order the threads came: nothing that follows depends on it.
    const int kept = shared.count[0];
    if (kept <= kSampleListed) listed = kept;
  }
};

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
XCOMPOSER_DEVICE Kept KeepTopP(float dropped_mass, uint64_t total, Candidates& candidates) {
  const auto select = [&](uint64_t target) {
    return candidates.Select(8, target, [](uint64_t place) { return place; });
  };
  const uint64_t doubt = Doubt(total, candidates.scores.vocab);
  const auto wanted =
      static_cast<uint64_t>(static_cast<double>(dropped_mass) * static_cast<double>(total));
  const uint64_t border = wanted < total ? wanted : total - 1;
  const uint64_t above = border + doubt < total ? border + doubt : total - 1;
  const uint64_t below = border > doubt ? border - doubt : 0;
  const Selected first = select(below);
  const bool sure = first.left + (above - below) < first.weight;
  const uint64_t surely_lowest = sure ? first.order : select(above).order;
  candidates.lowest = first.order;
  const uint64_t kept = candidates.TotalMass();
  if (sure) return {kept, 0};
  Candidates surely = candidates;
  surely.lowest = surely_lowest;
  return {kept, kept - surely.TotalMass()};
}

/// -1 where the draw falls so near to the border of two ids that rounding decides between them.
XCOMPOSER_DEVICE int Draw(const SamplingOptions& options, int64_t step, Candidates& candidates) {
  const int vocab = candidates.scores.vocab;
  Kept kept{candidates.TotalMass(), 0};
  if (options.dropped_mass > 0.0f) {
    kept = KeepTopP(options.dropped_mass, kept.total, candidates);
  }
  const double uniform = UniformAt(options.seed, static_cast<uint64_t>(step));
  const auto target = static_cast<uint64_t>(uniform * static_cast<double>(kept.total));
  // By id, as the engine draws. The ids' own bits go first, so that they spread over many bins.
  int shift = 63;
  while (shift > 40 && static_cast<int64_t>(vocab - 1) >> (64 - shift) != 0) --shift;
  const Selected chosen =
      candidates.Select(3, target < kept.total ? target : kept.total - 1,
                        [shift](uint64_t place) { return (place & 0xFFFFFFu) << shift; });
  // Without a mass u of a total t all sums relative to the total move by u / (t - u) at most: by
  // 2 u / t, unless u is more than half, and then no id is as far from its borders as is asked
  // here.
  const uint64_t doubt = Doubt(kept.total, vocab) + 2 * kept.uncertain;
  if (chosen.left < doubt || chosen.weight - chosen.left <= doubt) return -1;
  return static_cast<int>(chosen.order >> shift);
}

/// Whether blocks offer their best ids for this row.
XCOMPOSER_DEVICE bool OffersBest(const SamplingOptions& options, int vocab) {
  // Beyond the top_k themselves a few that are not told apart from the last one.
  return options.do_sample != 0 && options.top_k > 0 && options.top_k < vocab &&
         options.top_k <= kSampleOffers - 28;
}

/// Writes the slice's top_k largest scores, all that equal the last of them, and perhaps some more.
/// How many; -1: more than there is room for.
XCOMPOSER_DEVICE int Offer(const SlicePlaces& slice, int ids, int top_k, const SampleShared& shared,
                           uint64_t* offers) {
  uint64_t lowest = 0;
  if (ids > top_k) {
    lowest = SelectPlace(slice, shared, static_cast<uint64_t>(ids - top_k), 16).order;
  }
  if (ThreadIndex() == 0) shared.count[0] = 0;
  SyncThreads();  // nothing is counted before any thread counts
  slice.ForEach([&](uint64_t place) {
    if (place < lowest) return;
    const int at = AtomicAdd(shared.count, 0, 1);
    if (at < kSampleOffers) Store(offers + at, place & 0x00FFFFFFFFFFFFFFu);
  });
  SyncThreads();  // all are counted before the number is read
  const int count = shared.count[0];
  return count <= kSampleOffers ? count : -1;
}

/// All blocks' offers, as places, to shared.gathered. How many; -1: they are not all there.
XCOMPOSER_DEVICE int Gather(const uint64_t* records, int blocks, float largest,
                            const SampleShared& shared) {
  if (ThreadIndex() == 0) shared.count[0] = 0;
  SyncThreads();  // nothing is counted before any thread counts
  uint64_t missing = 0;
  for (int b = Warp(); b < blocks; b += kSampleWarps) {
    const uint64_t* record = records + b * SampleRecord::kWords;
    constexpr int kAtOnce = kSampleOffers / 32;
    uint64_t offers[kAtOnce];
    XCOMPOSER_UNROLL
    for (int i = 0; i < kAtOnce; ++i) {
      offers[i] = Load(record + SampleRecord::kOffers + 32 * i + Lane());
    }
    const auto count = static_cast<int>(Load(record + SampleRecord::kCount));
    int at = 0;
    if (Lane() == 0) at = AtomicAdd(shared.count, 0, count < 0 ? 0 : count);
    at = ShuffleFrom(at, 0);
    if (count < 0 || at + count > kSampleGathered) missing = 1;
    XCOMPOSER_UNROLL
    for (int i = 0; i < kAtOnce; ++i) {
      const int offer = 32 * i + Lane();
      if (offer >= count || at + offer >= kSampleGathered) continue;
      const float score = ScoreOf(static_cast<uint32_t>(offers[i] >> 24));
      shared.gathered[at + offer] =
          PlaceOf(score, largest, static_cast<int>(offers[i] & 0xFFFFFFu));
    }
  }
  missing = BlockMaximum(missing, shared);  // and all places are there before they are read
  return missing != 0 ? -1 : static_cast<int>(shared.count[0]);
}

/// Grid (blocks of a row, rows).
template <int kThreads>
__global__ void __launch_bounds__(kThreads, 3) SampleKernel(SampleParams p) {
  GridDependencyLaunch();
  GridDependencyWait();
  SharedArena arena;
  const SampleShared shared{arena.Take<uint64_t>(256),
                            arena.Take<int>(256),
                            arena.Take<uint64_t>(kSampleWarps),
                            arena.Take<uint64_t>(3),
                            arena.Take<uint64_t>(kSampleGathered),
                            arena.Take<uint64_t>(kSampleListed),
                            arena.Take<uint64_t>(kSampleFew),
                            arena.Take<int>(1)};
  const int64_t row = BlockY();
  const int blocks = GridX();
  const int vocab = static_cast<int>(p.vocab);
  const SamplingOptions options = Load(p.options + row);
  uint32_t* seen = p.seen + row * ((p.vocab + 31) / 32);
  const RowScores scores{p.logits + row * p.vocab, seen, vocab, options.repetition_penalty,
                         options.do_sample != 0 ? options.temperature : 1.0f};
  const int begin = BlockX() * kSampleSlice;
  const int first = begin + ThreadIndex();
  float own[kSampleOwn];
  scores.Read(first, kThreads, own);
  // The largest score, of equal ones the smallest id.
  uint64_t best = 0;
  XCOMPOSER_UNROLL
  for (int i = 0; i < kSampleOwn; ++i) {
    const int id = first + i * kThreads;
    if (id >= vocab) continue;
    uint64_t place = uint64_t{KeyOf(own[i])} << 24 | static_cast<uint32_t>(0xFFFFFF - id);
    if (!(own[i] - own[i] == 0.0f)) place = ~uint64_t{0};
    best = place > best ? place : best;
  }
  best = BlockMaximum(best, shared);
  uint64_t* records = p.partial + row * blocks * SampleRecord::kWords;
  uint64_t* record = records + BlockX() * SampleRecord::kWords;
  int count = -1;
  if (OffersBest(options, vocab) && best != ~uint64_t{0}) {
    const SlicePlaces slice{own, first, vocab, ScoreOf(static_cast<uint32_t>(best >> 24))};
    count = Offer(slice, Min(kSampleSlice, vocab - begin), options.top_k, shared,
                  record + SampleRecord::kOffers);
  }
  if (ThreadIndex() == 0) {
    Store(record + SampleRecord::kBest, best);
    Store(record + SampleRecord::kCount, static_cast<uint64_t>(static_cast<int64_t>(count)));
  }
  SyncThreads();  // the block's record is whole before thread 0 counts it, and the count was read
  if (ThreadIndex() == 0) {
    const bool last = AtomicAddOrdered(p.counters + row, 1) == blocks - 1;
    if (last) Store(p.counters + row, 0);
    shared.count[0] = last ? 1 : 0;
  }
  SyncThreads();  // thread 0's verdict, and the order it made, come before what follows
  if (shared.count[0] == 0) return;

  best = 0;
  for (int b = ThreadIndex(); b < blocks; b += kThreads) {
    const uint64_t other = Load(records + b * SampleRecord::kWords + SampleRecord::kBest);
    best = other > best ? other : best;
  }
  best = BlockMaximum(best, shared);
  const int64_t step = Load(p.steps + row);
  int id = 0xFFFFFF - static_cast<int>(best & 0xFFFFFF);
  if (best == ~uint64_t{0}) {
    id = -1;
  } else if (options.do_sample != 0) {
    Candidates candidates{scores, ScoreOf(static_cast<uint32_t>(best >> 24)), 0, -1, shared};
    if (options.top_k > 0 && options.top_k < vocab) {
      const int gathered =
          OffersBest(options, vocab) ? Gather(records, blocks, candidates.largest, shared) : -1;
      if (gathered >= 0) {
        candidates.KeepTopK(options.top_k, GatheredPlaces{shared, gathered}, gathered);
      } else {
        candidates.KeepTopK(options.top_k, Candidates{candidates}, vocab);
      }
    }
    id = Draw(options, step, candidates);
  }
  SyncThreads();  // all threads have read what thread 0 now changes
  if (ThreadIndex() != 0) return;
  Store(p.ids + row, id);
  Store(p.steps + row, step + 1);
  if (id >= 0) Store(seen + id / 32, Load(seen + id / 32) | 1u << (id % 32));
}

}  // namespace xcomposer::cuda
