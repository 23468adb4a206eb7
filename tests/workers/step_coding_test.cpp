#include "workers/step_coding.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "base/check.h"

namespace xcomposer {
namespace {

constexpr StepLimits kLimits{.rows = 32, .blocks = 16, .block_size = 4, .vocab = 100};

Step Example() {
  Step step;
  step.number = 7;
  step.batch.ids.assign(9, 3);
  step.batch.all_logits = true;
  SequenceSlice first;
  first.row_count = 5;
  first.position = 2;
  first.rope_base = 10000.5;
  first.adapter = Adapter::kWrite;
  first.wants_logits = false;
  first.block_table = {4, 0};
  SequenceSlice second;
  second.first_row = 5;
  second.row_count = 4;
  second.rope_base = 1e6;
  second.block_table = {15};
  second.choice = IdChoice{.seen = {7, 99, 0},
                           .repetition_penalty = 1.25f,
                           .do_sample = true,
                           .temperature = 0.5f,
                           .top_k = 40,
                           .dropped_mass = 0.125f,
                           .seed = 0xFEDCBA9876543210,
                           .step = 1234567890123};
  step.batch.sequences = {first, second};
  step.batch.features = {{.first_row = 1, .row_count = 2}, {.first_row = 6, .row_count = 3}};
  step.batch.copies = {{3, 9}};
  step.taps = {"layer0.out", "final_norm.out"};
  return step;
}

std::vector<std::byte> Bytes(const Step& step) {
  Payload payload = EncodeStep(step);
  return {payload.bytes().begin(), payload.bytes().end()};
}

/// Whether it is refused as a transport error; anything else it throws fails the test.
bool Refused(std::span<const std::byte> bytes, const StepLimits& limits = kLimits) {
  try {
    DecodeStep(1, bytes, limits);
    return false;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kTransport) << error.what();
    return true;
  }
}

TEST(StepCoding, GivesBackAllButTheIds) {
  const Step step = Example();
  const Step read = DecodeStep(7, Bytes(step), kLimits);
  EXPECT_EQ(read.number, 7u);
  EXPECT_EQ(read.batch.ids, std::vector<int32_t>(9, 0));
  EXPECT_TRUE(read.batch.all_logits);
  ASSERT_EQ(read.batch.sequences.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    const SequenceSlice& a = step.batch.sequences[i];
    const SequenceSlice& b = read.batch.sequences[i];
    EXPECT_EQ(a.first_row, b.first_row);
    EXPECT_EQ(a.row_count, b.row_count);
    EXPECT_EQ(a.position, b.position);
    EXPECT_EQ(a.rope_base, b.rope_base);
    EXPECT_EQ(a.adapter, b.adapter);
    EXPECT_EQ(a.wants_logits, b.wants_logits);
    EXPECT_EQ(a.block_table, b.block_table);
    EXPECT_EQ(a.choice.has_value(), b.choice.has_value());
  }
  const IdChoice& sent = *step.batch.sequences[1].choice;
  const IdChoice& choice = read.batch.sequences[1].choice.value();
  EXPECT_EQ(choice.seen, sent.seen);
  EXPECT_EQ(choice.repetition_penalty, sent.repetition_penalty);
  EXPECT_EQ(choice.do_sample, sent.do_sample);
  EXPECT_EQ(choice.temperature, sent.temperature);
  EXPECT_EQ(choice.top_k, sent.top_k);
  EXPECT_EQ(choice.dropped_mass, sent.dropped_mass);
  EXPECT_EQ(choice.seed, sent.seed);
  EXPECT_EQ(choice.step, sent.step);
  ASSERT_EQ(read.batch.features.size(), 2u);
  EXPECT_EQ(read.batch.features[1].first_row, 6);
  EXPECT_EQ(read.batch.features[1].row_count, 3);
  ASSERT_EQ(read.batch.copies.size(), 1u);
  EXPECT_EQ(read.batch.copies[0].to, 9);
  EXPECT_EQ(read.taps, step.taps);
}

TEST(StepCoding, RefusesWhatIsCutOrHasMore) {
  std::vector<std::byte> bytes = Bytes(Example());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_TRUE(Refused(std::span(bytes).first(size))) << size;
  }
  EXPECT_FALSE(Refused(bytes));
  bytes.push_back(std::byte{0});
  EXPECT_TRUE(Refused(bytes));
}

