#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "batch/batch.h"
#include "batch/picture.h"

namespace xcomposer {

/// What the engine needs to know of a loaded model to schedule it.
struct ExecutorLimits {
  int64_t vocab = 0;
  int64_t kv_blocks = 0;       ///< physical blocks in the pool of every stage
  int64_t block_size = 0;      ///< positions per block
  int64_t max_batch_rows = 0;  ///< rows that one Forward may carry (the prefill chunk)
};

struct EncodedPicture {
  FeatureHandle feature = 0;
  int64_t rows = 0;
};

/// Where one part of the model runs, for `placement` in results.
struct PlacedPart {
  std::string device;                ///< "cpu", "cuda:0"
  std::vector<std::string> modules;  ///< checkpoint names: vit, vision_proj, model.layers.0, ...
};

/// A loaded model as the engine sees it: pictures become features, batches become scores. The
/// pipeline implements it; tests put a stand-in here.
///
/// Calls come from one thread at a time. Every method throws xcomposer::Error; after kCapacity the
/// executor is still usable.
class Executor {
 public:
  virtual ~Executor() = default;

  virtual const ExecutorLimits& limits() const = 0;
  virtual std::vector<PlacedPart> placement() const = 0;

  /// Runs the vision tower and the projector. The features stay with the executor until released.
  /// `tap_prefix` ("image0") names taps <prefix>.rgb, .vit and .embeds where `taps` wants them.
  virtual EncodedPicture Encode(const Picture& picture, const std::string& tap_prefix,
                                const TapSink& taps) = 0;
  virtual void Release(FeatureHandle feature) = 0;

  /// Runs one batch. Writes the KV cache of its rows; positions below each slice's `position` must
  /// have been written by earlier batches.
  virtual Logits Forward(const Batch& batch) = 0;
};

}  // namespace xcomposer
