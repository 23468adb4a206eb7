#include "checkpoint/fingerprint.h"

#include <gtest/gtest.h>

#include "base/sha256.h"
#include "checkpoint/safetensors_maker.h"
#include "checkpoint/scratch_directory.h"

namespace xcomposer {
namespace {

using testing_support::GoodSafetensors;
using testing_support::MakeSafetensors;
using testing_support::ScratchDirectory;

std::string FingerprintOf(const std::string& file) {
  const ScratchDirectory directory;
  directory.Write("model.safetensors", file);
  return WeightFingerprint(Checkpoint::Open(directory.path()));
}

/// One tensor of `bytes` bytes.
std::string OneTensor(const std::string& name, const std::string& bytes,
                      const std::string& dtype = "U8") {
  return MakeSafetensors(R"({")" + name + R"(":{"dtype":")" + dtype + R"(","shape":[)" +
                             std::to_string(bytes.size()) + R"(],"data_offsets":[0,)" +
                             std::to_string(bytes.size()) + "]}}",
                         bytes);
}

TEST(Fingerprint, DiffersWithNamesTypesSizesAndSampledBytes) {
  const std::string bytes(400'000, 'x');
  const std::string expected = FingerprintOf(OneTensor("a", bytes));
  EXPECT_EQ(FingerprintOf(OneTensor("a", bytes)), expected);
  EXPECT_EQ(expected.size(), 64u);
  EXPECT_NE(FingerprintOf(OneTensor("b", bytes)), expected);
  EXPECT_NE(FingerprintOf(OneTensor("a", bytes, "I8")), expected);
  EXPECT_NE(FingerprintOf(OneTensor("a", bytes + "x")), expected);
  for (const size_t place : {size_t{0}, bytes.size() / 2, bytes.size() - 1}) {
    std::string other = bytes;
    other[place] = 'y';
    EXPECT_NE(FingerprintOf(OneTensor("a", other)), expected) << place;
  }
  std::string elsewhere = bytes;
  elsewhere[100'000] = 'y';  // between the samples, as its description says
  EXPECT_EQ(FingerprintOf(OneTensor("a", elsewhere)), expected);
}

TEST(Fingerprint, DoesNotDependOnTheFolder) {
  EXPECT_EQ(FingerprintOf(GoodSafetensors()), FingerprintOf(GoodSafetensors()));
}

TEST(Fingerprint, AFilesHashIsThatOfAllItsBytes) {
  const ScratchDirectory directory;
  const std::string bytes(2'500'000, 'q');
  directory.Write("f", bytes);
  Sha256Hasher hasher;
  hasher.Add(bytes);
  int64_t seen = 0;
  EXPECT_EQ(FileHash(directory.path() / "f", [&](int64_t done) { seen = done; }), hasher.Finish());
  EXPECT_EQ(seen, 2'500'000);
}

}  // namespace
}  // namespace xcomposer
