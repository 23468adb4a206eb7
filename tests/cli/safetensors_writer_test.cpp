#include "safetensors_writer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "xcomposer/error.h"

namespace xcomposer::cli {
namespace {

namespace fs = std::filesystem;

class WriterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("xcomposer_writer_" + std::to_string(::getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  static std::string Read(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }

  fs::path folder_;
};

TEST_F(WriterTest, WritesWhatTheFormatSays) {
  SafetensorsWriter writer(folder_ / "out.safetensors");
  writer.Add("mask", {3}, std::vector<uint8_t>{1, 0, 7});
  writer.Add("hidden", {1, 2}, std::vector<float>{1.5f, -2.0f});
  writer.Finish({{"rows", "0,1"}});

  const std::string file = Read(folder_ / "out.safetensors");
  uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof(length));
  EXPECT_EQ(length % 8, 0u);
  const auto header = nlohmann::json::parse(file.substr(8, length));
  EXPECT_EQ(header["__metadata__"]["rows"], "0,1");
  EXPECT_EQ(header["hidden"]["dtype"], "F32");
  EXPECT_EQ(header["hidden"]["shape"], nlohmann::json({1, 2}));
  // Floats first, so that they are aligned whatever the lengths of the byte tensors.
  EXPECT_EQ(header["hidden"]["data_offsets"], nlohmann::json({0, 8}));
  EXPECT_EQ(header["mask"]["dtype"], "U8");
  EXPECT_EQ(header["mask"]["data_offsets"], nlohmann::json({8, 11}));
  EXPECT_EQ(file.size(), 8 + length + 11);
  float second = 0;
  std::memcpy(&second, file.data() + 8 + length + 4, sizeof(second));
  EXPECT_EQ(second, -2.0f);
  EXPECT_EQ(file.back(), 7);
}

TEST_F(WriterTest, LeavesNothingBehindWhenItIsNotFinished) {
  {
    SafetensorsWriter writer(folder_ / "out.safetensors");
    writer.Add("x", {1}, std::vector<float>{1});
  }
  EXPECT_TRUE(fs::is_empty(folder_));
}

// Written at the end, so that a device would have been replaced by a file.
TEST_F(WriterTest, RefusesAPathThatIsNoFile) {
  for (const fs::path& path : {folder_, fs::path("/dev/null")}) {
    try {
      SafetensorsWriter writer(path);
      FAIL() << path;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      EXPECT_EQ(error.where().at("file"), path.string());
    }
  }
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

TEST_F(WriterTest, RefusesAFolderThatIsNotThere) {
  try {
    SafetensorsWriter writer(folder_ / "gone" / "out.safetensors");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
  }
}

}  // namespace
}  // namespace xcomposer::cli
