#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "api/demo_model.h"
#include "checkpoint/scratch_directory.h"
#include "xcomposer/checkpoint.h"

namespace xcomposer {
namespace {

namespace fs = std::filesystem;
using testing_support::kDemo;

TEST(Inspect, TheDemoIsWhole) {
  const CheckpointReport report = Inspect(kDemo);
  EXPECT_EQ(report.kind, "2-vl-7b");
  EXPECT_TRUE(report.ok());
  EXPECT_EQ(report.bytes, 2 * report.parameters);
  EXPECT_LE(report.bytes, 8'000'000) << "the shipped file is to be small";
}

TEST(Inspect, ListsWhatAConfigWithMoreLayersMisses) {
  const testing_support::ScratchDirectory folder;
  for (const auto& file : fs::directory_iterator(kDemo)) {
    fs::copy(file.path(), folder.path() / file.path().filename());
  }
  std::string config = folder.Read("config.json");
  const std::string key = "\"num_hidden_layers\": ";
  const size_t at = config.find(key);
  ASSERT_NE(at, std::string::npos);
  config.insert(at + key.size(), "1");  // 2 becomes 12
  folder.Write("config.json", config);
  const CheckpointReport report = Inspect(folder.path());
  EXPECT_FALSE(report.ok());
  EXPECT_FALSE(report.missing.empty());
  EXPECT_TRUE(report.unexpected.empty());
}

TEST(Convert, KeepsEveryTensorAndLoadsAgain) {
  const testing_support::ScratchDirectory folder;
  const fs::path out = folder.path() / "converted";
  ConvertOptions options;
  options.max_shard_bytes = 1'000'000;
  const ConvertSummary summary = Convert(kDemo, out, options);
  const CheckpointReport before = Inspect(kDemo);
  const CheckpointReport after = Inspect(out);
  EXPECT_GT(after.files.size(), 1u);
  EXPECT_EQ(summary.tensors, static_cast<int64_t>(before.tensors.size()));
  EXPECT_EQ(after.bytes, before.bytes);
  EXPECT_TRUE(after.ok());
  EngineOptions load;
  load.model = out;
  Engine converted = Engine::Load(load);
  Engine original = testing_support::LoadDemo();
  EXPECT_EQ(converted.Generate(testing_support::IdRequest(6)).output_ids,
            original.Generate(testing_support::IdRequest(6)).output_ids);
}

}  // namespace
}  // namespace xcomposer
