#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace xcomposer {

/// Stands between two TCP peers on loopback and treats their bytes badly. Needs no privilege.
class TcpProxy {
 public:
  enum class Mode {
    kPass,
    kStall,      ///< takes nothing and gives nothing: the senders' buffers fill
    kBlackHole,  ///< takes everything and gives nothing
    kReset,      ///< resets every connection, and every new one
  };

  /// Forwards connections to 127.0.0.1:`target_port`.
  explicit TcpProxy(uint16_t target_port);
  TcpProxy(const TcpProxy&) = delete;
  TcpProxy& operator=(const TcpProxy&) = delete;
  ~TcpProxy();

  uint16_t port() const { return port_; }
  void Set(Mode mode) { mode_ = mode; }
  /// How long each byte is on its way, in both directions.
  void SetDelay(std::chrono::milliseconds delay) { delay_ms_ = delay.count(); }
  /// How many connections were ever accepted.
  int accepted() const { return accepted_; }
  /// The most bytes that one connection has brought from the side that made it, since Forget.
  int64_t brought() const { return brought_; }
  void Forget() { brought_ = 0; }

 private:
  using Clock = std::chrono::steady_clock;

  // Bytes on their way in one direction.
  struct Parcel {
    Clock::time_point due;
    std::string bytes;
  };
  struct Side {
    int fd = -1;
    bool ended = false;  // nothing more will be read from it
    std::deque<Parcel> towards;
  };
  struct Connection {
    Side sides[2];
    int64_t brought = 0;
  };

  void Serve();
  void Accept();
  void ReadFrom(Connection& connection, int side);
  void WriteTo(Connection& connection, int side);
  static bool IsOver(const Connection& connection);
  static void Close(Connection& connection, bool reset);

  const uint16_t target_port_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::atomic<Mode> mode_{Mode::kPass};
  std::atomic<int64_t> delay_ms_{0};
  std::atomic<int> accepted_{0};
  std::atomic<int64_t> brought_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::unique_ptr<Connection>> connections_;
  std::thread thread_;
};

}  // namespace xcomposer
