#include "transport/addresses.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>

#include "base/check.h"

namespace xcomposer {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// An address in the system's form.
struct SystemAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

std::optional<SystemAddress> Parse(const std::string& address, uint16_t port) {
  SystemAddress parsed;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&parsed.storage);
  if (inet_pton(AF_INET, address.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    parsed.size = sizeof(sockaddr_in);
    return parsed;
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&parsed.storage);
  if (inet_pton(AF_INET6, address.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    parsed.size = sizeof(sockaddr_in6);
    return parsed;
  }
  return std::nullopt;
}

std::string Numeric(const sockaddr* address, socklen_t size) {
  std::array<char, NI_MAXHOST> text{};
  const int code = getnameinfo(address, size, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST);
  Require(code == 0, ErrorKind::kTransport, "an address without a number: ", gai_strerror(code));
  return text.data();
}

[[noreturn]] void Fail(const std::string& what, const std::string& address, uint16_t port) {
  const std::string place = StrCat(address, " port ", port);
  throw Error(ErrorKind::kTransport, StrCat(what, " ", place, ": ", std::strerror(errno)),
              {{"address", place}});
}

SystemAddress RequireAddress(const std::string& address, uint16_t port) {
  const std::optional<SystemAddress> parsed = Parse(address, port);
  if (!parsed) {
    throw Error(ErrorKind::kTransport, StrCat("'", address, "' is no numeric address"),
                {{"address", address}});
  }
  return *parsed;
}

bool ListensNow(const SystemAddress& address, TimePoint until) {
  const SocketHandle socket(
      ::socket(address.get()->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (socket.fd() < 0) return false;
  if (connect(socket.fd(), address.get(), address.size) == 0) return true;
  if (errno != EINPROGRESS) return false;
  pollfd wait{socket.fd(), POLLOUT, 0};
  const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now());
  if (poll(&wait, 1, static_cast<int>(std::clamp<int64_t>(left.count(), 0, 1000))) != 1)
    return false;
  int error = 0;
  socklen_t size = sizeof(error);
  return getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
}

}  // namespace

SocketHandle::~SocketHandle() {
  if (fd_ >= 0) close(fd_);
}

std::string ResolveHost(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int code = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (code != 0) {
    throw Error(
        ErrorKind::kTransport,
        StrCat("the host '", host, "' of the rendezvous is not known: ", gai_strerror(code)),
        {{"host", host}});
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, &freeaddrinfo);
  // "localhost" often comes with ::1 first, where most launchers mean 127.0.0.1.
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    if (one->ai_family == AF_INET) return Numeric(one->ai_addr, one->ai_addrlen);
  }
  return Numeric(found->ai_addr, found->ai_addrlen);
}

bool IsLoopback(const std::string& address) {
  in_addr v4{};
  if (inet_pton(AF_INET, address.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6{};
  if (inet_pton(AF_INET6, address.c_str(), &v6) != 1) return false;
  if (IN6_IS_ADDR_V4MAPPED(&v6)) return v6.s6_addr[12] == 127;
  return IN6_IS_ADDR_LOOPBACK(&v6);
}

std::string LocalAddressTowards(const std::string& address, uint16_t port) {
  const SystemAddress target = RequireAddress(address, port);
  const SocketHandle socket(::socket(target.get()->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  // Connecting a datagram socket only looks the route up.
  if (socket.fd() < 0 || connect(socket.fd(), target.get(), target.size) != 0) {
    Fail("no route to", address, port);
  }
  SystemAddress local;
  local.size = sizeof(local.storage);
  if (getsockname(socket.fd(), reinterpret_cast<sockaddr*>(&local.storage), &local.size) != 0) {
    Fail("no local address towards", address, port);
  }
  return Numeric(local.get(), local.size);
}

SocketHandle ListenOn(const std::string& address, uint16_t port) {
  const SystemAddress local = RequireAddress(address, port);
  SocketHandle socket(::socket(local.get()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (socket.fd() < 0) Fail("no socket for", address, port);
  const int one = 1;
  // A new run may follow the last one at once.
  setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (bind(socket.fd(), local.get(), local.size) != 0 || listen(socket.fd(), 1024) != 0) {
    Fail("rank 0 cannot listen on", address, port);
  }
  return socket;
}

bool WaitForListener(const std::string& address, uint16_t port, TimePoint until) {
  const SystemAddress target = RequireAddress(address, port);
  while (true) {
    if (ListensNow(target, until)) return true;
    if (steady_clock::now() >= until) return false;
    std::this_thread::sleep_for(milliseconds(20));
  }
}

std::string AddressOfEndpoint(const std::string& endpoint) {
  constexpr std::string_view kScheme = "tcp://";
  constexpr size_t kLongest = 80;
  if (endpoint.size() > kLongest || !endpoint.starts_with(kScheme)) return {};
  const size_t colon = endpoint.rfind(':');
  if (colon <= kScheme.size()) return {};
  std::string address = endpoint.substr(kScheme.size(), colon - kScheme.size());
  const bool bracketed = address.starts_with('[') && address.ends_with(']');
  if (bracketed) address = address.substr(1, address.size() - 2);
  // A text of the system's own form has no NUL, no name and no scope in it.
  if (address.find('\0') != std::string::npos) return {};
  const std::optional<SystemAddress> parsed = Parse(address, 0);
  if (!parsed || bracketed != (parsed->get()->sa_family == AF_INET6)) return {};
  uint16_t port = 0;
  const char* const end = endpoint.data() + endpoint.size();
  const auto [rest, code] = std::from_chars(endpoint.data() + colon + 1, end, port);
  if (code != std::errc() || rest != end || port == 0) return {};
  return address;
}

}  // namespace xcomposer