TEST(StepCoding, RefusesWhatAStageCouldNotIndex) {
  const auto refused = [](const std::function<void(Batch&)>& spoil) {
    Step step = Example();
    spoil(step.batch);
    return Refused(Bytes(step));
  };
  EXPECT_TRUE(refused([](Batch& b) { b.ids.clear(); }));
  EXPECT_TRUE(refused([](Batch& b) { b.ids.resize(33); }));
  EXPECT_TRUE(refused([](Batch& b) { b.ids.resize(10); }));
  EXPECT_TRUE(refused([](Batch& b) { b.sequences.pop_back(); }));
  EXPECT_TRUE(refused([](Batch& b) { b.sequences[0].row_count = 0; }));
  EXPECT_TRUE(refused([](Batch& b) { b.sequences[0].position = 4; }));
  EXPECT_TRUE(refused([](Batch& b) { b.sequences[0].position = 0xFFFFFFFF; }));
  EXPECT_TRUE(refused([](Batch& b) { b.sequences[0].block_table.pop_back(); }));
  EXPECT_TRUE(refused([](Batch& b) { b.sequences[0].block_table[1] = 16; }));
  EXPECT_TRUE(refused([](Batch& b) { b.sequences[0].block_table[1] = -1; }));
  EXPECT_TRUE(refused([](Batch& b) { b.sequences[0].rope_base = 0; }));
  EXPECT_TRUE(refused(
      [](Batch& b) { b.sequences[0].rope_base = std::numeric_limits<double>::quiet_NaN(); }));
  EXPECT_TRUE(refused([](Batch& b) { b.sequences[0].adapter = static_cast<Adapter>(3); }));
  EXPECT_TRUE(refused([](Batch& b) { b.sequences[1].choice->seen[1] = 100; }));
  EXPECT_TRUE(refused([](Batch& b) { b.sequences[1].choice->seen[2] = -1; }));
  EXPECT_TRUE(refused([](Batch& b) { b.sequences[1].choice->seen.resize(101); }));
  EXPECT_TRUE(refused([](Batch& b) { b.sequences[1].choice->top_k = -1; }));
  EXPECT_TRUE(refused([](Batch& b) { b.sequences[1].choice->dropped_mass = 1.5f; }));
  EXPECT_TRUE(refused([](Batch& b) { b.sequences[1].choice->temperature = -0.5f; }));
  EXPECT_TRUE(refused([](Batch& b) {
    b.sequences[1].choice->repetition_penalty = std::numeric_limits<float>::quiet_NaN();
  }));
  EXPECT_TRUE(refused([](Batch& b) { b.features[0].row_count = 0; }));
  EXPECT_TRUE(refused([](Batch& b) { b.features[0].row_count = 6; }));
  EXPECT_TRUE(refused([](Batch& b) { b.features[1].row_count = 4; }));
  EXPECT_TRUE(refused([](Batch& b) { b.features[1].first_row = 0xFFFFFFFE; }));
  EXPECT_TRUE(refused([](Batch& b) { b.copies[0].from = 16; }));
  EXPECT_TRUE(refused([](Batch& b) { b.copies[0].to = -1; }));
}

TEST(StepCoding, SurvivesAnyBytes) {
  const std::vector<std::byte> good = Bytes(Example());
  std::mt19937 random(1);
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    std::vector<std::byte> bytes = good;
    for (int flips = 1 + static_cast<int>(random() % 4); flips > 0; --flips) {
      bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    }
    refused += Refused(bytes);
  }
  EXPECT_GT(refused, 10000);  // most bytes are counts and places
  EXPECT_LT(refused, 20000);
}

TEST(TapCoding, GivesBackFloatsAndBytesAndRefusesTheRest) {
  const Tap floats{"layer3.out", {2, 3}, {1, 2, 3, 4, 5, -6}, {}};
  const Tap mask{"im_mask", {4}, {}, {0, 1, 1, 0}};
  for (const Tap& tap : {floats, mask}) {
    Payload payload = EncodeTap(tap);
    const Tap read = DecodeTap(payload.bytes());
    EXPECT_EQ(read.name, tap.name);
    EXPECT_EQ(read.shape, tap.shape);
    EXPECT_EQ(read.values, tap.values);
    EXPECT_EQ(read.bytes, tap.bytes);
    for (int64_t size = 0; size < payload.size; ++size) {
      EXPECT_THROW(DecodeTap(payload.bytes().first(static_cast<size_t>(size))), Error) << size;
    }
  }
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{2, 4}, {-2, -3}, {1LL << 40, 1LL << 40}}) {
    Tap wrong = floats;
    wrong.shape = shape;
    Payload payload = EncodeTap(wrong);
    EXPECT_THROW(DecodeTap(payload.bytes()), Error);
  }
}

}  // namespace
}  // namespace xcomposer
