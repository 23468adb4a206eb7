#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "batch/batch.h"
#include "batch/picture.h"

namespace xcomposer {

/// What the engine needs to know of a loaded model to schedule it.
struct ExecutorLimits {
  int64_t vocab = 0;
  int64_t kv_blocks = 0;       ///< physical blocks in the pool of every stage
  int64_t block_size = 0;      ///< positions per block
  int64_t max_batch_rows = 0;  ///< rows that one batch may carry (the prefill chunk)
  int64_t stages = 1;          ///< batches that can be worked on at the same moment
  bool chooses_ids = false;    ///< SequenceSlice::choice is of use
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
/// Several batches may be in flight: they run in the order of submission on every stage, so that a
/// batch finds what the ones before it wrote. Calls come from one thread at a time. Every method
/// throws xcomposer::Error; after kCapacity the executor is still usable.
class Executor {
 public:
  virtual ~Executor() = default;

  virtual const ExecutorLimits& limits() const = 0;
  virtual std::vector<PlacedPart> placement() const = 0;

  /// Runs the vision tower and the projector, behind what the first stage has been given already.
  /// The features stay with the executor until released. `tap_prefix` ("image0") names taps
  /// <prefix>.rgb, .vit and .embeds where `taps` wants them. Ends with kCancelled where `stop` says
  /// so.
  virtual EncodedPicture Encode(const Picture& picture, const std::string& tap_prefix,
                                const TapSink& taps, const StopTest& stop) = 0;

  /// Batches in flight that use the feature are not disturbed.
  virtual void Release(FeatureHandle feature) = 0;

  /// Starts a batch, which writes the KV cache of its rows; positions below each slice's `position`
  /// must have been written by batches submitted earlier. What this throws was not started.
  virtual void Submit(Batch batch) = 0;

  /// Waits for the oldest batch in flight, puts its taps on this thread and gives its scores, or
  /// the ids chosen by them.
  /// Throws what went wrong with that batch, which is over then too.
  virtual Logits Collect() = 0;

  /// One batch from start to end; nothing else may be in flight.
  Logits Forward(Batch batch) {
    Submit(std::move(batch));
    return Collect();
  }
};

}  // namespace xcomposer
