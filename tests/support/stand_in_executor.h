#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "batch/executor.h"

namespace xcomposer::testing {

inline uint64_t MixBits(uint64_t value) {  // SplitMix64
  value += 0x9E3779B97F4A7C15;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
  return value ^ (value >> 31);
}

inline uint64_t MixBits(uint64_t a, uint64_t b) { return MixBits(MixBits(a) ^ b); }

/// What one row leaves in the cache of the stand-in: everything that a real row depends on by
/// itself.
inline uint64_t RowContent(uint64_t input, double rope_base, Adapter adapter) {
  return MixBits(MixBits(input, std::bit_cast<uint64_t>(rope_base)),
                 static_cast<uint64_t>(adapter));
}

inline uint64_t TextInput(int32_t id) { return static_cast<uint64_t>(id); }

inline uint64_t PixelHash(const Picture& picture) {
  uint64_t hash = MixBits(static_cast<uint64_t>(picture.width), picture.rgb.size());
  for (const uint8_t byte : picture.rgb) hash = MixBits(hash, byte);
  return hash;
}

inline uint64_t PictureInput(const Picture& picture, int64_t row) {
  return MixBits(PixelHash(picture), static_cast<uint64_t>(row)) | uint64_t{1} << 63;
}

/// Scores after a history of rows: a hash of all of it, so that one wrong row changes every score.
inline std::vector<float> ToyScores(std::span<const uint64_t> history, int64_t vocab) {
  uint64_t hash = 0;
  for (const uint64_t row : history) hash = MixBits(hash, row);
  std::vector<float> scores(vocab);
  for (int64_t id = 0; id < vocab; ++id) {
    scores[id] =
        static_cast<float>(MixBits(hash, static_cast<uint64_t>(id)) >> 40) * 0x1p-22f - 2.0f;
  }
  return scores;
}

/// A model for tests of whatever drives an Executor. Its cache holds one hash per row, in blocks,
/// and its scores are a function of the whole history read back through the block table: a wrong
/// block, a missed copy or a row of another request gives other ids. It also refuses (kInternal)
/// every batch that breaks a rule of batch.h. A picture has as many rows as it is wide.
///
/// Not thread-safe; notices two calls at the same time.
class StandInExecutor : public Executor {
 public:
  explicit StandInExecutor(ExecutorLimits limits)
      : limits_(limits), cells_(limits.kv_blocks * limits.block_size) {}

  ~StandInExecutor() override {
    if (features_alive != nullptr) *features_alive = static_cast<int64_t>(features_.size());
  }

  // Hooks, set before use. What they throw comes out of the call; they may block.
  std::function<void(const Batch&)> before_forward;
  std::function<void(const Batch&)> after_forward;
  std::function<void(const Picture&)> before_encode;
  std::function<void(const StopTest&)> while_encoding;
  /// Where limits.chooses_ids: the id for a row's scores, or -1 to give the scores after all.
  std::function<int32_t(std::span<const float> scores, const IdChoice&)> choose;
  int64_t* features_alive = nullptr;  ///< if set, receives at the end how many were not released
  std::atomic<int64_t> most_in_flight{0};

  const ExecutorLimits& limits() const override { return limits_; }
  std::vector<PlacedPart> placement() const override { return {{"stand-in", {"model"}}}; }

  EncodedPicture Encode(const Picture& picture, const std::string& tap_prefix, const TapSink& taps,
                        const StopTest& stop) override {
    const Alone alone(&busy_);
    if (before_encode) before_encode(picture);
    if (while_encoding) while_encoding(stop);
    if (taps.Wants(tap_prefix + ".rgb")) {
      taps.put({tap_prefix + ".rgb", {picture.height, picture.width, 3}, {}, picture.rgb});
    }
    const FeatureHandle handle = next_feature_++;
    features_[handle] = picture;
    return {handle, picture.width};
  }

  void Release(FeatureHandle feature) override {
    const Alone alone(&busy_);
    Check(features_.erase(feature) == 1, "feature ", feature, " was released twice or never made");
  }

  void Submit(Batch batch) override {
    const Alone alone(&busy_);
    in_flight_.push_back({std::move(batch), features_});
    most_in_flight = std::max(most_in_flight.load(), static_cast<int64_t>(in_flight_.size()));
  }

  /// Runs the batch only now, as late as it may be.
  Logits Collect() override {
    const Alone alone(&busy_);
    Check(!in_flight_.empty(), "nothing is in flight");
    const Pending pending = std::move(in_flight_.front());
    in_flight_.pop_front();
    const Batch& batch = pending.batch;
    used_features_ = &pending.features;
    if (before_forward) before_forward(batch);
    CheckBatch(batch);
    for (const BlockCopy& copy : batch.copies) {
      std::copy_n(cells_.begin() + copy.from * limits_.block_size, limits_.block_size,
                  cells_.begin() + copy.to * limits_.block_size);
    }
    std::vector<float> layer;  // (T)
    for (const SequenceSlice& slice : batch.sequences) Write(batch, slice, &layer);
    Logits logits{0, limits_.vocab, {}};
    for (const SequenceSlice& slice : batch.sequences) Read(batch, slice, &logits);
    if (batch.taps.Wants("layer0.out")) {
      batch.taps.put({"layer0.out", {batch.rows(), 1}, std::move(layer), {}});
    }
    if (batch.taps.Wants("im_mask")) batch.taps.put({"im_mask", {batch.rows()}, {}, Mask(batch)});
    if (after_forward) after_forward(batch);
    if (choose && WantsIdsOnly(batch)) Choose(batch, &logits);
    return logits;
  }

