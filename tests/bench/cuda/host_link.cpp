#include "bench/cuda/host_link.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "bench/cuda/link_buffers.h"

namespace xcomposer::cuda {
namespace {

constexpr size_t kBytes = size_t{1} << 30;
constexpr size_t kFileBytes = size_t{2} << 30;
constexpr size_t kChunk = size_t{16} << 20;  // of what is written, and the most that is read

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
  explicit Reader(size_t chunk) : chunk_(chunk), pinned_(2 * chunk) {
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
      const size_t at = next.fetch_add(chunk_);
      if (at >= kFileBytes) break;
      char* buffer = pinned_.data() + static_cast<size_t>(half) * chunk_;
      Check(cudaEventSynchronize(copied_[half]), "cudaEventSynchronize");
      if (pread(file, buffer, chunk_, static_cast<off_t>(at)) != static_cast<ssize_t>(chunk_)) {
        throw std::runtime_error("the file cannot be read");
      }
      Check(cudaMemcpyAsync(to + at, buffer, chunk_, cudaMemcpyHostToDevice, stream_), "copy");
      Check(cudaEventRecord(copied_[half], stream_), "cudaEventRecord");
    }
    Check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  }

 private:
  const size_t chunk_;
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

/// Parts of pages that the card copies by itself, each registered by a thread of its own. A copy
/// must stay within one part: the driver refuses one that touches two.
class Registered {
 public:
  /// `parts`: a power of two, so that each begins at a page.
  Registered(const Pages& pages, size_t parts) {
    const size_t part = kBytes / parts;
    std::vector<std::exception_ptr> errors(parts);
    std::vector<std::thread> workers;
    for (size_t i = 0; i < parts; ++i) parts_.push_back({pages.data() + i * part, part, false});
    for (size_t i = 0; i < parts; ++i) {
      workers.emplace_back([this, i, &errors] {
        try {
          Check(cudaHostRegister(parts_[i].data, parts_[i].bytes, cudaHostRegisterDefault),
                "cudaHostRegister");
          parts_[i].is_registered = true;
        } catch (...) {
          errors[i] = std::current_exception();
        }
      });
    }
    for (std::thread& worker : workers) worker.join();
    for (const std::exception_ptr& error : errors) {
      if (!error) continue;
      End();
      std::rethrow_exception(error);
    }
  }
  ~Registered() { End(); }
  Registered(const Registered&) = delete;
  Registered& operator=(const Registered&) = delete;

  void CopyTo(char* device, cudaStream_t stream) const {
    for (const Part& part : parts_) {
      Check(cudaMemcpyAsync(device, part.data, part.bytes, cudaMemcpyHostToDevice, stream),
            "cudaMemcpyAsync");
      device += part.bytes;
    }
  }

 private:
  struct Part {
    char* data;
    size_t bytes;
    bool is_registered;
  };

  /// Pages that are unmapped while they are registered stay so: whatever is mapped there later is
  /// refused as mapped already.
  void End() {
    for (const Part& part : parts_) {
      if (part.is_registered) cudaHostUnregister(part.data);
    }
  }

  std::vector<Part> parts_;
};

constexpr size_t kStagingThreads = 12;
constexpr size_t kStagingBytes = size_t{8} << 20;

/// Each of several threads makes memory that the card copies by itself, and frees it again.
void MakeStaging(bool allocate) {
  std::atomic<int> failed{0};
  std::vector<std::thread> workers;
  for (size_t i = 0; i < kStagingThreads; ++i) {
    workers.emplace_back([&failed, allocate] {
      void* data = nullptr;
      if (allocate) {
        failed += cudaMallocHost(&data, kStagingBytes) != cudaSuccess;
        failed += cudaFreeHost(data) != cudaSuccess;
        return;
      }
      data = std::aligned_alloc(size_t{2} << 20, kStagingBytes);
      madvise(data, kStagingBytes, MADV_HUGEPAGE);
      std::memset(data, 0, kStagingBytes);
      failed += cudaHostRegister(data, kStagingBytes, cudaHostRegisterDefault) != cudaSuccess;
      failed += cudaHostUnregister(data) != cudaSuccess;
      std::free(data);
    });
  }
  for (std::thread& worker : workers) worker.join();
  if (failed > 0) throw std::runtime_error("pinned memory was refused");
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
    const Registered registered(pages, kThreads);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    figures.Give("host.register", {taken.count(), taken.count(), taken.count(), 1},
                 {.bytes = kOnce}, "8 threads");
    figures.Give("host.registered_to_device",
                 timer.Measure([&] { registered.CopyTo(device.data(), timer.stream()); }, few),
                 {.bytes = kOnce});
    timer.Wait();
  });
  figures.Group("variant.host.staging", [&] {
    for (const bool allocate : {true, false}) {
      figures.Give(allocate ? "variant.host.staging_allocated" : "variant.host.staging_registered",
                   MeasureWall([&] { MakeStaging(allocate); }, 5),
                   {.bytes = static_cast<double>(kStagingThreads * kStagingBytes)},
                   "12 threads; made and freed");
    }
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
    struct Way {
      unsigned threads;
      size_t chunk;
      const char* name;
    };
    for (const Way way :
         {Way{2, kChunk, "host.page_cache_2_readers"}, Way{4, kChunk, "host.page_cache_4_readers"},
          Way{8, kChunk, "host.page_cache_8_readers"},
          Way{8, kChunk / 4, "variant.host.page_cache_8_readers_4_MiB"},
          Way{12, kChunk / 4, "variant.host.page_cache_12_readers_4_MiB"},
          Way{12, kChunk / 16, "variant.host.page_cache_12_readers_1_MiB"}}) {
      if (way.threads > cores) continue;
      std::vector<std::unique_ptr<Reader>> readers;
      for (unsigned i = 0; i < way.threads; ++i) {
        readers.push_back(std::make_unique<Reader>(way.chunk));
      }
      figures.Give(way.name, MeasureWall([&] { ReadFile(*file, readers, device.data()); }, 3),
                   {.bytes = static_cast<double>(kFileBytes)});
    }
  });
}

}  // namespace xcomposer::cuda
