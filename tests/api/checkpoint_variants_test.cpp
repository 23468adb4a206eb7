// Checkpoints that hold other tensors than the published ones of their kind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "api/demo_model.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/dense_copy.h"
#include "checkpoint/safetensors_writer.h"
#include "checkpoint/scratch_directory.h"
#include "xcomposer/checkpoint.h"

namespace xcomposer {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing_support::ExpectError;
using testing_support::kDemo;
using testing_support::ScratchDirectory;

// The tensors of `from` whose names `keeps` likes, and float32 vectors of the names `more`.
void WriteVariant(const fs::path& from, const ScratchDirectory& to,
                  const std::function<bool(const std::string&)>& keeps,
                  const std::vector<std::string>& more) {
  const Checkpoint checkpoint = Checkpoint::Open(from);
  std::vector<TensorSource> sources;
  for (const TensorEntry& entry : checkpoint.entries()) {
    if (!keeps(entry.name)) continue;
    sources.push_back({entry.name, entry.dtype, entry.shape, [&](const ByteSink& sink) {
                         ForEachDenseChunk(entry, checkpoint.Bytes(entry), sink);
                       }});
  }
  const std::vector<std::byte> zeros(8);
  for (const std::string& name : more) {
    sources.push_back({name, DType::kF32, {2}, [&](const ByteSink& sink) { sink(zeros); }});
  }
  WriteSafetensors(sources, to.path(), {});
  for (const char* file : {"config.json", "tokenizer.model"}) {
    if (fs::exists(from / file)) fs::copy_file(from / file, to.path() / file);
  }
}

Engine Load(const ScratchDirectory& folder) {
  EngineOptions options;
  options.model = folder.path().string();
  return Engine::Load(options);
}

bool All(const std::string&) { return true; }

TEST(CheckpointVariants, TensorsBesideTheModelAreListedAndPassedOver) {
  const ScratchDirectory folder;
  WriteVariant(kDemo, folder, All, {"v_head.bias", "a_head.bias"});
  const CheckpointReport report = Inspect(folder.path().string());
  EXPECT_TRUE(report.ok());
  EXPECT_THAT(report.unexpected, ElementsAre("a_head.bias", "v_head.bias"));
  EXPECT_THAT(report.unused, ElementsAre("a_head.bias", "v_head.bias"));
  EXPECT_THAT(report.notes, Contains(HasSubstr("a_head.bias, v_head.bias")));
  Engine original = testing_support::LoadDemo();
  Engine variant = Load(folder);
  EXPECT_EQ(variant.Generate(testing_support::IdRequest(6)).output_ids,
            original.Generate(testing_support::IdRequest(6)).output_ids);
}

TEST(CheckpointVariants, TensorsOfTheModelThatNobodyReadsAreRefused) {
  const ScratchDirectory folder;
  const std::string adapter = "model.layers.0.attention.wo.lora_web_A.weight";
  WriteVariant(kDemo, folder, All, {adapter, "v_head.bias"});
  const CheckpointReport report = Inspect(folder.path().string());
  EXPECT_FALSE(report.ok());
  EXPECT_THAT(report.unexpected, ElementsAre(adapter, "v_head.bias"));
  EXPECT_THAT(report.unused, ElementsAre("v_head.bias"));
  ExpectError(ErrorKind::kCheckpoint, "1 unexpected:\n  " + adapter, [&] { Load(folder); });
}

// internlm-xcomposer2d5-ol-7b: 2.5 without the three extra adapters (model specification 2.3).
TEST(CheckpointVariants, TheOmniLiveSiblingOf25RunsWithoutAdapters) {
  const fs::path golden = XCOMPOSER_SHARED_DIR "/data/goldens/2.5-7b/model";
  if (!fs::exists(golden)) GTEST_SKIP() << golden << " is not there";
  const ScratchDirectory folder;
  WriteVariant(golden, folder,
               [](const std::string& name) { return name.find(".lora_") == std::string::npos; },
               {"video_mem_proj.0.weight", "video_mem_proj.0.bias", "video_mem_proj.2.weight",
                "video_mem_proj.2.bias"});
  const CheckpointReport report = Inspect(folder.path().string());
  EXPECT_TRUE(report.ok());
  EXPECT_EQ(report.kind, "2.5-7b");
  EXPECT_THAT(report.unexpected, IsEmpty());
  EXPECT_THAT(report.notes, IsEmpty());

  Engine sibling = Load(folder);
  Request request;
  request.token_ids = {1, 5, 6, 7};
  request.generation.do_sample = false;
  request.generation.max_new_tokens = 4;
  EngineOptions options;
  options.model = golden.string();
  // "base" is what remains, and the same in both.
  EXPECT_EQ(sibling.Generate(request).output_ids,
            Engine::Load(options).Generate(request).output_ids);
  for (const InferMode mode : {InferMode::kWeb, InferMode::kWrite}) {
    request.infer_mode = mode;
    ExpectError(ErrorKind::kRequest, "this checkpoint has no adapter",
                [&] { sibling.Generate(request); });
  }
}

}  // namespace
}  // namespace xcomposer
