#include "support/tcp_proxy.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <stdexcept>

namespace xcomposer {
namespace {

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

int MakeQuick(int fd) {
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  return fd;
}

}  // namespace

TcpProxy::TcpProxy(uint16_t target_port) : target_port_(target_port) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof(address);
  if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      listen(listener_, 64) != 0 ||
      getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    throw std::runtime_error("the proxy cannot listen on 127.0.0.1");
  }
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { Serve(); });
}

TcpProxy::~TcpProxy() {
  stopping_ = true;
  thread_.join();
  for (const auto& connection : connections_) Close(*connection, false);
  close(listener_);
}

void TcpProxy::Close(Connection& connection, bool reset) {
  for (Side& side : connection.sides) {
    if (side.fd < 0) continue;
    const linger hard{1, 0};  // with no time to linger, closing sends a reset
    if (reset) setsockopt(side.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(side.fd);
    side.fd = -1;
  }
}

void TcpProxy::Accept() {
  const int from = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
  if (from < 0) return;
  ++accepted_;
  const int to = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = Loopback(target_port_);
  if (connect(to, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    close(from);
    close(to);
    return;
  }
  auto connection = std::make_unique<Connection>();
  connection->sides[0].fd = MakeQuick(from);
  connection->sides[1].fd = MakeQuick(to);
  connections_.push_back(std::move(connection));
}

void TcpProxy::ReadFrom(Connection& connection, int side) {
  std::array<char, 1 << 16> buffer;
  Side& source = connection.sides[side];
  const ssize_t count = read(source.fd, buffer.data(), buffer.size());
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) {
    source.ended = true;
    return;
  }
  if (side == 0) {
    connection.brought += count;
    brought_ = std::max<int64_t>(brought_, connection.brought);
  }
  if (mode_ == Mode::kBlackHole) return;
  const auto due = Clock::now() + std::chrono::milliseconds(delay_ms_);
  connection.sides[1 - side].towards.push_back({due, std::string(buffer.data(), count)});
}

void TcpProxy::WriteTo(Connection& connection, int side) {
  Side& target = connection.sides[side];
  while (!target.towards.empty() && target.towards.front().due <= Clock::now()) {
    std::string& bytes = target.towards.front().bytes;
    const ssize_t count = send(target.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count < 0) {
      if (errno != EAGAIN && errno != EINTR)
        connection.sides[0].ended = connection.sides[1].ended = true;
      return;
    }
    bytes.erase(0, static_cast<size_t>(count));
    if (bytes.empty()) target.towards.pop_front();
  }
}

bool TcpProxy::IsOver(const Connection& connection) {
  for (int side = 0; side < 2; ++side) {
    // What was read before the end is still on its way to the other side.
    if (connection.sides[side].ended && connection.sides[1 - side].towards.empty()) return true;
  }
  return false;
}

void TcpProxy::Serve() {
  while (!stopping_) {
    const Mode mode = mode_;
    std::vector<pollfd> waits = {{listener_, POLLIN, 0}};
    for (const auto& connection : connections_) {
      for (const Side& side : connection->sides) {
        const bool reads = mode != Mode::kStall && !side.ended;
        waits.push_back({reads ? side.fd : -1, POLLIN, 0});
      }
    }
    // Short, since parcels become due and modes change without an event.
    poll(waits.data(), waits.size(), 1);
    if (mode == Mode::kReset) {
      for (const auto& connection : connections_) Close(*connection, true);
      connections_.clear();
    }
    for (size_t i = 0; i < connections_.size(); ++i) {
      for (int side = 0; side < 2; ++side) {
        const pollfd& wait = waits[1 + 2 * i + static_cast<size_t>(side)];
        if (wait.fd >= 0 && wait.revents != 0) ReadFrom(*connections_[i], side);
      }
      const bool gives = mode == Mode::kPass;
      for (int side = 0; gives && side < 2; ++side) WriteTo(*connections_[i], side);
    }
    std::erase_if(connections_, [](const auto& connection) {
      if (!IsOver(*connection)) return false;
      Close(*connection, false);
      return true;
    });
    if (waits[0].revents != 0) Accept();
  }
}

}  // namespace xcomposer
