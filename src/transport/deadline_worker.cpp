#include "transport/deadline_worker.h"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

namespace xcomposer {

struct DeadlineWorker::Shared {
  std::mutex mutex;
  std::condition_variable changed;
  std::function<void()> work;
  std::exception_ptr thrown;
  bool has_work = false;
  bool closed = false;
  std::thread thread;
};

DeadlineWorker::DeadlineWorker() : shared_(std::make_shared<Shared>()) {
  shared_->thread = std::thread([shared = shared_] { Serve(shared); });
}

DeadlineWorker::~DeadlineWorker() {
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->closed = true;
  }
  shared_->changed.notify_all();
  if (overdue_) {
    shared_->thread.detach();
  } else {
    shared_->thread.join();
  }
}

bool DeadlineWorker::Run(std::function<void()> work, TimePoint until) {
  if (overdue_) return false;
  std::unique_lock lock(shared_->mutex);
  shared_->work = std::move(work);
  shared_->thrown = nullptr;
  shared_->has_work = true;
  shared_->changed.notify_all();
  overdue_ = !shared_->changed.wait_until(lock, until, [&] { return !shared_->has_work; });
  if (overdue_) return false;
  if (shared_->thrown) std::rethrow_exception(std::exchange(shared_->thrown, nullptr));
  return true;
}

void DeadlineWorker::Serve(const std::shared_ptr<Shared>& shared) {
  std::unique_lock lock(shared->mutex);
  while (true) {
    shared->changed.wait(lock, [&] { return shared->closed || shared->has_work; });
    if (!shared->has_work) return;
    std::function<void()> work = std::move(shared->work);
    lock.unlock();
    std::exception_ptr thrown;
    try {
      work();
    } catch (...) {
      thrown = std::current_exception();
    }
    work = nullptr;  // what it owns ends here, not under the lock
    lock.lock();
    shared->thrown = thrown;
    shared->has_work = false;
    shared->changed.notify_all();
  }
}

}  // namespace xcomposer
