#include "interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

#include "exit_code.h"

namespace xcomposer::cli {
namespace {

// A signal handler has nothing but globals; a lock-free atomic is what it may touch.
std::atomic<int> g_pressed{0};
std::atomic<bool> g_terminated{false};
static_assert(std::atomic<int>::is_always_lock_free);

void Install(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  // No SA_RESTART: a read from the terminal returns, so that chat can say how to leave.
  action.sa_flags = 0;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);  // what job schedulers and mpirun send
}

}  // namespace

void WatchInterrupt() {
  Install([](int signal) {
    if (signal == SIGTERM) g_terminated.store(true);
    if (g_pressed.fetch_add(1) > 0) _exit(kInterrupted);
  });
}

bool Interrupted() { return g_pressed.load() > 0; }

bool TakeInterrupt() { return g_pressed.exchange(0) > 0; }

bool Terminated() { return g_terminated.load(); }

}  // namespace xcomposer::cli
