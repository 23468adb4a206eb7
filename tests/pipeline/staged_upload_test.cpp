#include "pipeline/staged_upload.h"

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "lazy_device.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

/// A tensor on its way, and what it must become.
class Sent {
 public:
  /// Numbers of the sizes that float16 has room for.
  Sent(int64_t rows, int64_t columns, int64_t row_stride, at::ScalarType stored)
      : host_(at::arange(rows * columns, at::kFloat)
                  .mul(0.37f)
                  .sub(30.0f)
                  .view({rows, columns})
                  .to(stored)),
        device_(at::full({rows, row_stride}, kGap, at::kHalf)) {}

  UploadTensor Target() {
    return {.stored = host_.scalar_type(),
            .count = host_.numel(),
            .target = device_.data_ptr(),
            .type = at::kHalf,
            .columns = host_.size(1),
            .row_stride = device_.size(1),
            .losses = losses_};
  }

  StagedUpload::Fill Fill() const {
    return [this](std::span<std::byte> out, size_t offset) {
      const auto* bytes = static_cast<const std::byte*>(host_.const_data_ptr());
      std::memcpy(out.data(), bytes + offset, out.size());
    };
  }

  void Forget() { device_.fill_(kGap); }

  void ExpectArrived() const {
    const int64_t columns = host_.size(1);
    const int64_t gaps = device_.size(1) - columns;
    EXPECT_TRUE(device_.narrow(1, 0, columns).equal(host_.to(at::kHalf))) << host_.sizes();
    EXPECT_TRUE(device_.narrow(1, columns, gaps).eq(kGap).all().item<bool>()) << host_.sizes();
    EXPECT_EQ(losses_[0], 0);
  }

 private:
  static constexpr float kGap = -7.0f;

  at::Tensor host_;
  at::Tensor device_;
  int64_t losses_[2] = {0, 0};
};

/// Of every kind: as it is, converted, with rows apart; less than a buffer of 64 bytes, one, more.
std::vector<Sent> ManyTensors() {
  std::vector<Sent> all;
  for (const at::ScalarType stored : {at::kHalf, at::kBFloat16, at::kFloat}) {
    for (const int64_t columns : {1, 16, 31, 32, 33}) {
      for (const int64_t rows : {1, 2, 7}) {
        all.emplace_back(rows, columns, columns, stored);
        all.emplace_back(rows, columns, columns + 5, stored);
      }
    }
    all.emplace_back(40, 200, 200, stored);
    all.emplace_back(40, 200, 264, stored);
  }
  all.emplace_back(0, 3, 3, at::kHalf);
  return all;
}

TEST(StagedUpload, BringsEveryNumberToItsPlace) {
  for (const size_t threads : {1, 2, 5}) {
    std::vector<Sent> all = ManyTensors();
    StagedUpload upload(std::make_unique<LazyDevice>(2 * threads, 64), threads);
    for (int round = 0; round < 2; ++round) {  // it can be used again after Finish
      for (Sent& tensor : all) {
        tensor.Forget();
        upload.Add(tensor.Target(), tensor.Fill());
      }
      upload.Finish();
      for (const Sent& tensor : all) tensor.ExpectArrived();
    }
  }
}

/// The numbers of the buffers that a stream's steps name, if the steps are `wanted` ("stage",
/// "mark", "place") over and over.
std::vector<int> BuffersOf(const std::vector<std::string>& log,
                           const std::vector<std::string>& wanted) {
  std::vector<int> buffers;
  EXPECT_EQ(log.size() % wanted.size(), 0u);
  for (size_t i = 0; i < log.size(); ++i) {
    const std::string& step = wanted[i % wanted.size()];
    EXPECT_EQ(log[i].substr(0, step.size()), step) << i;
    if (log[i].size() > step.size()) buffers.push_back(std::stoi(log[i].substr(step.size())));
  }
  return buffers;
}

TEST(StagedUpload, StepsOfAPieceFollowEachOther) {
  Sent plain(60, 200, 200, at::kHalf);
  Sent apart(60, 200, 216, at::kHalf);
  Sent converted(60, 200, 200, at::kBFloat16);
  for (Sent* tensor : {&plain, &apart, &converted}) {
    auto owner = std::make_unique<LazyDevice>(10, 64);
    LazyDevice* const device = owner.get();
    StagedUpload upload(std::move(owner), 5);
    upload.Add(tensor->Target(), tensor->Fill());
    upload.Finish();
    for (size_t stream = 0; stream < LazyDevice::kStreams; ++stream) {
      using Steps = std::vector<std::string>;
      // A buffer may be filled again as soon as it was copied.
      const Steps wanted =
          tensor == &plain ? Steps{"copy", "mark"} : Steps{"stage", "mark", "place"};
      const std::vector<int> buffers = BuffersOf(device->Log(stream), wanted);
      for (size_t i = 0; i + 1 < buffers.size(); i += 2) ASSERT_EQ(buffers[i], buffers[i + 1]);
    }
    tensor->ExpectArrived();
  }
}

