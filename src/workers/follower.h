#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "batch/executor.h"
#include "transport/transport.h"
#include "workers/stage_line.h"

namespace xcomposer {

/// A rank other than 0: runs the steps that rank 0 describes.
class Follower {
 public:
  struct Options {
    StageLayout layout = LocalLayout(1);
    std::shared_ptr<Transport> transport;
    ExecutorLimits limits;
    int64_t hidden_bytes = 0;                 ///< of one row
    RowLinks links = {};                      ///< from GPU to GPU
    std::function<void(const Batch&)> check;  ///< what the model demands beyond the limits; throws
  };

  Follower(std::vector<std::unique_ptr<StageBody>> bodies, Options options);

  /// Until rank 0 ends the run. Throws the reason where it ends otherwise. When `stop` says so (it
  /// is asked a few times a second; may be empty) and rank 0 does not end the run within two
  /// seconds either, the run is ended for all ranks with kCancelled.
  void Serve(const std::function<bool()>& stop);

 private:
  void RunStep(const Frame& frame);
  void SayGoodbye();

  const Options options_;
  StageLine line_;
};

}  // namespace xcomposer
