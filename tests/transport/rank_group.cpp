#include "transport/rank_group.h"

#include <gtest/gtest.h>

#include <thread>

#include "transport/memory_store.h"

namespace xcomposer {

using std::chrono::milliseconds;

std::string TextOf(const Frame& frame) {
  return {reinterpret_cast<const char*>(frame.payload.data),
          static_cast<size_t>(frame.payload.size)};
}

void SendText(Transport& transport, int to, Channel channel, const std::string& text) {
  FrameHeader header;
  header.channel = channel;
  header.payload_bytes = static_cast<int64_t>(text.size());
  transport.Send(to, header, Payload::Of(text));
}

Error FailureOf(const Transport& transport) {
  const TimePoint until = Soon();
  while (std::chrono::steady_clock::now() < until) {
    if (const std::optional<Error> failure = transport.failure()) return *failure;
    std::this_thread::sleep_for(milliseconds(2));
  }
  return Error(ErrorKind::kInternal, "the transport still lives");
}

std::vector<Outcome> Meet(const std::vector<RendezvousOptions>& options,
                          const std::shared_ptr<Store>& store, TimePoint until) {
  std::vector<Outcome> outcomes(options.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < options.size(); ++i) {
    threads.emplace_back([&, i] {
      DeadlineWorker worker;
      try {
        outcomes[i].transport = MeetRanks(store, worker, options[i], until);
      } catch (const Error& error) {
        outcomes[i].error = error;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return outcomes;
}

std::vector<RendezvousOptions> LoopbackRanks(int world_size) {
  std::vector<RendezvousOptions> ranks(static_cast<size_t>(world_size));
  for (int rank = 0; rank < world_size; ++rank) {
    RendezvousOptions& options = ranks[static_cast<size_t>(rank)];
    options.rank = rank;
    options.world_size = world_size;
    options.place = "the test's store";
    options.bind_address = "127.0.0.1";
    // Far more than a busy machine takes to schedule a thread.
    options.transport.rank_timeout = milliseconds(3000);
  }
  return ranks;
}

std::vector<std::unique_ptr<Transport>> ConnectedRanks(
    const std::vector<RendezvousOptions>& options) {
  std::vector<std::unique_ptr<Transport>> transports;
  for (Outcome& outcome : Meet(options, std::make_shared<MemoryStore>())) {
    if (outcome.error) throw Error(*outcome.error);
    transports.push_back(std::move(outcome.transport));
  }
  return transports;
}

}  // namespace xcomposer