 private:
  struct Pending {
    Batch batch;
    std::map<FeatureHandle, Picture> features;  // at the time of Submit
  };

  struct Cell {
    uint64_t content = 0;
    int64_t position = -1;
  };

  class Alone {
   public:
    explicit Alone(std::atomic<bool>* busy) : busy_(busy) {
      Check(!busy_->exchange(true), "two calls of the executor at the same time");
    }
    ~Alone() { *busy_ = false; }

   private:
    std::atomic<bool>* busy_;
  };

  Cell& At(const SequenceSlice& slice, int64_t position) {
    const int64_t block = slice.block_table.at(position / limits_.block_size);
    return cells_.at(block * limits_.block_size + position % limits_.block_size);
  }

  uint64_t Input(const Batch& batch, int64_t row) const {
    for (const FeatureSpan& span : batch.features) {
      if (row < span.first_row || row >= span.first_row + span.row_count) continue;
      return PictureInput(used_features_->at(span.feature),
                          span.feature_row + row - span.first_row);
    }
    const int32_t id = batch.ids[row];
    Check(id >= 0 && id < limits_.vocab, "id ", id, " outside the vocabulary at row ", row);
    return TextInput(id);
  }

  void Write(const Batch& batch, const SequenceSlice& slice, std::vector<float>* layer) {
    for (int64_t i = 0; i < slice.row_count; ++i) {
      const uint64_t content =
          RowContent(Input(batch, slice.first_row + i), slice.rope_base, slice.adapter);
      At(slice, slice.position + i) = {content, slice.position + i};
      layer->push_back(static_cast<float>(content >> 44));
    }
  }

  void Read(const Batch& batch, const SequenceSlice& slice, Logits* logits) {
    std::vector<uint64_t> history;
    for (int64_t position = 0; position < slice.position + slice.row_count; ++position) {
      const Cell& cell = At(slice, position);
      Check(cell.position == position, "the cache has position ", cell.position, " at ", position);
      history.push_back(cell.content);
      const bool is_last = position + 1 == slice.position + slice.row_count;
      const bool wanted =
          batch.all_logits ? position >= slice.position : is_last && slice.wants_logits;
      if (!wanted) continue;
      const std::vector<float> scores = ToyScores(history, limits_.vocab);
      logits->values.insert(logits->values.end(), scores.begin(), scores.end());
      ++logits->rows;
    }
  }

  void Choose(const Batch& batch, Logits* logits) const {
    std::vector<int32_t> ids;
    for (const SequenceSlice& slice : batch.sequences) {
      if (!slice.wants_logits) continue;
      const auto row = std::span<const float>(logits->values)
                           .subspan(ids.size() * static_cast<size_t>(limits_.vocab),
                                    static_cast<size_t>(limits_.vocab));
      ids.push_back(choose(row, *slice.choice));
      if (ids.back() < 0) return;
    }
    logits->values.clear();
    logits->chosen = std::move(ids);
  }

  std::vector<uint8_t> Mask(const Batch& batch) const {
    std::vector<uint8_t> mask(batch.rows(), 0);
    for (const FeatureSpan& span : batch.features) {
      std::fill_n(mask.begin() + span.first_row, span.row_count, uint8_t{1});
    }
    return mask;
  }

  void CheckBatch(const Batch& batch) {
    Check(batch.rows() > 0 && batch.rows() <= limits_.max_batch_rows, "a batch of ", batch.rows(),
          " rows, at most ", limits_.max_batch_rows);
    int64_t row = 0;
    std::set<std::pair<int32_t, int64_t>> written;
    for (const SequenceSlice& slice : batch.sequences) {
      Check(slice.first_row == row && slice.row_count > 0, "slices are not laid end to end");
      Check(!slice.choice || (limits_.chooses_ids && slice.wants_logits && slice.choice->IsSound()),
            "a choice that nobody can make");
      row += slice.row_count;
      const int64_t end = slice.position + slice.row_count;
      const int64_t blocks = (end + limits_.block_size - 1) / limits_.block_size;
      Check(static_cast<int64_t>(slice.block_table.size()) == blocks, "a block table of ",
            slice.block_table.size(), " blocks, expected ", blocks);
      for (int64_t position = slice.position; position < end; ++position) {
        const int32_t block = slice.block_table[position / limits_.block_size];
        Check(written.emplace(block, position % limits_.block_size).second, "block ", block,
              " is written by two sequences");
      }
    }
    Check(row == batch.rows(), "slices cover ", row, " rows of ", batch.rows());
    int64_t after = 0;
    for (const FeatureSpan& span : batch.features) {
      Check(span.first_row >= after && span.row_count > 0, "feature spans overlap");
      after = span.first_row + span.row_count;
      const auto found = used_features_->find(span.feature);
      Check(found != used_features_->end(), "feature ", span.feature, " is not there");
      Check(span.feature_row >= 0 && span.feature_row + span.row_count <= found->second.width,
            "a span outside its picture");
    }
    Check(after <= batch.rows(), "a feature span outside the batch");
  }

  ExecutorLimits limits_;
  std::vector<Cell> cells_;  // (blocks, block_size)
  std::map<FeatureHandle, Picture> features_;
  const std::map<FeatureHandle, Picture>* used_features_ = nullptr;  // of the batch that runs
  FeatureHandle next_feature_ = 1;
  std::deque<Pending> in_flight_;
  std::atomic<bool> busy_{false};
};

}  // namespace xcomposer::testing
