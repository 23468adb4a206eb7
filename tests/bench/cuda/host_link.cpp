#include "bench/cuda/host_link.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace xcomposer::cuda {
namespace {

constexpr size_t kBytes = size_t{1} << 30;
constexpr size_t kFileBytes = size_t{2} << 30;
constexpr size_t kChunk = size_t{16} << 20;

/// By the wall clock, for what the host takes part in.
Timing MeasureWall(const std::function<void()>& run, int runs) {
  std::vector<double> seconds;
  for (int i = 0; i < runs + 1; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    run();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    if (i > 0) seconds.push_back(taken.count());  // the first one warms up
  }
  std::sort(seconds.begin(), seconds.end());
  return {seconds[seconds.size() / 2], seconds.front(), seconds.back(), runs};
}

class DeviceBuffer {
 public:
  explicit DeviceBuffer(size_t bytes) { Check(cudaMalloc(&data_, bytes), "cudaMalloc"); }
  ~DeviceBuffer() { cudaFree(data_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  char* data() const { return static_cast<char*>(data_); }

 private:
  void* data_ = nullptr;
};

class PinnedBuffer {
 public:
  explicit PinnedBuffer(size_t bytes) { Check(cudaMallocHost(&data_, bytes), "cudaMallocHost"); }
  ~PinnedBuffer() { cudaFreeHost(data_); }
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;
  char* data() const { return static_cast<char*>(data_); }

 private:
  void* data_ = nullptr;
};

/// Anonymous pages, as a program's own memory or a mapped file is.
class Pages {
 public:
  explicit Pages(size_t bytes) : bytes_(bytes) {
    data_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data_ == MAP_FAILED) throw std::runtime_error("mmap failed");
    std::memset(data_, 1, bytes);
  }
  ~Pages() { munmap(data_, bytes_); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  char* data() const { return static_cast<char*>(data_); }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

/// A file without a name, whose bytes are in the page cache.
class CachedFile {
 public:
  explicit CachedFile(const std::string& folder) {
    std::string path = folder + "/gpu-check-XXXXXX";
    file_ = mkstemp(path.data());
    if (file_ < 0) throw std::runtime_error("no file can be made in " + folder);
    unlink(path.c_str());
    std::vector<char> chunk(kChunk);
    for (size_t i = 0; i < chunk.size(); ++i) chunk[i] = static_cast<char>(i * 131);
    for (size_t at = 0; at < kFileBytes; at += kChunk) {
      if (pwrite(file_, chunk.data(), kChunk, static_cast<off_t>(at)) !=
          static_cast<ssize_t>(kChunk)) {
        close(file_);
        throw std::runtime_error("2 GiB do not fit into " + folder);
      }
    }
  }
  ~CachedFile() { close(file_); }
  CachedFile(const CachedFile&) = delete;
  CachedFile& operator=(const CachedFile&) = delete;
  int descriptor() const { return file_; }

 private:
  int file_ = -1;
};

/// One of several readers: chunk after chunk into its own pinned pair, from there to the card.
class Reader {
 public:
  Reader() : pinned_(2 * kChunk) {
    Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
    for (cudaEvent_t& event : copied_) {
      Check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
    }
  }
  ~Reader() {
    for (cudaEvent_t event : copied_) cudaEventDestroy(event);
    cudaStreamDestroy(stream_);
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  void Run(int file, std::atomic<size_t>& next, char* to) {
    for (int half = 0;; half = 1 - half) {
      const size_t at = next.fetch_add(kChunk);
      if (at >= kFileBytes) break;
      char* buffer = pinned_.data() + static_cast<size_t>(half) * kChunk;
      Check(cudaEventSynchronize(copied_[half]), "cudaEventSynchronize");
      if (pread(file, buffer, kChunk, static_cast<off_t>(at)) != static_cast<ssize_t>(kChunk)) {
        throw std::runtime_error("the file cannot be read");
      }
      Check(cudaMemcpyAsync(to + at, buffer, kChunk, cudaMemcpyHostToDevice, stream_), "copy");
      Check(cudaEventRecord(copied_[half], stream_), "cudaEventRecord");
    }
    Check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  }

 private:
  PinnedBuffer pinned_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t copied_[2] = {};
};

void ReadFile(const CachedFile& file, std::vector<std::unique_ptr<Reader>>& readers, char* to) {
  std::atomic<size_t> next{0};
  std::vector<std::exception_ptr> errors(readers.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < readers.size(); ++i) {
    threads.emplace_back([&, i] {
      try {
        readers[i]->Run(file.descriptor(), next, to);
      } catch (...) {
        errors[i] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

void Register(const Pages& pages, size_t threads) {
  std::vector<std::thread> workers;
  std::atomic<int> failed{0};
  const size_t part = kBytes / threads / 4096 * 4096;
  for (size_t i = 0; i < threads; ++i) {
    workers.emplace_back([&, i] {
      const size_t bytes = i + 1 == threads ? kBytes - i * part : part;
      if (cudaHostRegister(pages.data() + i * part, bytes, cudaHostRegisterDefault) !=
          cudaSuccess) {
        ++failed;
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  if (failed > 0) throw std::runtime_error("cudaHostRegister was refused");
}

void Unregister(const Pages& pages, size_t threads) {
  const size_t part = kBytes / threads / 4096 * 4096;
  for (size_t i = 0; i < threads; ++i) cudaHostUnregister(pages.data() + i * part);
}

}  // namespace

void MeasureHostLink(Figures& figures, GpuTimer& timer, const std::string& scratch) {
  constexpr double kOnce = static_cast<double>(kBytes);
  const DeviceBuffer device(kFileBytes);
  const TimingOptions few{.least_runs = 5, .most_runs = 10, .budget_s = 0.4};
  figures.Group("host.pinned", [&] {
    const PinnedBuffer pinned(kBytes);
    std::memset(pinned.data(), 1, kBytes);
    const auto copy = [&](void* to, const void* from, cudaMemcpyKind kind) {
      Check(cudaMemcpyAsync(to, from, kBytes, kind, timer.stream()), "cudaMemcpyAsync");
    };
    figures.Give(
        "host.pinned_to_device",
        timer.Measure([&] { copy(device.data(), pinned.data(), cudaMemcpyHostToDevice); }, few),
        {.bytes = kOnce});
    figures.Give(
        "host.pinned_from_device",
        timer.Measure([&] { copy(pinned.data(), device.data(), cudaMemcpyDeviceToHost); }, few),
        {.bytes = kOnce});
  });
  figures.Group("host.pageable", [&] {
    const Pages pages(kBytes);
    figures.Give("host.pageable_to_device",
                 MeasureWall(
                     [&] {
                       Check(
                           cudaMemcpy(device.data(), pages.data(), kBytes, cudaMemcpyHostToDevice),
                           "cudaMemcpy");
                     },
                     3),
                 {.bytes = kOnce});
    constexpr size_t kThreads = 8;
    const auto begin = std::chrono::steady_clock::now();
    Register(pages, kThreads);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    figures.Give("host.register", {taken.count(), taken.count(), taken.count(), 1},
                 {.bytes = kOnce}, "8 threads");
    figures.Give("host.registered_to_device",
                 timer.Measure(
                     [&] {
                       Check(cudaMemcpyAsync(device.data(), pages.data(), kBytes,
                                             cudaMemcpyHostToDevice, timer.stream()),
                             "cudaMemcpyAsync");
                     },
                     few),
                 {.bytes = kOnce});
    Unregister(pages, kThreads);
  });
  figures.Group("host.page_cache", [&] {
    std::optional<CachedFile> file;
    try {
      file.emplace(scratch);
    } catch (const std::runtime_error& error) {
      figures.Skip("host.page_cache", error.what());
      return;
    }
    const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
    for (const unsigned threads : {2u, 4u, 8u}) {
      if (threads > cores) break;
      std::vector<std::unique_ptr<Reader>> readers;
      for (unsigned i = 0; i < threads; ++i) readers.push_back(std::make_unique<Reader>());
      figures.Give("host.page_cache_" + std::to_string(threads) + "_readers",
                   MeasureWall([&] { ReadFile(*file, readers, device.data()); }, 3),
                   {.bytes = static_cast<double>(kFileBytes)});
    }
  });
}

}  // namespace xcomposer::cuda
