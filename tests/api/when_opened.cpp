#include "api/when_opened.h"

#include <dlfcn.h>
#include <fcntl.h>

#include <atomic>
#include <cstdarg>
#include <memory>
#include <utility>

namespace xcomposer::testing_support {
namespace {

struct Wish {
  std::string path;
  std::function<void()> then;
};

// Files are opened before there is anything that needs construction.
constinit std::atomic<Wish*> pending{nullptr};

void Look(const char* path) {
  Wish* wish = pending.load();
  if (wish == nullptr || wish->path != path || !pending.compare_exchange_strong(wish, nullptr)) {
    return;
  }
  const std::unique_ptr<Wish> owned(wish);
  owned->then();
}

}  // namespace

void WhenOpened(const std::string& path, std::function<void()> then) {
  delete pending.exchange(new Wish{path, std::move(then)});
}

}  // namespace xcomposer::testing_support

#pragma GCC visibility push(default)  // or libraries would not find it

// The linker takes the program's function before the library's.
extern "C" int open(const char* path, int flags, ...) {
  using Open = int(const char*, int, ...);
  static auto* const real = reinterpret_cast<Open*>(dlsym(RTLD_NEXT, "open"));
  xcomposer::testing_support::Look(path);
  if ((flags & O_CREAT) == 0 && (flags & O_TMPFILE) != O_TMPFILE) return real(path, flags);
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  return real(path, flags, mode);
}

#pragma GCC visibility pop
