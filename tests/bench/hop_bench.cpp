// What one hop between two ranks costs, against a raw socket and against shared memory in the same
// run.
//
//   ninja bench_hop && bin/bench_hop [milliseconds per figure]
//
// A hop is half of a round trip between two threads of this process: with a payload there, and the
// same payload back. Printed: the median, the rate, and the share of the raw socket's and of shared
// memory's rate. The receiver of a raw socket reads into one buffer; shared memory copies in and
// out.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"
#include "transport/in_process.h"
#include "transport/memory_store.h"
#include "transport/rendezvous.h"

namespace xcomposer {
namespace {

using std::chrono::steady_clock;

constexpr int64_t kSizes[] = {8 << 10, 1 << 20, 10 << 20};

// One end of a pair: gives a payload to the other and takes what it gives.
class End {
 public:
  virtual ~End() = default;
  virtual void Give(int64_t size) = 0;
  virtual void Take(int64_t size) = 0;
};
using Pair = std::pair<std::unique_ptr<End>, std::unique_ptr<End>>;

// --- a transport
// -------------------------------------------------------------------------------------

class TransportEnd final : public End {
 public:
  explicit TransportEnd(std::unique_ptr<Transport> transport) : transport_(std::move(transport)) {}

  void Give(int64_t size) override {
    // What came is given on: as a stage would give its output, without making it anew.
    if (payload_.size != size) {
      payload_ = Payload::Allocate(size);
      std::memset(payload_.data, 1, static_cast<size_t>(size));
    }
    FrameHeader header;
    header.channel = Channel::kHidden;
    header.payload_bytes = size;
    transport_->Send(1 - transport_->rank(), header, std::move(payload_));
    payload_ = {};
  }
  void Take(int64_t /*size*/) override {
    std::optional<Frame> frame = transport_->Receive(
        1 - transport_->rank(), Channel::kHidden, steady_clock::now() + std::chrono::seconds(60));
    Check(frame.has_value(), "nothing came for a minute");
    payload_ = std::move(frame->payload);
  }

 private:
  std::unique_ptr<Transport> transport_;
  Payload payload_;
};

Pair InProcessPair() {
  auto ranks = MakeInProcessTransports(2);
  return {std::make_unique<TransportEnd>(std::move(ranks[0])),
          std::make_unique<TransportEnd>(std::move(ranks[1]))};
}

Pair ZeroMqPair(bool secret) {
  const auto store = std::make_shared<MemoryStore>();
  const auto meet = [&](int rank) {
    RendezvousOptions options;
    options.rank = rank;
    options.world_size = 2;
    options.place = "this process";
    options.bind_address = "127.0.0.1";
    if (secret) options.secret = Secret("not a secret at all");
    DeadlineWorker worker;
    return std::make_unique<TransportEnd>(
        MeetRanks(store, worker, options, steady_clock::now() + std::chrono::seconds(30)));
  };
  Pair pair;
  std::thread other([&] { pair.second = meet(1); });
  pair.first = meet(0);
  other.join();
  return pair;
}

// --- a raw socket
// ------------------------------------------------------------------------------------

class SocketEnd final : public End {
 public:
  explicit SocketEnd(int fd) : fd_(fd), buffer_(10 << 20) {
    const int one = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  }
  ~SocketEnd() override { close(fd_); }

  void Give(int64_t size) override {
    for (int64_t done = 0; done < size;) {
      const ssize_t count = send(fd_, buffer_.data() + done, static_cast<size_t>(size - done), 0);
      Check(count > 0, "the socket took nothing");
      done += count;
    }
  }
  void Take(int64_t size) override {
    for (int64_t done = 0; done < size;) {
      const ssize_t count = recv(fd_, buffer_.data() + done, static_cast<size_t>(size - done), 0);
      Check(count > 0, "the socket gave nothing");
      done += count;
    }
  }

