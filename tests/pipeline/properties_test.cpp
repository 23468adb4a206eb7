#include <atomic>
#include <functional>
#include <memory>
#include <thread>

#include "close_numbers.h"
#include "gmock/gmock.h"
#include "model/random_weights.h"
#include "pipeline/dry_run.h"
#include "pipeline/pipeline.h"
#include "tiny_model.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

using testing::HasSubstr;

std::unique_ptr<Pipeline> MakePipeline(const ModelConfig& config, size_t stages = 1) {
  RandomWeights weights(7);
  PipelineOptions options;
  options.kv = {.blocks = 64, .block_size = 4};
  options.max_batch_rows = 200;
  return std::make_unique<Pipeline>(
      weights, config, EvenDeviceMap(config, std::vector<std::string>(stages, "cpu")), options);
}

std::vector<int32_t> Blocks(int32_t first, int32_t count) {
  std::vector<int32_t> blocks;
  for (int32_t i = 0; i < count; ++i) blocks.push_back(first + (i * 7) % count);  // out of order
  return blocks;
}

std::vector<float> RunSlice(Pipeline& pipeline, const ModelConfig& config,
                            const TinySequence& sequence, int64_t begin, int64_t end) {
  Batch batch;
  AddSlice(batch, sequence, begin, end, config);
  return pipeline.Forward(batch).values;
}

