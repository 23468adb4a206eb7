#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>

#include "batch/executor.h"

namespace xcomposer {

/// Encoded pictures, kept as long as somebody uses them and then while there is room, so that later
/// turns of a conversation do not encode them again. Pictures are found by a hash of their pixels
/// and then compared: a collision cannot give a wrong answer. Not thread-safe.
class FeatureCache {
  struct Entry;

 public:
  /// `executor` must live longer. Features that nobody uses are kept up to `max_rows` rows.
  FeatureCache(Executor* executor, int64_t max_rows) : executor_(executor), max_rows_(max_rows) {}
  ~FeatureCache();
  FeatureCache(const FeatureCache&) = delete;
  FeatureCache& operator=(const FeatureCache&) = delete;

  /// Use of one picture's features, which stay valid as long as it lives. Must not outlive the
  /// cache.
  class Lease {
   public:
    Lease(FeatureCache* cache, Entry* entry) : cache_(cache), entry_(entry) {}
    Lease(Lease&& other) noexcept : cache_(other.cache_), entry_(other.entry_) {
      other.entry_ = nullptr;
    }
    Lease& operator=(Lease&&) = delete;
    ~Lease();

    const EncodedPicture& encoded() const;

   private:
    FeatureCache* cache_;
    Entry* entry_;
  };

  /// Encodes the picture unless its features are here. If somebody listens to one of the picture's
  /// taps it is encoded in any case. When memory runs out, what nobody uses is released and
  /// encoding is tried once more; otherwise throws as Executor::Encode.
  Lease Get(std::shared_ptr<const Picture> picture, const std::string& tap_prefix,
            const TapSink& taps, const StopTest& stop);

  int64_t rows() const { return rows_; }

 private:
  struct Entry {
    std::shared_ptr<const Picture> picture;
    uint64_t hash = 0;
    EncodedPicture encoded;
    int64_t users = 0;
  };
  using Entries = std::list<Entry>;

  EncodedPicture Encode(const Picture& picture, const std::string& tap_prefix, const TapSink& taps,
                        const StopTest& stop);
  void Return(Entry* entry);
  /// Releases unused entries, least recently used first, until at most `rows` are held.
  void Shrink(int64_t rows);

  Executor* executor_;
  int64_t max_rows_;
  int64_t rows_ = 0;
  Entries entries_;  // most recently used first
};

}  // namespace xcomposer
