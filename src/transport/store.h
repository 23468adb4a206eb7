#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace xcomposer {

/// A small table of texts that all ranks reach before they know each other. Whoever reaches the
/// store may write to it: what comes out is bytes from outside.
class Store {
 public:
  virtual ~Store() = default;

  virtual void Set(const std::string& key, const std::string& value) = 0;
  /// Nothing where the key is not there yet.
  virtual std::optional<std::string> TryGet(const std::string& key) = 0;
  /// Adds to a counter that begins at 0, and returns it.
  virtual int64_t Add(const std::string& key, int64_t amount) = 0;
};

struct TcpStoreOptions {
  std::string address;  ///< numeric
  uint16_t port = 0;
  /// A listening socket, which the store takes over: this process keeps the table. Nothing: it only
  /// connects.
  std::optional<int> listening_socket;
  std::chrono::milliseconds timeout{10'000};
};

/// c10d's TCPStore. Calls may block for longer than the timeout where its keeper is stopped. Throws
/// kTransport; also where this build has no LibTorch.
std::shared_ptr<Store> OpenTcpStore(const TcpStoreOptions& options);

}  // namespace xcomposer
