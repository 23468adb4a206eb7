#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "transport/deadline_worker.h"
#include "transport/rendezvous.h"
#include "transport/store.h"

namespace xcomposer {

/// The rendezvous' store with a deadline for every call and with the keys of one run. Where its
/// keeper does not answer or is gone, calls throw StoreIsGone's error.
class TimedStore {
 public:
  TimedStore(std::shared_ptr<Store> store, DeadlineWorker& worker, const RendezvousOptions& options,
             TimePoint until);

  void Set(const std::string& key, const std::string& value);
  std::optional<std::string> TryGet(const std::string& key);
  /// Adds to a counter that begins at 0, and returns it.
  int64_t Add(const std::string& key, int64_t amount);

 private:
  template <typename Result>
  Result Call(std::function<Result(Store&)> call);

  const std::shared_ptr<Store> store_;
  DeadlineWorker& worker_;
  const RendezvousOptions& options_;
  const TimePoint until_;
};

/// Rank 0 keeps the store and is lost with it (kRank), or torchrun's agent does (kTransport).
Error StoreIsGone(const RendezvousOptions& options, const std::string& what);

}  // namespace xcomposer
