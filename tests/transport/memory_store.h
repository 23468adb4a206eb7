#pragma once

#include <map>
#include <mutex>
#include <string>

#include "transport/store.h"

namespace xcomposer {

/// A store between threads of one process.
class MemoryStore : public Store {
 public:
  void Set(const std::string& key, const std::string& value) override {
    const std::lock_guard lock(mutex_);
    texts_[key] = value;
  }
  std::optional<std::string> TryGet(const std::string& key) override {
    const std::lock_guard lock(mutex_);
    const auto found = texts_.find(key);
    if (found == texts_.end()) return std::nullopt;
    return found->second;
  }
  int64_t Add(const std::string& key, int64_t amount) override {
    const std::lock_guard lock(mutex_);
    return counts_[key] += amount;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::string> texts_;
  std::map<std::string, int64_t> counts_;
};

}  // namespace xcomposer
