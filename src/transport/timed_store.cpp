#include "transport/timed_store.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/check.h"

namespace xcomposer {
namespace {

// A keeper that is asked a moment before the end of all patience is not silent for that.
constexpr std::chrono::milliseconds kLeastPatience{500};

}  // namespace

Error StoreIsGone(const RendezvousOptions& options, const std::string& what) {
  if (options.agent_store) {
    return Error(ErrorKind::kTransport,
                 StrCat("the store of torchrun's agent at ", options.place, " ", what),
                 {{"address", options.place}});
  }
  return Error(ErrorKind::kRank, StrCat("rank 0 at the rendezvous ", options.place, " ", what),
               {{"rank", "0"}, {"address", options.place}, {"stage", "0"}, {"step", "0"}});
}

TimedStore::TimedStore(std::shared_ptr<Store> store, DeadlineWorker& worker,
                       const RendezvousOptions& options, TimePoint until)
    : store_(std::move(store)), worker_(worker), options_(options), until_(until) {}

void TimedStore::Set(const std::string& key, const std::string& value) {
  Call<bool>([key = options_.prefix + key, value](Store& store) {
    store.Set(key, value);
    return true;
  });
}

std::optional<std::string> TimedStore::TryGet(const std::string& key) {
  return Call<std::optional<std::string>>(
      [key = options_.prefix + key](Store& store) { return store.TryGet(key); });
}

int64_t TimedStore::Add(const std::string& key, int64_t amount) {
  return Call<int64_t>(
      [key = options_.prefix + key, amount](Store& store) { return store.Add(key, amount); });
}

template <typename Result>
Result TimedStore::Call(std::function<Result(Store&)> call) {
  const auto result = std::make_shared<Result>();
  const TimePoint until = std::max(until_, std::chrono::steady_clock::now() + kLeastPatience);
  bool done = false;
  try {
    done = worker_.Run([store = store_, result, call = std::move(call)] { *result = call(*store); },
                       until);
  } catch (const Error& error) {
    throw StoreIsGone(options_, StrCat("was lost: ", error.what()));
  }
  if (!done) throw StoreIsGone(options_, "does not answer (is its process stopped?)");
  return std::move(*result);
}

}  // namespace xcomposer