 private:
  const int fd_;
  std::vector<std::byte> buffer_;
};

Pair SocketPair() {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  Check(bind(listener, generic, size) == 0 && listen(listener, 1) == 0 &&
            getsockname(listener, generic, &size) == 0,
        "no socket");
  const int one = socket(AF_INET, SOCK_STREAM, 0);
  Check(connect(one, generic, size) == 0, "no connection");
  const int other = accept(listener, nullptr, nullptr);
  close(listener);
  return {std::make_unique<SocketEnd>(one), std::make_unique<SocketEnd>(other)};
}

// --- shared memory
// -----------------------------------------------------------------------------------

struct Slot {
  std::vector<std::byte> bytes = std::vector<std::byte>(10 << 20);
  std::atomic<uint32_t> given{0};
};

class SharedMemoryEnd final : public End {
 public:
  SharedMemoryEnd(std::shared_ptr<Slot> out, std::shared_ptr<Slot> in)
      : out_(std::move(out)), in_(std::move(in)), own_(10 << 20) {}

  void Give(int64_t size) override {
    std::memcpy(out_->bytes.data(), own_.data(), static_cast<size_t>(size));
    out_->given.fetch_add(1, std::memory_order_release);
    out_->given.notify_one();
  }
  void Take(int64_t size) override {
    in_->given.wait(taken_, std::memory_order_acquire);
    ++taken_;
    std::memcpy(own_.data(), in_->bytes.data(), static_cast<size_t>(size));
  }

 private:
  const std::shared_ptr<Slot> out_;
  const std::shared_ptr<Slot> in_;
  std::vector<std::byte> own_;
  uint32_t taken_ = 0;
};

Pair SharedMemoryPair() {
  const auto there = std::make_shared<Slot>();
  const auto back = std::make_shared<Slot>();
  return {std::make_unique<SharedMemoryEnd>(there, back),
          std::make_unique<SharedMemoryEnd>(back, there)};
}

// --- measuring
// -----------------------------------------------------------------------------------------

// The median seconds of one hop.
double Measure(End& here, End& there, int64_t size, std::chrono::milliseconds time) {
  // 0 ends the other thread; it is told before each round trip.
  std::atomic<bool> more{true};
  std::thread echo([&] {
    while (true) {
      there.Take(size);
      const bool last = !more.load();
      there.Give(size);
      if (last) return;
    }
  });
  std::vector<double> hops;
  const auto until = steady_clock::now() + time;
  for (bool last = false; !last;) {
    last = steady_clock::now() >= until && hops.size() >= 20;
    if (last) more = false;
    const auto begin = steady_clock::now();
    here.Give(size);
    here.Take(size);
    hops.push_back(std::chrono::duration<double>(steady_clock::now() - begin).count() / 2);
  }
  echo.join();
  std::nth_element(hops.begin(), hops.begin() + static_cast<long>(hops.size() / 2), hops.end());
  return hops[hops.size() / 2];
}

int Main(std::chrono::milliseconds time) {
  const std::vector<std::pair<std::string, std::function<Pair()>>> paths = {
      {"raw socket", SocketPair},
      {"shared memory", SharedMemoryPair},
      {"in-process", InProcessPair},
      {"ZeroMQ", [] { return ZeroMqPair(false); }},
      {"ZeroMQ with CURVE", [] { return ZeroMqPair(true); }}};
  std::map<std::pair<std::string, int64_t>, double> seconds;
  for (const auto& [name, make] : paths) {
    const Pair pair = make();
    for (const int64_t size : kSizes) {
      seconds[{name, size}] = Measure(*pair.first, *pair.second, size, time);
    }
  }
  std::printf("%-18s %10s %12s %8s %10s %10s\n", "path", "bytes", "us per hop", "GB/s", "of socket",
              "of shared");
  for (const auto& [name, make] : paths) {
    for (const int64_t size : kSizes) {
      const double hop = seconds[{name, size}];
      std::printf("%-18s %10lld %12.1f %8.2f %9.0f%% %9.0f%%\n", name.c_str(),
                  static_cast<long long>(size), hop * 1e6, static_cast<double>(size) / hop / 1e9,
                  100 * seconds[{"raw socket", size}] / hop,
                  100 * seconds[{"shared memory", size}] / hop);
    }
  }
  return 0;
}

}  // namespace
}  // namespace xcomposer

int main(int argc, char** argv) {
  const int milliseconds = argc > 1 ? std::atoi(argv[1]) : 2000;
  return xcomposer::Main(std::chrono::milliseconds(std::max(milliseconds, 1)));
}
