#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

namespace xcomposer {

/// A TCP port of a local address where nobody listens and which the system gives to nobody else
/// meanwhile. Who names it and allows reuse of addresses, as every listener of a run does, can
/// listen there all the same.
class HeldPort {
 public:
  explicit HeldPort(const std::string& address = "127.0.0.1") : HeldPort(address, 0) {
    if (fd_ < 0) throw std::runtime_error("no free port of " + address);
  }
  HeldPort(HeldPort&& other) noexcept : fd_(std::exchange(other.fd_, -1)), number_(other.number_) {}
  HeldPort& operator=(HeldPort&&) = delete;
  ~HeldPort() {
    if (fd_ >= 0) close(fd_);
  }

  /// This one; nothing where somebody else has it.
  static std::optional<HeldPort> Try(uint16_t number) {
    HeldPort port("127.0.0.1", number);
    if (port.fd_ < 0) return std::nullopt;
    return port;
  }

  uint16_t number() const { return number_; }

 private:
  HeldPort(const std::string& address, uint16_t number) {
    sockaddr_in local{};
    local.sin_family = AF_INET;
    local.sin_port = htons(number);
    inet_pton(AF_INET, address.c_str(), &local.sin_addr);
    socklen_t size = sizeof(local);
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    // Not yet while it binds: then it would take a port that another one holds like this.
    const int one = 1;
    const bool bound = bind(fd_, reinterpret_cast<const sockaddr*>(&local), size) == 0 &&
                       setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
                       getsockname(fd_, reinterpret_cast<sockaddr*>(&local), &size) == 0;
    number_ = ntohs(local.sin_port);
    if (bound) return;
    close(fd_);
    fd_ = -1;
  }

  int fd_ = -1;
  uint16_t number_ = 0;
};

/// Whether somebody listens there now.
inline bool IsListenedOn(const std::string& address, uint16_t port) {
  sockaddr_in there{};
  there.sin_family = AF_INET;
  there.sin_port = htons(port);
  inet_pton(AF_INET, address.c_str(), &there.sin_addr);
  const int one = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool is = connect(one, reinterpret_cast<const sockaddr*>(&there), sizeof(there)) == 0;
  close(one);
  return is;
}

}  // namespace xcomposer
