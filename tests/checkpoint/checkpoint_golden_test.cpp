// The reference checkpoints, compared with what PyTorch and the safetensors package read from them.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/check.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/dense_copy.h"

namespace xcomposer {
namespace {

const std::filesystem::path kGoldens = std::filesystem::path(XCOMPOSER_SHARED_DIR) / "data/goldens";

// The CRC of zlib, continued from `crc`.
uint32_t Crc32(uint32_t crc, std::span<const std::byte> bytes) {
  crc = ~crc;
  for (const std::byte byte : bytes) {
    crc ^= static_cast<uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1u)));
  }
  return ~crc;
}

struct Expected {
  const char* folder;
  int64_t files;
  int64_t tensors;
  int64_t bytes;
  uint32_t crc;  // over "name dtype shape" and the dense bytes of each tensor, by name
};

class Goldens : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::is_directory(kGoldens)) GTEST_SKIP() << "no goldens at " << kGoldens;
  }
};

TEST_F(Goldens, EveryTensorIsWhatPythonReads) {
  const std::vector<Expected> table = {
      {"2-4khd-7b/model", 2, 129, 11757056, 0x5e0317deu},
      {"2-7b/model", 1, 127, 12619264, 0x75785a63u},
      {"2-vl-7b-4bit/model", 1, 120, 4332416, 0xc1bd11eu},
      {"2-vl-7b-fullvocab/model", 1, 78, 25221888, 0x9e1298b0u},
      {"2-vl-7b/model", 2, 110, 8672000, 0xf30176aau},
      {"2-vl-7b/model-safetensors", 3, 110, 8672000, 0xf30176aau},
      {"2.5-7b-4bit/model", 2, 146, 4482944, 0x7bf1c572u},
      {"2.5-7b-ntk/model", 3, 140, 5190912, 0xed5d7078u},
      {"2.5-7b/model", 3, 219, 14538240, 0x33346f91u},
  };
  for (const Expected& expected : table) {
    SCOPED_TRACE(expected.folder);
    const Checkpoint checkpoint = Checkpoint::Open(kGoldens / expected.folder);
    int64_t bytes = 0;
    uint32_t crc = 0;
    for (const TensorEntry& entry : checkpoint.entries()) {
      bytes += entry.DenseBytes();
      EXPECT_TRUE(entry.IsAligned()) << entry.name;
      EXPECT_EQ(checkpoint.Find(entry.name), &entry);
      const std::string head =
          StrCat(entry.name, " ", ToString(entry.dtype), " ", ShapeText(entry.shape));
      crc = Crc32(crc, std::as_bytes(std::span(head)));
      ForEachDenseChunk(entry, checkpoint.Bytes(entry),
                        [&](std::span<const std::byte> piece) { crc = Crc32(crc, piece); });
    }
    EXPECT_EQ(static_cast<int64_t>(checkpoint.files().size()), expected.files);
    EXPECT_EQ(static_cast<int64_t>(checkpoint.entries().size()), expected.tensors);
    EXPECT_EQ(bytes, expected.bytes);
    EXPECT_EQ(crc, expected.crc);
  }
}

TEST_F(Goldens, TensorsThatShareAStorageOverlap) {
  const Checkpoint checkpoint = Checkpoint::Open(kGoldens / "2-vl-7b-fullvocab/model");
  const TensorEntry* embeddings = checkpoint.Find("model.tok_embeddings.weight");
  const TensorEntry* output = checkpoint.Find("output.weight");
  ASSERT_TRUE(embeddings != nullptr && output != nullptr);
  EXPECT_EQ(embeddings->shape, output->shape);
  const int64_t distance = std::abs(embeddings->offset - output->offset);
  EXPECT_GT(distance, 0);
  EXPECT_LT(distance, embeddings->byte_length);
}

TEST_F(Goldens, QuantisedCheckpointsKeepTheirTypesAndMetadata) {
  const Checkpoint checkpoint = Checkpoint::Open(kGoldens / "2-vl-7b-4bit/model");
  EXPECT_EQ(checkpoint.files()[0].format, WeightFormat::kSafetensors);
  EXPECT_EQ(checkpoint.metadata().at("gptq_bits"), "4");
  const TensorEntry* words = checkpoint.Find("model.layers.0.attention.wo.linear.qweight");
  const TensorEntry* scales = checkpoint.Find("model.layers.0.attention.wo.linear.scales");
  ASSERT_TRUE(words != nullptr && scales != nullptr);
  EXPECT_EQ(words->dtype, DType::kI32);
  EXPECT_EQ(scales->dtype, DType::kF16);
  EXPECT_EQ(checkpoint.Find("model.layers.0.attention.wo.linear"), nullptr);
}

TEST_F(Goldens, AMappingOutlivesTheCheckpoint) {
  std::shared_ptr<const MappedFile> mapping;
  TensorEntry entry;
  std::vector<std::byte> before;
  {
    const Checkpoint checkpoint = Checkpoint::Open(kGoldens / "2-7b/model");
    entry = checkpoint.entries().front();
    mapping = checkpoint.Mapping(entry);
    const auto bytes = checkpoint.Bytes(entry);
    before.assign(bytes.begin(), bytes.end());
  }
  const auto after = mapping->bytes().subspan(static_cast<size_t>(entry.offset),
                                              static_cast<size_t>(entry.byte_length));
  EXPECT_TRUE(std::equal(before.begin(), before.end(), after.begin(), after.end()));
}

}  // namespace
}  // namespace xcomposer
