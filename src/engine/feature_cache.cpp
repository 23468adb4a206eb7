#include "engine/feature_cache.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/log.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

/// FNV-1a. Equality of the pixels is checked afterwards, so it need not resist anybody.
uint64_t Hash(const Picture& picture) {
  uint64_t hash = 0xcbf29ce484222325;
  const auto mix = [&hash](uint64_t value) { hash = (hash ^ value) * 0x100000001b3; };
  mix(static_cast<uint64_t>(picture.width));
  mix(static_cast<uint64_t>(picture.height));
  for (const uint8_t byte : picture.rgb) mix(byte);
  return hash;
}

bool Same(const Picture& a, const Picture& b) {
  return a.width == b.width && a.height == b.height && a.rgb == b.rgb;
}

bool Listens(const std::string& prefix, const TapSink& taps) {
  return taps.Wants(prefix + ".rgb") || taps.Wants(prefix + ".vit") ||
         taps.Wants(prefix + ".embeds");
}

}  // namespace

FeatureCache::Lease::~Lease() {
  if (entry_ != nullptr) cache_->Return(entry_);
}

const EncodedPicture& FeatureCache::Lease::encoded() const { return entry_->encoded; }

FeatureCache::~FeatureCache() { Shrink(0); }

EncodedPicture FeatureCache::Encode(const Picture& picture, const std::string& tap_prefix,
                                    const TapSink& taps, const StopTest& stop) {
  try {
    return executor_->Encode(picture, tap_prefix, taps, stop);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kCapacity || rows_ == 0) throw;
    log::Debug("no memory to encode a picture (", error.what(), "): releasing unused features");
  }
  Shrink(0);
  return executor_->Encode(picture, tap_prefix, taps, stop);
}

FeatureCache::Lease FeatureCache::Get(std::shared_ptr<const Picture> picture,
                                      const std::string& tap_prefix, const TapSink& taps,
                                      const StopTest& stop) {
  const uint64_t hash = Hash(*picture);
  if (!Listens(tap_prefix, taps)) {
    const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
      return entry.hash == hash && Same(*entry.picture, *picture);
    });
    if (found != entries_.end()) {
      entries_.splice(entries_.begin(), entries_, found);
      ++found->users;
      return Lease(this, &*found);
    }
  }
  const EncodedPicture encoded = Encode(*picture, tap_prefix, taps, stop);
  entries_.push_front({std::move(picture), hash, encoded, 1});
  rows_ += encoded.rows;
  Shrink(max_rows_);
  return Lease(this, &entries_.front());
}

void FeatureCache::Return(Entry* entry) {
  --entry->users;
  Shrink(max_rows_);
}

void FeatureCache::Shrink(int64_t rows) {
  for (auto it = entries_.end(); rows_ > rows && it != entries_.begin();) {
    --it;
    if (it->users > 0) continue;
    rows_ -= it->encoded.rows;
    try {
      executor_->Release(it->encoded.feature);
    } catch (const std::exception& error) {
      // Nobody asked for this; what is broken will show where somebody does.
      log::Warn("releasing picture features failed: ", error.what());
    }
    it = entries_.erase(it);
  }
}

}  // namespace xcomposer
