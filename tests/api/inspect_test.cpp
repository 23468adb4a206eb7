#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "api/demo_model.h"
#include "api/random_model.h"
#include "base/sha256.h"
#include "checkpoint/scratch_directory.h"
#include "xcomposer/checkpoint.h"

namespace xcomposer {
namespace {

namespace fs = std::filesystem;
using testing_support::ExpectError;
using testing_support::kDemo;
using testing_support::ScratchDirectory;

TEST(Inspect, TheDemoIsWhole) {
  const CheckpointReport report = Inspect(kDemo);
  EXPECT_EQ(report.kind, "2-vl-7b");
  EXPECT_TRUE(report.ok());
  EXPECT_EQ(report.bytes, 2 * report.parameters);
  EXPECT_LE(report.bytes, 8'000'000) << "the shipped file is to be small";
}

TEST(Inspect, ListsWhatAConfigWithMoreLayersMisses) {
  const ScratchDirectory folder;
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

std::string Sha256(std::string_view text) {
  Sha256Hasher hasher;
  hasher.Add(text);
  return hasher.Finish();
}

TEST(Digest, HashesEveryByteOfTheWeightFiles) {
  const ScratchDirectory folder;
  Convert(kDemo, folder.path() / "model", {.max_shard_bytes = 1'000'000, .progress = {}});
  const std::string model = folder.path() / "model";
  std::vector<DigestProgress> steps;
  const CheckpointDigest before =
      Digest(model, [&](const DigestProgress& step) { steps.push_back(step); });
  ASSERT_GT(before.files.size(), 1u);
  int64_t bytes = 0;
  for (const FileDigest& file : before.files) {
    const std::string content = folder.Read("model/" + file.name);
    EXPECT_EQ(file.bytes, static_cast<int64_t>(content.size()));
    EXPECT_EQ(file.sha256, Sha256(content)) << file.name;
    bytes += file.bytes;
  }
  ASSERT_FALSE(steps.empty());
  EXPECT_EQ(steps.front().file, before.files.front().name);
  EXPECT_EQ(steps.back().file, before.files.back().name);
  int64_t done = 0;
  for (const DigestProgress& step : steps) {
    EXPECT_EQ(step.bytes_total, bytes);
    EXPECT_GT(step.bytes_done, done);
    done = step.bytes_done;
  }
  EXPECT_EQ(done, bytes);

  // The last byte of the last file.
  const std::string last = "model/" + before.files.back().name;
  std::string content = folder.Read(last);
  content.back() = static_cast<char>(content.back() ^ 1);
  folder.Write(last, content);
  const CheckpointDigest after = Digest(model);
  EXPECT_EQ(after.files.front().sha256, before.files.front().sha256);
  EXPECT_EQ(after.files.back().sha256, Sha256(content));
  EXPECT_EQ(before.fingerprint.size(), 64u);
  EXPECT_NE(after.fingerprint, before.fingerprint);
}

TEST(Digest, AFolderThatIsNoCheckpointIsRefused) {
  const ScratchDirectory empty;
  for (const std::string& model : {std::string("/no/such/folder"), empty.path().string()}) {
    ExpectError(ErrorKind::kCheckpoint, model, [&] { Digest(model); });
  }
}

TEST(Digest, WhatProgressThrowsIsThrown) {
  ExpectError(ErrorKind::kCancelled, "enough", [] {
    Digest(kDemo, [](const DigestProgress&) { throw Error(ErrorKind::kCancelled, "enough"); });
  });
  EXPECT_THROW(Digest(kDemo, [](const DigestProgress&) { throw 1; }), int);
}

TEST(Convert, KeepsEveryTensorAndLoadsAgain) {
  const ScratchDirectory folder;
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

TEST(Convert, MatricesIn12BitsAreTheSameModel) {
  const ScratchDirectory folder;
  const fs::path out = folder.path() / "bf12";
  const CheckpointReport before = Inspect(kDemo);
  const ConvertSummary summary = Convert(kDemo, out, {.matrices = MatrixFormat::kBf12});
  EXPECT_EQ(summary.packed, 5 * before.layers + 1);
  EXPECT_EQ(summary.kept, 0);
  EXPECT_LT(summary.bytes, before.bytes);
  const CheckpointReport after = Inspect(out);
  EXPECT_TRUE(after.ok());
  EXPECT_EQ(after.parameters, before.parameters);
  EXPECT_EQ(after.quantization, "none");
  ASSERT_EQ(after.notes.size(), 1u);
  EXPECT_NE(after.notes[0].find("16 matrices are stored in 12 bits"), std::string::npos);

  const fs::path back = folder.path() / "back";
  const ConvertSummary unpacked =
      Convert(out, back, {.matrices = MatrixFormat::kBFloat16, .threads = 1});
  EXPECT_EQ(unpacked.unpacked, summary.packed);
  EXPECT_EQ(unpacked.bytes, before.bytes);
  EXPECT_EQ(unpacked.tensors, static_cast<int64_t>(before.tensors.size()));
  EXPECT_EQ(Convert(out, folder.path() / "copy").bytes, summary.bytes) << "as it is stored";

  const auto load = [](const fs::path& model, const std::function<void(EngineOptions&)>& change) {
    EngineOptions options;
    options.model = model;
    if (change) change(options);
    return Engine::Load(options);
  };
  const std::vector<int32_t> expected =
      testing_support::LoadDemo().Generate(testing_support::IdRequest(6)).output_ids;
  for (const StorageType dtype :
       {StorageType::kAuto, StorageType::kBFloat16, StorageType::kFloat32, StorageType::kFloat16}) {
    Engine engine = load(out, [&](EngineOptions& options) { options.dtype = dtype; });
    EXPECT_EQ(engine.Generate(testing_support::IdRequest(6)).output_ids, expected);
    const StagePlacement stage = engine.placement().stages.front();
    EXPECT_LE(stage.weights, stage.planned.weights) << static_cast<int>(dtype);
    EXPECT_GT(stage.weights, stage.planned.weights - stage.planned.weights / 100);
  }
  for (const WeightPrecision weights : {WeightPrecision::kInt8, WeightPrecision::kInt4}) {
    const auto quantised = [&](EngineOptions& options) { options.weights = weights; };
    EXPECT_EQ(load(out, quantised).Generate(testing_support::IdRequest(6)).output_ids,
              load(kDemo, quantised).Generate(testing_support::IdRequest(6)).output_ids);
  }
  const Engine packed =
      load(out, [](EngineOptions& options) { options.weights = WeightPrecision::kBf12; });
  EXPECT_EQ(packed.placement().stages.front().weights,
            load(out, {}).placement().stages.front().weights);
  const api::PlanSubject drawn = api::ReadRandomSubject(out.string());
  EXPECT_FALSE(drawn.stored.bf12) << "drawn weights are bfloat16";
  EXPECT_TRUE(drawn.config.in_12_bits.empty());
  EXPECT_EQ(api::ReadPlanSubject(out.string(), "").config.in_12_bits.size(), 16u);
  ExpectError(ErrorKind::kUsage, "threads is -1", [&] {
    Convert(out, folder.path() / "x", {.matrices = MatrixFormat::kBf12, .threads = -1});
  });
}

}  // namespace
}  // namespace xcomposer