TEST(StagedUpload, LossesAreCountedOverAllPieces) {
  std::vector<float> numbers(1000, 1.0f);
  numbers[3] = numbers[500] = numbers[999] = -1e6f;
  numbers[7] = numbers[998] = 1e-20f;
  std::vector<uint16_t> device(numbers.size());
  int64_t losses[2] = {0, 0};
  StagedUpload upload(std::make_unique<LazyDevice>(4, 64), 2);
  upload.Add({.stored = at::kFloat,
              .count = 1000,
              .target = device.data(),
              .type = at::kHalf,
              .columns = 1000,
              .row_stride = 1000,
              .losses = losses},
             [&numbers](std::span<std::byte> out, size_t offset) {
               std::memcpy(out.data(), reinterpret_cast<const std::byte*>(numbers.data()) + offset,
                           out.size());
             });
  upload.Finish();
  EXPECT_EQ(losses[0], 3);
  EXPECT_EQ(losses[1], 2);
}

TEST(StagedUpload, SettlesBeforeItTakesMemory) {
  auto owner = std::make_unique<LazyDevice>(2, 64);
  LazyDevice* const device = owner.get();
  Sent tensor(1, 5, 5, at::kHalf);
  StagedUpload upload(std::move(owner), 1);
  upload.Add(tensor.Target(), tensor.Fill());
  EXPECT_EQ(device->settled, 1);
  upload.Finish();
}

TEST(StagedUpload, TheFirstErrorIsToldAndEndsTheRest) {
  Sent plain(100, 200, 200, at::kHalf);
  Sent converted(100, 200, 200, at::kBFloat16);
  for (Sent* tensor : {&plain, &converted}) {
    for (int step = 0; step < 8; ++step) {  // whichever it is
      auto owner = std::make_unique<LazyDevice>(4, 64);
      LazyDevice* const device = owner.get();
      device->fail_at = step;
      StagedUpload upload(std::move(owner), 2);
      upload.Add(tensor->Target(), tensor->Fill());
      upload.Add(tensor->Target(), tensor->Fill());
      EXPECT_THROW(upload.Finish(), Error);
      const size_t begun = device->Log(0).size() + device->Log(1).size();
      upload.Add(tensor->Target(), tensor->Fill());  // no use any more
      EXPECT_THROW(upload.Finish(), Error);
      EXPECT_EQ(device->Log(0).size() + device->Log(1).size(), begun);
    }
  }
}

TEST(StagedUpload, NoPieceFollowsTheOneThatFailed) {
  Sent tensor(100, 200, 200, at::kHalf);  // 625 pieces of two steps each
  for (int step = 0; step < 4; ++step) {
    auto owner = std::make_unique<LazyDevice>(2, 64);
    LazyDevice* const device = owner.get();
    device->fail_at = step;
    StagedUpload upload(std::move(owner), 1);  // more threads have pieces at hand meanwhile
    upload.Add(tensor.Target(), tensor.Fill());
    EXPECT_THROW(upload.Finish(), Error);
    EXPECT_EQ(device->Log(0).size() + device->Log(1).size(), static_cast<size_t>(step));
  }
}

TEST(StagedUpload, AnErrorOfFillingIsTold) {
  Sent tensor(10, 200, 200, at::kBFloat16);
  StagedUpload upload(std::make_unique<LazyDevice>(4, 64), 2);
  upload.Add(tensor.Target(), [](std::span<std::byte>, size_t offset) {
    if (offset == 640) throw Error(ErrorKind::kCheckpoint, "the file ended");
  });
  EXPECT_THROW(upload.Finish(), Error);
}

TEST(StagedUpload, ADeviceThatIsLostIsTold) {
  auto owner = std::make_unique<LazyDevice>(4, 64);
  owner->fail_to_finish = true;
  Sent tensor(10, 200, 200, at::kBFloat16);
  StagedUpload upload(std::move(owner), 2);
  upload.Add(tensor.Target(), tensor.Fill());
  EXPECT_THROW(upload.Finish(), Error);
}

TEST(StagedUpload, BuffersThatCannotBeMadeAreTold) {
  auto owner = std::make_unique<LazyDevice>(4, 64);
  owner->fail_to_make = 2;  // of the second thread
  Sent tensor(10, 200, 200, at::kBFloat16);
  StagedUpload upload(std::move(owner), 2);
  try {
    // Until that thread has come so far, the other one may do all the work.
    for (;;) {
      upload.Add(tensor.Target(), tensor.Fill());
      upload.Finish();
    }
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCapacity);
  }
}

TEST(StagedUpload, MayBeGivenUp) {
  Sent tensor(100, 200, 200, at::kBFloat16);
  StagedUpload upload(std::make_unique<LazyDevice>(2, 64), 1);
  upload.Add(tensor.Target(), tensor.Fill());
}

}  // namespace
}  // namespace xcomposer
