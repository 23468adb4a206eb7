#include <exception>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <vector>

#include "base/check.h"
#include "transport/store.h"

namespace xcomposer {
namespace {

// Runs a call of c10d and turns its exceptions into ours.
template <typename Call>
auto Translated(const TcpStoreOptions& options, Call call) {
  const auto fail = [&](const char* what) {
    const std::string address = StrCat(options.address, ":", options.port);
    return Error(ErrorKind::kTransport, StrCat("the rendezvous store at ", address, ": ", what),
                 {{"address", address}});
  };
  try {
    return call();
  } catch (const c10::Error& error) {
    throw fail(error.what_without_backtrace());
  } catch (const std::exception& error) {
    throw fail(error.what());
  }
}

class TcpStore final : public Store {
 public:
  explicit TcpStore(const TcpStoreOptions& options) : options_(options) {
    c10d::TCPStoreOptions theirs;
    theirs.port = options.port;
    theirs.isServer = options.listening_socket.has_value();
    theirs.waitWorkers = false;
    theirs.timeout = options.timeout;
    theirs.masterListenFd = options.listening_socket;
    store_ = Translated(
        options_, [&] { return c10::make_intrusive<c10d::TCPStore>(options.address, theirs); });
  }

  void Set(const std::string& key, const std::string& value) override {
    Translated(options_,
               [&] { store_->set(key, std::vector<uint8_t>(value.begin(), value.end())); });
  }

  std::optional<std::string> TryGet(const std::string& key) override {
    return Translated(options_, [&]() -> std::optional<std::string> {
      if (!store_->check({key})) return std::nullopt;
      const std::vector<uint8_t> value = store_->get(key);
      return std::string(value.begin(), value.end());
    });
  }

  int64_t Add(const std::string& key, int64_t amount) override {
    return Translated(options_, [&] { return store_->add(key, amount); });
  }

 private:
  const TcpStoreOptions options_;
  c10::intrusive_ptr<c10d::TCPStore> store_;
};

}  // namespace

std::shared_ptr<Store> OpenTcpStore(const TcpStoreOptions& options) {
  return std::make_shared<TcpStore>(options);
}

}  // namespace xcomposer
