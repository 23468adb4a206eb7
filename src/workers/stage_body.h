#pragma once

#include "batch/batch.h"
#include "transport/transport.h"
#include "workers/step.h"

namespace xcomposer {

/// What a stage computes, without its threads and links. Activations are (T, C) float32 in the
/// host's memory, or in a GPU's where the payload says so; a stage takes both. Whoever holds the
/// payload may write to it. The owner of rows in a GPU's memory is something that bodies of one
/// kind understand. Driven by one thread; throws xcomposer::Error, and is usable afterwards.
class StageBody {
 public:
  virtual ~StageBody() = default;

  /// All stages but the last: runs the layers. `hidden` comes from the stage before; the first
  /// stage is given none and makes it from the batch. The result may be the same memory.
  virtual Payload Run(const Step& step, Payload hidden, const TapSink& taps) = 0;

  /// The last stage: runs the layers, and gives the scores that the batch asks for or the ids
  /// chosen by them.
  virtual Logits Score(const Step& step, Payload hidden, const TapSink& taps) = 0;
};

}  // namespace xcomposer
