#include "workers/step_coding.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/checked_math.h"
#include "transport/wire_bytes.h"

namespace xcomposer {
namespace {

constexpr uint32_t kMostTaps = 4096;
constexpr size_t kTapName = 64;
constexpr uint32_t kMostDims = 8;
constexpr uint8_t kFlag = 1;
constexpr uint8_t kWantsScores = 1;
constexpr uint8_t kChooses = 2;

static_assert(std::endian::native == std::endian::little, "floats travel as they lie in memory");

template <typename... Parts>
void Expect(bool condition, const Parts&... message) {
  Require(condition, ErrorKind::kTransport, "a step from rank 0 cannot be used: ", message...);
}

uint32_t U32(int64_t value) { return static_cast<uint32_t>(value); }

Payload PayloadOf(const WireWriter& writer) {
  Payload payload = Payload::Allocate(static_cast<int64_t>(writer.bytes().size()));
  std::memcpy(payload.data, writer.bytes().data(), writer.bytes().size());
  return payload;
}

void PutFloat(WireWriter& writer, float value) { writer.Put(std::bit_cast<uint32_t>(value)); }
float GetFloat(WireReader& reader) { return std::bit_cast<float>(reader.Get<uint32_t>()); }

void PutChoice(WireWriter& writer, const IdChoice& choice) {
  PutFloat(writer, choice.repetition_penalty);
  PutFloat(writer, choice.temperature);
  PutFloat(writer, choice.dropped_mass);
  writer.Put(static_cast<uint64_t>(choice.top_k));
  writer.Put(choice.seed);
  writer.Put(choice.step);
  writer.Put(choice.do_sample ? kFlag : uint8_t{0});
  writer.Put(U32(static_cast<int64_t>(choice.seen.size())));
  for (const int32_t id : choice.seen) writer.Put(static_cast<uint32_t>(id));
}

void PutSequence(WireWriter& writer, const SequenceSlice& slice) {
  writer.Put(U32(slice.row_count));
  writer.Put(U32(slice.position));
  writer.Put(std::bit_cast<uint64_t>(slice.rope_base));
  writer.Put(static_cast<uint8_t>(slice.adapter));
  writer.Put(static_cast<uint8_t>((slice.wants_logits ? kWantsScores : 0) |
                                  (slice.choice ? kChooses : 0)));
  writer.Put(U32(static_cast<int64_t>(slice.block_table.size())));
  for (const int32_t block : slice.block_table) writer.Put(static_cast<uint32_t>(block));
  if (slice.choice) PutChoice(writer, *slice.choice);
}

/// A count that must not exceed `most`, nor what the rest of the message could hold.
int64_t Count(WireReader& reader, int64_t most, const char* what) {
  const int64_t count = reader.Get<uint32_t>();
  Expect(reader.good(), "it ends before its ", what);
  Expect(count <= most, "it has ", count, " ", what, ", at most ", most, " are possible");
  return count;
}

bool Flag(WireReader& reader, const char* what) {
  const auto value = reader.Get<uint8_t>();
  Expect(value <= kFlag, "its flag '", what, "' is ", static_cast<int>(value));
  return value == kFlag;
}

int32_t Block(WireReader& reader, const StepLimits& limits) {
  const int64_t block = reader.Get<uint32_t>();
  Expect(reader.good(), "it ends within its blocks");
  Expect(block < limits.blocks, "it names block ", block, " of ", limits.blocks);
  return static_cast<int32_t>(block);
}

IdChoice GetChoice(WireReader& reader, const StepLimits& limits) {
  IdChoice choice;
  choice.repetition_penalty = GetFloat(reader);
  choice.temperature = GetFloat(reader);
  choice.dropped_mass = GetFloat(reader);
  choice.top_k = static_cast<int64_t>(reader.Get<uint64_t>());
  choice.seed = reader.Get<uint64_t>();
  choice.step = reader.Get<uint64_t>();
  choice.do_sample = Flag(reader, "draws");
  const int64_t seen = Count(reader, limits.vocab, "seen ids");
  Expect(choice.IsSound(), "an id is to be chosen with penalty ", choice.repetition_penalty,
         ", temperature ", choice.temperature, ", top_k ", choice.top_k, " and without the last ",
         choice.dropped_mass);
  for (int64_t i = 0; i < seen; ++i) {
    const int64_t id = reader.Get<uint32_t>();
    Expect(reader.good(), "it ends within its seen ids");
    Expect(id < limits.vocab, "it names id ", id, " of ", limits.vocab);
    choice.seen.push_back(static_cast<int32_t>(id));
  }
  return choice;
}

SequenceSlice GetSequence(WireReader& reader, const StepLimits& limits) {
  SequenceSlice slice;
  slice.row_count = Count(reader, limits.rows, "rows");
  slice.position = reader.Get<uint32_t>();
  slice.rope_base = std::bit_cast<double>(reader.Get<uint64_t>());
  const auto adapter = reader.Get<uint8_t>();
  const auto flags = reader.Get<uint8_t>();
  Expect(flags <= (kWantsScores | kChooses), "the flags of a sequence are ",
         static_cast<int>(flags));
  slice.wants_logits = (flags & kWantsScores) != 0;
  const int64_t blocks = Count(reader, limits.blocks, "blocks of a sequence");
  Expect(slice.row_count > 0, "a sequence has no rows");
  Expect(std::isfinite(slice.rope_base) && slice.rope_base >= 1.0, "its rope base is ",
         slice.rope_base);
  Expect(adapter <= static_cast<uint8_t>(Adapter::kWrite), "its adapter is ",
         static_cast<int>(adapter));
  Expect(slice.position + slice.row_count <= blocks * limits.block_size, "a table of ", blocks,
         " blocks cannot hold ", slice.position + slice.row_count, " positions");
  slice.adapter = static_cast<Adapter>(adapter);
  for (int64_t i = 0; i < blocks; ++i) slice.block_table.push_back(Block(reader, limits));
  if ((flags & kChooses) != 0) slice.choice = GetChoice(reader, limits);
  return slice;
}

void GetSequences(WireReader& reader, const StepLimits& limits, Batch* batch) {
  const int64_t count = Count(reader, batch->rows(), "sequences");
  int64_t row = 0;
  for (int64_t i = 0; i < count; ++i) {
    batch->sequences.push_back(GetSequence(reader, limits));
    batch->sequences.back().first_row = row;
    row += batch->sequences.back().row_count;
  }
  Expect(row == batch->rows(), "its sequences have ", row, " rows, it has ", batch->rows());
}

void GetFeatures(WireReader& reader, Batch* batch) {
  const int64_t count = Count(reader, batch->rows(), "picture spans");
  int64_t free = 0;  // first row behind the span before
  for (int64_t i = 0; i < count; ++i) {
    FeatureSpan span;
    span.first_row = reader.Get<uint32_t>();
    span.row_count = reader.Get<uint32_t>();
    Expect(reader.good(), "it ends within its picture spans");
    Expect(span.row_count > 0 && span.first_row >= free &&
               span.row_count <= batch->rows() - span.first_row,
           "a picture span of ", span.row_count, " rows at row ", span.first_row, " of ",
           batch->rows());
    free = span.first_row + span.row_count;
    batch->features.push_back(span);
  }
}

void GetCopies(WireReader& reader, const StepLimits& limits, Batch* batch) {
  const int64_t count = Count(reader, limits.blocks, "block copies");
  for (int64_t i = 0; i < count; ++i) {
    const int32_t from = Block(reader, limits);
    batch->copies.push_back({from, Block(reader, limits)});
  }
}

}  // namespace

Payload EncodeStep(const Step& step) {
  const Batch& batch = step.batch;
  WireWriter writer;
  writer.Put(U32(batch.rows()));
  writer.Put(batch.all_logits ? kFlag : uint8_t{0});
  writer.Put(U32(static_cast<int64_t>(batch.sequences.size())));
  for (const SequenceSlice& slice : batch.sequences) PutSequence(writer, slice);
  writer.Put(U32(static_cast<int64_t>(batch.features.size())));
  for (const FeatureSpan& span : batch.features) {
    writer.Put(U32(span.first_row));
    writer.Put(U32(span.row_count));
  }
  writer.Put(U32(static_cast<int64_t>(batch.copies.size())));
  for (const BlockCopy& copy : batch.copies) {
    writer.Put(U32(copy.from));
    writer.Put(U32(copy.to));
  }
  writer.Put(U32(static_cast<int64_t>(step.taps.size())));
  for (const std::string& name : step.taps) writer.PutText(name, kTapName);
  return PayloadOf(writer);
}

Step DecodeStep(uint64_t number, std::span<const std::byte> bytes, const StepLimits& limits) {
  WireReader reader(bytes);
  Step step;
  step.number = number;
  const int64_t rows = Count(reader, limits.rows, "rows");
  Expect(rows > 0, "it has no rows");
  step.batch.all_logits = Flag(reader, "scores of all rows");
  step.batch.ids.assign(static_cast<size_t>(rows), 0);
  GetSequences(reader, limits, &step.batch);
  GetFeatures(reader, &step.batch);
  GetCopies(reader, limits, &step.batch);
  const int64_t taps = Count(reader, kMostTaps, "tap names");
  for (int64_t i = 0; i < taps; ++i) {
    step.taps.insert(reader.Text(kTapName));
    Expect(reader.good(), "it ends within its tap names");
  }
  Expect(reader.finished(), "there are bytes behind its end");
  return step;
}

Payload EncodeTap(const Tap& tap) {
  WireWriter writer;
  writer.Put(tap.bytes.empty() ? uint8_t{0} : kFlag);
  writer.Put(U32(static_cast<int64_t>(tap.shape.size())));
  for (const int64_t extent : tap.shape) writer.Put(static_cast<uint64_t>(extent));
  writer.PutText(tap.name, kTapName);
  const auto values = tap.bytes.empty() ? std::as_bytes(std::span(tap.values))
                                        : std::as_bytes(std::span(tap.bytes));
  Payload payload = Payload::Allocate(static_cast<int64_t>(writer.bytes().size() + values.size()));
  std::memcpy(payload.data, writer.bytes().data(), writer.bytes().size());
  if (!values.empty()) {
    std::memcpy(payload.data + writer.bytes().size(), values.data(), values.size());
  }
  return payload;
}

Tap DecodeTap(std::span<const std::byte> bytes) {
  const auto expect = [](bool condition) {
    Require(condition, ErrorKind::kTransport, "an intermediate tensor cannot be read");
  };
  WireReader reader(bytes);
  Tap tap;
  const auto type = reader.Get<uint8_t>();
  const auto dims = reader.Get<uint32_t>();
  expect(reader.good() && type <= kFlag && dims <= kMostDims);
  std::optional<int64_t> size = type == kFlag ? 1 : 4;
  for (uint32_t i = 0; i < dims; ++i) {
    tap.shape.push_back(static_cast<int64_t>(reader.Get<uint64_t>()));
    expect(tap.shape.back() >= 0);
    size = CheckedMul(*size, tap.shape.back());
    expect(size.has_value());
  }
  tap.name = reader.Text(kTapName);
  const std::span<const std::byte> values = reader.Bytes(static_cast<size_t>(*size));
  expect(reader.finished());
  if (type == kFlag) {
    tap.bytes.resize(values.size());
    if (!values.empty()) std::memcpy(tap.bytes.data(), values.data(), values.size());
  } else {
    tap.values.resize(values.size() / sizeof(float));
    if (!values.empty()) std::memcpy(tap.values.data(), values.data(), values.size());
  }
  return tap;
}

}  // namespace xcomposer
