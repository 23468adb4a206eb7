#include "ranks/interposed.h"

#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "xcomposer/version.h"

namespace xcomposer::testing {
namespace {

constexpr size_t kTensor = 256;  // bytes; what asks for less is no tensor of a step

std::mutex mutex;
std::map<int, int> redirected;  // ports; under the mutex
std::atomic<bool> fail_next{false};
std::string pretended;  // set while no run is on

template <typename Function>
Function* Real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

int OtherPort(int port) {
  const std::lock_guard lock(mutex);
  const auto found = redirected.find(port);
  return found == redirected.end() ? port : found->second;
}

}  // namespace

void RedirectConnections(int port, int other) {
  const std::lock_guard lock(mutex);
  redirected[port] = other;
}

void FailNextAllocation() { fail_next = true; }

void PretendVersion(const std::string& version) { pretended = version; }

}  // namespace xcomposer::testing

namespace xcomposer {

const char* Version() {
  if (!testing::pretended.empty()) return testing::pretended.c_str();
  return testing::Real<const char*()>("_ZN9xcomposer7VersionEv")();
}

}  // namespace xcomposer

#pragma GCC visibility push(default)  // or the libraries would not find them

extern "C" {

int connect(int fd, const sockaddr* address, socklen_t size) {
  static auto* const real = xcomposer::testing::Real<decltype(connect)>("connect");
  if (address->sa_family != AF_INET || size < sizeof(sockaddr_in)) return real(fd, address, size);
  sockaddr_in other{};
  std::memcpy(&other, address, sizeof(other));
  other.sin_port = htons(static_cast<uint16_t>(
      xcomposer::testing::OtherPort(static_cast<int>(ntohs(other.sin_port)))));
  return real(fd, reinterpret_cast<const sockaddr*>(&other), sizeof(other));
}

int posix_memalign(void** memory, size_t alignment, size_t size) noexcept {
  static auto* const real = xcomposer::testing::Real<int(void**, size_t, size_t)>("posix_memalign");
  if (size >= xcomposer::testing::kTensor && xcomposer::testing::fail_next.exchange(false)) {
    return ENOMEM;
  }
  return real(memory, alignment, size);
}

}  // extern "C"

#pragma GCC visibility pop
