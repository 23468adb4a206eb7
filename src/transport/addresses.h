#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "transport/transport.h"

namespace xcomposer {

/// A socket that is closed with its owner.
class SocketHandle {
 public:
  explicit SocketHandle(int fd) : fd_(fd) {}
  SocketHandle(SocketHandle&& other) noexcept : fd_(other.Release()) {}
  SocketHandle& operator=(SocketHandle&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~SocketHandle();

  int fd() const { return fd_; }
  int Release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_;
};

/// The numeric address of a host name, or of a numeric address itself. Asks the system's resolver,
/// which knows no deadline. Throws kTransport naming the host.
std::string ResolveHost(const std::string& host);

/// Whether a numeric address can be reached from this machine alone. False for what is no address.
bool IsLoopback(const std::string& address);

/// The address of this machine from which `address` is reached. Sends nothing.
std::string LocalAddressTowards(const std::string& address, uint16_t port);

/// A TCP socket that listens on exactly this address. Throws kTransport naming it.
SocketHandle ListenOn(const std::string& address, uint16_t port);

/// Whether somebody listens there before `until`; tries again and again.
bool WaitForListener(const std::string& address, uint16_t port, TimePoint until);

/// The numeric address in "tcp://address:port", where the text is that and nothing else; bytes from
/// outside. Empty otherwise.
std::string AddressOfEndpoint(const std::string& endpoint);

}  // namespace xcomposer
