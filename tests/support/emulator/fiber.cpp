#include "support/emulator/fiber.h"

#include <cstdint>
#include <cstdlib>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// Saves what a called function must keep, changes stacks, restores. ucontext would do the same with
// a system call each way, and a block of 256 threads changes stacks often.
extern "C" void xcomposer_switch_stack(void** from, void* to);
asm(R"(
.text
.type xcomposer_switch_stack, @function
xcomposer_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size xcomposer_switch_stack, .-xcomposer_switch_stack
)");
#endif

namespace xcomposer::emulator {

struct Fiber::Platform {
  std::vector<unsigned char> stack;
#if defined(__x86_64__)
  void* inside = nullptr;  // stack pointers
  void* outside = nullptr;
#else
  ucontext_t inside{};
  ucontext_t outside{};
#endif
  // What the address sanitizer keeps for a stack that is left.
  void* fake_inside = nullptr;
  void* fake_outside = nullptr;
  const void* outside_bottom = nullptr;
  size_t outside_size = 0;

  void BeforeEntering() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&fake_outside, stack.data(), stack.size());
#endif
  }
  void AfterReturning() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_outside, nullptr, nullptr);
#endif
  }
  void AfterEntering() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_inside, &outside_bottom, &outside_size);
#endif
  }
  void BeforeLeaving([[maybe_unused]] bool for_good) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(for_good ? nullptr : &fake_inside, outside_bottom, outside_size);
#endif
  }
  void SwitchInside() {
#if defined(__x86_64__)
    xcomposer_switch_stack(&outside, inside);
#else
    swapcontext(&outside, &inside);
#endif
  }
  void SwitchOutside() {
#if defined(__x86_64__)
    xcomposer_switch_stack(&inside, outside);
#else
    swapcontext(&inside, &outside);
#endif
  }
};

namespace {
// The fiber that is being entered for the first time: a fresh stack has no arguments.
Fiber* entering = nullptr;
}  // namespace

Fiber::Fiber(size_t stack_bytes) : platform_(std::make_unique<Platform>()) {
  platform_->stack.resize(stack_bytes);
}

Fiber::~Fiber() = default;

void Fiber::Enter(Fiber* self) {
  self->platform_->AfterEntering();
  self->body_();
  self->done_ = true;
  self->platform_->BeforeLeaving(/*for_good=*/true);
  self->platform_->SwitchOutside();
  std::abort();  // a finished fiber is never resumed
}

void Fiber::Reset(std::function<void()> body) {
  body_ = std::move(body);
  done_ = false;
  platform_->fake_inside = nullptr;
#if defined(__SANITIZE_ADDRESS__)
  // Frames that were left without unwinding have marked their surroundings.
  __asan_unpoison_memory_region(platform_->stack.data(), platform_->stack.size());
#endif
  void (*start)() = [] { Enter(entering); };
#if defined(__x86_64__)
  // As if `start` had been called: the stack pointer is 8 below a multiple of 16.
  const uintptr_t end =
      reinterpret_cast<uintptr_t>(platform_->stack.data() + platform_->stack.size());
  auto* top = reinterpret_cast<void**>(end & ~uintptr_t{15});
  *--top = nullptr;                              // where `start` would return to
  *--top = reinterpret_cast<void*>(start);       // taken by the switch's ret
  for (int i = 0; i < 6; ++i) *--top = nullptr;  // the saved registers
  platform_->inside = top;
#else
  getcontext(&platform_->inside);
  platform_->inside.uc_stack.ss_sp = platform_->stack.data();
  platform_->inside.uc_stack.ss_size = platform_->stack.size();
  platform_->inside.uc_link = nullptr;
  makecontext(&platform_->inside, start, 0);
#endif
}

void Fiber::Resume() {
  entering = this;
  platform_->BeforeEntering();
  platform_->SwitchInside();
  platform_->AfterReturning();
}

void Fiber::Leave() {
  platform_->BeforeLeaving(/*for_good=*/false);
  platform_->SwitchOutside();
  platform_->AfterEntering();
}

}  // namespace xcomposer::emulator
