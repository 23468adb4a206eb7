#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "transport/nccl_links.h"
#include "workers/row_link.h"

namespace xcomposer {

/// Rows through NCCL. A rank whose first and last stage are driven by two threads needs two: links
/// belong to one thread each, so neighbours use two communicators by turns.
class NcclRowLink final : public RowLink {
 public:
  struct Options {
    int peer = 0;
    uint32_t stage = 0;                              ///< here, for messages
    std::function<Payload(int64_t bytes)> allocate;  ///< memory of this rank's GPU
    std::chrono::milliseconds timeout{600'000};      ///< of one hand-over
  };

  NcclRowLink(std::unique_ptr<NcclLinks> links, Options options);
  ~NcclRowLink() override;

  /// Returns while the rows are on their way, so that the next step is computed meanwhile; waits
  /// for those before. The rows must be complete: the stage's own stream has run to its end.
  void Send(const Step& step, Payload rows) override;
  Payload Receive(const Step& step, int64_t bytes) override;

 private:
  TimePoint Until() const;

  const std::unique_ptr<NcclLinks> links_;
  const Options options_;
  Payload on_its_way_;
};

}  // namespace xcomposer