ErrorKind KindOfError(const std::function<void()>& call, std::string* message = nullptr) {
  try {
    call();
  } catch (const Error& error) {
    if (message) *message = error.what();
    return error.kind();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorKind::kInternal;
}

class EveryKind : public testing::TestWithParam<Kind> {
 protected:
  ModelConfig config_ = TinyModel(GetParam());
};

INSTANTIATE_TEST_SUITE_P(, EveryKind, testing::ValuesIn(kAllKinds), [](const auto& info) {
  std::string name = ToString(info.param);
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
});

TEST_P(EveryKind, RunsDry) { EXPECT_NO_THROW(DryRun(config_)); }

TEST_P(EveryKind, AnswersDoNotDependOnTheSplit) {
  std::vector<float> scores;
  std::vector<float> layer1;
  for (size_t stages = 1; stages <= 4; ++stages) {
    auto pipeline = MakePipeline(config_, stages);
    const EncodedPicture picture = pipeline->Encode(TinyPicture(config_), "image0", {}, {});
    const TinySequence sequence = MakeSequence(picture.rows + 9, picture, Blocks(3, 20));
    Batch batch;
    AddSlice(batch, sequence, 0, picture.rows + 9, config_);
    std::vector<float> tapped;
    batch.taps.wants = [](const std::string& name) { return name == "layer1.out"; };
    batch.taps.put = [&](Tap&& tap) { tapped = tap.values; };
    const Logits logits = pipeline->Forward(batch);
    if (stages == 1) {
      scores = logits.values;
      layer1 = tapped;
      EXPECT_EQ(logits.rows, 1);
    }
    EXPECT_EQ(logits.values, scores) << stages << " stages";
    EXPECT_EQ(tapped, layer1) << stages << " stages";
  }
}

TEST_P(EveryKind, PrefillThenDecodeIsOnePrefill) {
  auto pipeline = MakePipeline(config_);
  const EncodedPicture picture = pipeline->Encode(TinyPicture(config_), "image0", {}, {});
  const int64_t rows = picture.rows + 9;
  const TinySequence whole = MakeSequence(rows, picture, Blocks(0, 20));
  TinySequence pieces = whole;
  pieces.blocks = Blocks(20, 20);
  const std::vector<float> scores = RunSlice(*pipeline, config_, whole, 0, rows);
  RunSlice(*pipeline, config_, pieces, 0, 5);  // ends inside the picture
  RunSlice(*pipeline, config_, pieces, 5, rows - 3);
  for (int64_t row = rows - 3; row < rows - 1; ++row)
    RunSlice(*pipeline, config_, pieces, row, row + 1);
  ExpectClose(RunSlice(*pipeline, config_, pieces, rows - 1, rows), scores);
}

TEST_P(EveryKind, RaggedBatchIsItsSequencesOneByOne) {
  auto pipeline = MakePipeline(config_);
  const EncodedPicture picture = pipeline->Encode(TinyPicture(config_), "image0", {}, {});
  std::vector<TinySequence> sequences = {MakeSequence(picture.rows + 4, picture, Blocks(0, 18)),
                                         MakeSequence(11, {}, Blocks(18, 3)),
                                         MakeSequence(23, {}, Blocks(21, 6))};
  if (GetParam() == Kind::k25_7b) {
    sequences[1].adapter = Adapter::kWeb;
    sequences[2].adapter = Adapter::kWrite;
  }
  std::vector<std::vector<float>> alone;
  for (const TinySequence& sequence : sequences) {
    const auto rows = static_cast<int64_t>(sequence.ids.size());
    alone.push_back(RunSlice(*pipeline, config_, sequence, 0, rows));
  }
  // The second one decodes its last row while the others are being prefilled.
  RunSlice(*pipeline, config_, sequences[1], 0, 10);
  Batch batch;
  AddSlice(batch, sequences[0], 0, picture.rows + 4, config_);
  AddSlice(batch, sequences[1], 10, 11, config_);
  AddSlice(batch, sequences[2], 0, 23, config_);
  batch.sequences[0].wants_logits = false;
  const Logits logits = pipeline->Forward(batch);
  ASSERT_EQ(logits.rows, 2);
  const auto middle = logits.values.begin() + config_.vocab_size;
  ExpectClose({logits.values.begin(), middle}, alone[1]);
  ExpectClose({middle, logits.values.end()}, alone[2]);
}

TEST_P(EveryKind, PicturesChangeAnswersAndPloraTheirRows) {
  const auto answer = [&](const ModelConfig& config, bool with_picture) {
    auto pipeline = MakePipeline(config);
    EncodedPicture picture;
    if (with_picture) picture = pipeline->Encode(TinyPicture(config), "image0", {}, {});
    const TinySequence sequence = MakeSequence(60, picture, Blocks(0, 15));
    return RunSlice(*pipeline, config, sequence, 0, 60);
  };
  ModelConfig without = config_;
  for (PloraShape& plora : without.plora) plora.scale = 0.0;
  EXPECT_EQ(answer(config_, false), answer(without, false)) << "PLoRA touched text rows";
  EXPECT_NE(answer(config_, true), answer(without, true)) << "PLoRA left picture rows alone";
  EXPECT_NE(answer(config_, true), answer(config_, false));
}

TEST(Pipeline, AdaptersOf25ChangeTheirOwnRequestsOnly) {
  const ModelConfig config = TinyModel(Kind::k25_7b);
  auto pipeline = MakePipeline(config);
  TinySequence sequence = MakeSequence(12, {}, Blocks(0, 3));
  std::vector<std::vector<float>> answers;
  for (const Adapter adapter : {Adapter::kBase, Adapter::kWeb, Adapter::kWrite, Adapter::kBase}) {
    sequence.adapter = adapter;
    answers.push_back(RunSlice(*pipeline, config, sequence, 0, 12));
  }
  EXPECT_NE(answers[0], answers[1]);
  EXPECT_NE(answers[0], answers[2]);
  EXPECT_NE(answers[1], answers[2]);
  EXPECT_EQ(answers[0], answers[3]);
  const ModelConfig plain = TinyModel(Kind::kVl7b);
  auto without = MakePipeline(plain);
  sequence.adapter = Adapter::kWeb;
  std::string message;
  EXPECT_EQ(KindOfError([&] { RunSlice(*without, plain, sequence, 0, 12); }, &message),
            ErrorKind::kRequest);
  EXPECT_THAT(message, HasSubstr("web"));
}

TEST(Pipeline, CopiedBlocksContinueLikeTheirOriginal) {
  const ModelConfig config = TinyModel(Kind::kVl7b);
  auto pipeline = MakePipeline(config, 2);
  const TinySequence original = MakeSequence(7, {}, {4, 9});
  RunSlice(*pipeline, config, original, 0, 6);
  TinySequence fork = original;
  fork.blocks = {4, 12};  // shares the full block, owns a copy of the open one
  Batch batch;
  AddSlice(batch, fork, 6, 7, config);
  batch.copies.push_back({9, 12});
  const std::vector<float> forked = pipeline->Forward(batch).values;
  EXPECT_EQ(forked, RunSlice(*pipeline, config, original, 6, 7));
}

TEST(Pipeline, AllRowsCanBeScored) {
  const ModelConfig config = TinyModel(Kind::kVl7b);
  auto pipeline = MakePipeline(config);
  const TinySequence sequence =
      MakeSequence(150, {}, Blocks(0, 40));  // more than one round of scoring
  const std::vector<float> last = RunSlice(*pipeline, config, sequence, 0, 150);
  Batch batch;
  AddSlice(batch, sequence, 0, 150, config);
  batch.all_logits = true;
  const Logits all = pipeline->Forward(batch);
  ASSERT_EQ(all.rows, 150);
  ExpectClose({all.values.end() - config.vocab_size, all.values.end()}, last);
}

TEST(Pipeline, TracesUnderTheNamesOfTheCommandLine) {
  const ModelConfig config = TinyModel(Kind::k4khd7b);
  auto pipeline = MakePipeline(config, 2);
  std::map<std::string, std::vector<int64_t>> shapes;
  TapSink taps;
  taps.wants = [](const std::string&) { return true; };
  taps.put = [&](Tap&& tap) {
    int64_t count = 1;
    for (const int64_t extent : tap.shape) count *= extent;
    EXPECT_EQ(static_cast<int64_t>(tap.values.size() + tap.bytes.size()), count) << tap.name;
    shapes[tap.name] = tap.shape;
  };
  const EncodedPicture picture = pipeline->Encode(TinyPicture(config), "image0", taps, {});
  EXPECT_EQ(picture.rows, (2 + 1) * 4 + 1 + (1 + 1) * 2);  // (h w + 1) m^2 + 1 + (h + 1) m
  const TinySequence sequence = MakeSequence(picture.rows + 5, picture, Blocks(0, 8));
  Batch batch;
  AddSlice(batch, sequence, 0, picture.rows + 5, config);
  batch.taps = taps;
  pipeline->Forward(batch);
  const int64_t rows = picture.rows + 5;
  const std::map<std::string, std::vector<int64_t>> expected = {
      {"image0.rgb", {56, 112, 3}},
      {"image0.vit", {3, 16, 64}},
      {"image0.embeds", {picture.rows, 96}},
      {"inputs_embeds", {rows, 96}},
      {"im_mask", {rows}},
      {"layer0.out", {rows, 96}},
      {"layer1.out", {rows, 96}},
      {"layer2.out", {rows, 96}},
      {"final_norm.out", {rows, 96}}};
  EXPECT_EQ(shapes, expected);
}

TEST(Pipeline, WhatAPictureTracesIsToldOnTheThreadThatAsked) {
  const ModelConfig config = TinyModel(Kind::k4khd7b);
  auto pipeline = MakePipeline(config, 2);
  std::vector<std::thread::id> told;
  TapSink taps;
  taps.wants = [](const std::string&) { return true; };
  taps.put = [&](Tap&&) { told.push_back(std::this_thread::get_id()); };
  pipeline->Encode(TinyPicture(config), "image0", taps, {});
  EXPECT_THAT(told, testing::SizeIs(3));
  EXPECT_THAT(told, testing::Each(std::this_thread::get_id()));
}

TEST(Pipeline, PicturesThatAreJoinedToTextAreCounted) {
  const ModelConfig config = TinyModel(Kind::kVl7b);
  PipelineOptions options;
  options.kv = {.blocks = 64, .block_size = 4};
  options.memory = std::make_shared<StageMemoryBook>();
  RandomWeights weights(7);
  Pipeline pipeline(weights, config, EvenDeviceMap(config, {"cpu", "cpu"}), options);
  const EncodedPicture picture = pipeline.Encode(TinyPicture(config), "image0", {}, {});
  const TinySequence sequence = MakeSequence(picture.rows + 9, picture, Blocks(0, 20));
  const StageMemory& first = options.memory->at(0);
  RunSlice(pipeline, config, MakeSequence(5, {}, Blocks(20, 2)), 0, 5);
  EXPECT_EQ(first.joins, 0);
  RunSlice(pipeline, config, sequence, 0, 5);  // its first three rows
  EXPECT_EQ(first.joins, 1);
  EXPECT_EQ(first.joined_rows, 3);
  RunSlice(pipeline, config, sequence, 5, picture.rows + 9);
  EXPECT_EQ(first.joins, 2);
  EXPECT_EQ(first.joined_rows, picture.rows);
  EXPECT_EQ(options.memory->at(1).joins, 0);
}

TEST(Pipeline, ReleasedPicturesAreUnknown) {
  const ModelConfig config = TinyModel(Kind::kVl7b);
  auto pipeline = MakePipeline(config);
  const EncodedPicture released = pipeline->Encode(TinyPicture(config), "image0", {}, {});
  const EncodedPicture kept = pipeline->Encode(TinyPicture(config), "image1", {}, {});
  const int64_t rows = kept.rows + 4;
  const auto answer = [&](const EncodedPicture& picture) {
    return RunSlice(*pipeline, config, MakeSequence(rows, picture, Blocks(0, 20)), 0, rows);
  };
  const std::vector<float> before = answer(released);
  pipeline->Release(released.feature);
  std::string message;
  EXPECT_EQ(KindOfError([&] { answer(released); }, &message), ErrorKind::kInternal);
  EXPECT_THAT(message, HasSubstr("unknown picture features " + std::to_string(released.feature)));
  EXPECT_EQ(answer(kept), before);
}

TEST(Pipeline, ErrorsLeaveItUsable) {
  const ModelConfig config = TinyModel(Kind::kVl7b);
  auto pipeline = MakePipeline(config);
  const TinySequence sequence = MakeSequence(5, {}, Blocks(0, 2));
  const std::vector<float> before = RunSlice(*pipeline, config, sequence, 0, 5);

  for (const int32_t id : {-1, -7, 211, 1 << 30}) {
    TinySequence wrong = sequence;
    wrong.ids[3] = id;
    Batch batch;
    AddSlice(batch, wrong, 0, 5, config);
    batch.features.clear();
    EXPECT_EQ(KindOfError([&] { pipeline->Forward(batch); }), ErrorKind::kRequest) << id;
  }
  Picture picture = TinyPicture(config);
  picture.width += 14;
  EXPECT_EQ(KindOfError([&] { pipeline->Encode(picture, "image0", {}, {}); }), ErrorKind::kImage);
  picture.rgb.resize(static_cast<size_t>(picture.width * picture.height * 3));
  EXPECT_EQ(KindOfError([&] { pipeline->Encode(picture, "image0", {}, {}); }), ErrorKind::kImage);
  EXPECT_EQ(RunSlice(*pipeline, config, sequence, 0, 5), before);
}

/// Says stop when it is asked for the `count`th time.
StopTest StopsAt(int count, std::atomic<int>* asked) {
  return [count, asked] { return ++*asked >= count; };
}

TEST(Pipeline, StopsAPictureBetweenLayersAndStaysUsable) {
  const ModelConfig config = TinyModel(Kind::k4khd7b);
  auto pipeline = MakePipeline(config);
  const Picture picture = TinyPicture(config);
  std::atomic<int> asked{0};
  pipeline->Encode(picture, "image0", {}, StopsAt(1 << 30, &asked));
  const int layers = asked;
  EXPECT_GE(layers, config.vision.layers);
  for (const int at : {1, 2, layers}) {
    asked = 0;
    const auto encode = [&] { pipeline->Encode(picture, "image0", {}, StopsAt(at, &asked)); };
    EXPECT_EQ(KindOfError(encode), ErrorKind::kCancelled) << at;
    EXPECT_EQ(asked, at) << "works on";
  }
  EXPECT_GT(pipeline->Encode(picture, "image0", {}, {}).rows, 0);
}

TEST(Pipeline, StopsABatchBetweenLayersAndStaysUsable) {
  const ModelConfig config = TinyModel(Kind::kVl7b);
  for (size_t stages = 1; stages <= 3; ++stages) {
    auto pipeline = MakePipeline(config, stages);
    const TinySequence sequence = MakeSequence(5, {}, Blocks(0, 2));
    const std::vector<float> before = RunSlice(*pipeline, config, sequence, 0, 5);
    for (int64_t at = 1; at <= config.layers; ++at) {
      std::atomic<int> asked{0};
      Batch batch;
      AddSlice(batch, sequence, 0, 5, config);
      batch.stop = StopsAt(static_cast<int>(at), &asked);
      EXPECT_EQ(KindOfError([&] { pipeline->Forward(batch); }), ErrorKind::kCancelled) << at;
      EXPECT_EQ(asked, at) << "works on";
    }
    EXPECT_EQ(RunSlice(*pipeline, config, sequence, 0, 5), before) << stages << " stages";
  }
}

TEST(Pipeline, RefusesBatchesThatTheSchedulerGotWrong) {
  const ModelConfig config = TinyModel(Kind::kVl7b);
  auto pipeline = MakePipeline(config);
  const EncodedPicture picture = pipeline->Encode(TinyPicture(config), "image0", {}, {});
  const TinySequence sequence = MakeSequence(6, {}, {0, 1});
  const auto refused = [&](const std::string& why, const std::function<void(Batch&)>& spoil) {
    Batch batch;
    AddSlice(batch, sequence, 0, 6, config);
    spoil(batch);
    std::string message;
    EXPECT_EQ(KindOfError([&] { pipeline->Forward(batch); }, &message), ErrorKind::kInternal)
        << why;
    EXPECT_THAT(message, HasSubstr(why));
  };
  refused("a batch of 0 rows", [](Batch& b) { b = {}; });
  refused("a batch of 201 rows, the limit is 200", [&](Batch& b) {
    b = {};
    AddSlice(b, MakeSequence(201, {}, Blocks(0, 51)), 0, 201, config);
  });
  refused("sequences own 5 of 6 rows", [](Batch& b) { b.sequences[0].row_count = 5; });
  refused("a slice starts at row 1, expected 0", [](Batch& b) { b.sequences[0].first_row = 1; });
  refused("a block table of 1 blocks for 6 positions",
          [](Batch& b) { b.sequences[0].block_table.pop_back(); });
  // Must be caught before any slot is looked up.
  refused("a block table of 2 blocks for 10 positions",
          [](Batch& b) { b.sequences[0].position = 4; });
  refused("block 64 of 64", [](Batch& b) { b.sequences[0].block_table[1] = 64; });
  refused("block -1 of 64", [](Batch& b) { b.sequences[0].block_table[1] = -1; });
  refused("rope base 0", [](Batch& b) { b.sequences[0].rope_base = 0; });
  refused("unknown picture features 99", [](Batch& b) { b.features.push_back({0, 2, 99, 0}); });
  const std::string features = "picture features that have " + std::to_string(picture.rows);
  refused("rows " + std::to_string(picture.rows - 1) + " and on of " + features, [&](Batch& b) {
    b.features.push_back({0, 2, picture.feature, picture.rows - 1});
  });
  refused("rows -1 and on of " + features, [&](Batch& b) {
    b.features.push_back({0, 2, picture.feature, -1});
  });
  refused("an id is to be chosen with penalty 1, temperature -1",
          [](Batch& b) { b.sequences[0].choice = IdChoice{.temperature = -1.0f}; });
  refused("id 211 was seen, of a vocabulary of 211", [](Batch& b) {
    b.sequences[0].choice = IdChoice{.seen = {210, 211}};
  });
  refused("a copy from block 0 to 64 of 64", [](Batch& b) { b.copies.push_back({0, 64}); });
  refused("a copy from block 64 to 0 of 64", [](Batch& b) { b.copies.push_back({64, 0}); });
  // As many rows as there may be.
  RunSlice(*pipeline, config, MakeSequence(200, {}, Blocks(0, 50)), 0, 200);
}

TEST(Pipeline, NamesDevicesAndSizesThatItCannotServe) {
  const ModelConfig config = TinyModel(Kind::kVl7b);
  RandomWeights weights(1);
  EXPECT_EQ(KindOfError([&] { Pipeline(weights, config, EvenDeviceMap(config, {"cuda:0"}), {}); }),
            ErrorKind::kDevice);
  RandomWeights again(1);
  PipelineOptions huge;
  huge.kv = {.blocks = int64_t{1} << 40, .block_size = 1 << 20};
  EXPECT_EQ(KindOfError([&] { Pipeline(again, config, EvenDeviceMap(config, {"cpu"}), huge); }),
            ErrorKind::kCapacity);
}

}  // namespace
}  // namespace xcomposer
