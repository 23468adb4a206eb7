#include "pipeline/staged_upload.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "lazy_copies.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

std::vector<std::byte> Noise(size_t bytes, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> noise(bytes);
  for (std::byte& byte : noise) byte = static_cast<std::byte>(random());
  return noise;
}

StagedUpload::Fill From(const std::vector<std::byte>& host) {
  return [&host](std::span<std::byte> out, size_t offset) {
    std::memcpy(out.data(), host.data() + offset, out.size());
  };
}

TEST(StagedUpload, BringsEveryByteToItsPlace) {
  for (const size_t threads : {1, 2, 5}) {
    StagedUpload upload(std::make_unique<LazyCopies>(2 * threads, 64), threads);
    std::vector<std::vector<std::byte>> host;
    for (const size_t bytes : {0, 1, 63, 64, 65, 1000, 20000}) {
      host.push_back(Noise(bytes, static_cast<unsigned>(bytes)));
    }
    std::vector<std::vector<std::byte>> device;
    for (const auto& from : host) device.emplace_back(from.size());
    for (int round = 0; round < 2; ++round) {  // it can be used again after Finish
      for (auto& to : device) std::fill(to.begin(), to.end(), std::byte{0xEE});
      for (size_t i = 0; i < host.size(); ++i) {
        upload.Add(device[i].data(), device[i].size(), From(host[i]));
      }
      upload.Finish();
      for (size_t i = 0; i < host.size(); ++i) EXPECT_EQ(device[i], host[i]) << threads;
    }
  }
}

TEST(StagedUpload, SettlesBeforeItTakesMemory) {
  auto engine = std::make_unique<LazyCopies>(2, 64);
  LazyCopies* copies = engine.get();
  StagedUpload upload(std::move(engine), 1);
  const auto host = Noise(10, 1);
  std::vector<std::byte> device(10);
  upload.Add(device.data(), 10, From(host));
  EXPECT_EQ(copies->settled, 1);
  upload.Finish();
}

TEST(StagedUpload, TheFirstErrorIsToldAndEndsTheRest) {
  auto engine = std::make_unique<LazyCopies>(4, 64);
  engine->fail_at = 3;
  StagedUpload upload(std::move(engine), 2);
  const auto host = Noise(100000, 2);
  std::vector<std::byte> device(host.size());
  upload.Add(device.data(), device.size(), From(host));
  upload.Add(device.data(), device.size(), From(host));
  EXPECT_THROW(upload.Finish(), Error);
}

TEST(StagedUpload, AnErrorOfFillingIsTold) {
  StagedUpload upload(std::make_unique<LazyCopies>(4, 64), 2);
  std::vector<std::byte> device(1000);
  upload.Add(device.data(), device.size(), [](std::span<std::byte>, size_t offset) {
    if (offset == 640) throw Error(ErrorKind::kCheckpoint, "the file ended");
  });
  EXPECT_THROW(upload.Finish(), Error);
}

TEST(StagedUpload, BuffersThatCannotBeMadeAreTold) {
  auto engine = std::make_unique<LazyCopies>(4, 64);
  engine->fail_to_make = 2;  // of the second thread
  StagedUpload upload(std::move(engine), 2);
  const auto host = Noise(5000, 4);
  std::vector<std::byte> device(host.size());
  try {
    // Until that thread has come so far, the other one may do all the work.
    for (;;) {
      upload.Add(device.data(), device.size(), From(host));
      upload.Finish();
    }
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCapacity);
  }
}

TEST(StagedUpload, MayBeGivenUp) {
  const auto host = Noise(100000, 3);
  std::vector<std::byte> device(host.size());
  StagedUpload upload(std::make_unique<LazyCopies>(2, 64), 1);
  upload.Add(device.data(), 2000, From(host));
}

}  // namespace
}  // namespace xcomposer
