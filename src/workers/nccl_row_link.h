#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "transport/nccl_link.h"
#include "workers/row_link.h"

namespace xcomposer {

/// Rows through NCCL, one way.
class NcclRowLink final : public RowLink {
 public:
  struct Options {
    uint32_t stage = 0;  ///< here, for messages
    /// Sending: makes what the link's stream does from here on wait for the rows.
    std::function<void(const Payload& rows)> follow;
    /// Receiving: memory of this rank's GPU that the link's stream may write to at once.
    std::function<Payload(int64_t bytes)> allocate;
    std::chrono::milliseconds timeout{600'000};  ///< of one hand-over
    std::shared_ptr<void> memory = nullptr;  ///< lives as long as the link: its stream and scratch
  };

  NcclRowLink(std::unique_ptr<NcclLink> link, Options options);
  ~NcclRowLink() override;

  /// Returns while the rows are still computed or on their way, so that the next step is begun
  /// meanwhile; waits for those before.
  void Send(const Step& step, Payload rows) override;
  Payload Receive(const Step& step, int64_t bytes) override;

 private:
  TimePoint Until() const;

  const Options options_;
  Payload on_its_way_;
  const std::unique_ptr<NcclLink> link_;  // last: ends before its stream does
};

}  // namespace xcomposer
