#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace xcomposer::emulator {

/// A function with a stack of its own that can be left in the middle and entered again; all on one
/// operating-system thread. The address sanitizer is told of every change of stack.
class Fiber {
 public:
  explicit Fiber(size_t stack_bytes);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// The next Resume() enters `body` from its start; what ran before is forgotten, without
  /// unwinding. `body` must not let an exception out.
  void Reset(std::function<void()> body);

  /// Runs until the body leaves or ends. Only from outside the fiber.
  void Resume();

  /// Back to Resume()'s caller. Only from inside the fiber.
  void Leave();

  bool done() const { return done_; }

 private:
  struct Platform;

  [[noreturn]] static void Enter(Fiber* self);

  std::unique_ptr<Platform> platform_;
  std::function<void()> body_;
  bool done_ = true;
};

}  // namespace xcomposer::emulator
