// Checkpoints with matrices in 12 bits a number: written, read and written back without a change.
#include "pipeline/pack_checkpoint.h"

#include <algorithm>
#include <fstream>

#include "forked_run.h"
#include "gmock/gmock.h"
#include "lazy_device.h"
#include "packed_model.h"
#include "pipeline/checkpoint_weights.h"
#include "pipeline/device_weights.h"
#include "pipeline/pipeline.h"
#include "pipeline/quantise_checkpoint.h"
#include "placement/weight_type.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

namespace fs = std::filesystem;

using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kWqkv = "model.layers.0.attention.wqkv.weight";
constexpr const char* kWild = "model.layers.1.feed_forward.w1.weight";

const WriteProgressCallback kSilent = [](const WriteProgress&) {};

/// With a matrix whose exponents lie from -100 to 20, which does not pay, and outliers in another.
at::Tensor WithOutliers(const std::string& name, at::Tensor tensor) {
  if (name == kWild) {
    const at::Tensor exponents = at::arange(tensor.numel()).remainder(121).sub(100).to(at::kFloat);
    return at::pow(2.0, exponents).view(tensor.sizes()).to(at::kBFloat16);
  }
  if (name == kWqkv) {
    tensor = tensor.clone();
    tensor[5][7] = 0;
    tensor[5][130] = 1e-30;
    tensor[6][0] = -0.0;
    tensor[tensor.size(0) - 1][255] = 100;
  }
  return tensor;
}

class PackedFolder : public testing::Test {
 protected:
  PackedFolder() {
    WriteRandom(config_, original_.path(), WithOutliers);
    std::ofstream(original_.path() / "config.json") << "{}";
    report_ = Pack(original_.path(), packed_.path());
  }

  PackingReport Pack(const fs::path& from, const fs::path& to,
                     const ConversionOptions& write = {}) {
    return PackCheckpoint(Checkpoint::Open(from), config_, 2, to, write, kSilent);
  }

  static CheckpointWeights Weights(const fs::path& folder, const Quantization& wanted = {},
                                   WeightStorage storage = WeightStorage::kAsStored) {
    return {Checkpoint::Open(folder), {}, wanted, storage, {}};
  }

  std::vector<float> Scores(const fs::path& folder, const Quantization& wanted = {},
                            WeightStorage storage = WeightStorage::kAsStored, size_t stages = 1) {
    CheckpointWeights weights = Weights(folder, wanted, storage);
    PipelineOptions options;
    options.kv = kForkedPool;
    options.max_batch_rows = 200;
    Pipeline pipeline(weights, config_,
                      EvenDeviceMap(config_, std::vector<std::string>(stages, "cpu")), options);
    return RunForked(pipeline, config_);
  }

  const ModelConfig config_ = BlockModel();
  const Folder original_{"pack_original"};
  const Folder packed_{"pack_packed"};
  PackingReport report_;
};

std::string BytesOf(const Checkpoint& checkpoint, const TensorEntry& entry) {
  const auto bytes = checkpoint.Bytes(entry);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void ExpectSameTensors(const fs::path& found, const fs::path& expected) {
  const Checkpoint a = Checkpoint::Open(found);
  const Checkpoint b = Checkpoint::Open(expected);
  EXPECT_EQ(a.entries().size(), b.entries().size());
  for (const TensorEntry& entry : b.entries()) {
    const TensorEntry* same = a.Find(entry.name);
    ASSERT_NE(same, nullptr) << entry.name;
    EXPECT_EQ(same->dtype, entry.dtype) << entry.name;
    EXPECT_EQ(same->shape, entry.shape) << entry.name;
    EXPECT_EQ(BytesOf(a, *same), BytesOf(b, entry)) << entry.name;
  }
}

TEST_F(PackedFolder, ComesBackToTheBit) {
  // w2 does not fit, nor does the wild matrix.
  EXPECT_EQ(report_.packed, 4 * config_.layers + 1 - 1);
  EXPECT_EQ(report_.kept, config_.layers + 1);
  EXPECT_TRUE(fs::exists(packed_.path() / "config.json"));
  const Checkpoint packed = Checkpoint::Open(packed_.path());
  EXPECT_EQ(packed.Find(kWqkv), nullptr);
  EXPECT_NE(packed.Find(kWild), nullptr);
  EXPECT_EQ(WeightsIn12Bits(config_, HeadersOf(packed)).size(),
            static_cast<size_t>(report_.packed));
  CheckWeights(config_, HeadersOf(packed));
  const Folder back("pack_back");
  const PackingReport unpacked = UnpackCheckpoint(packed, config_, 2, back.path(), {}, kSilent);
  EXPECT_EQ(unpacked.unpacked, report_.packed);
  EXPECT_EQ(unpacked.written.tensors, static_cast<int64_t>(WeightTable(config_).size()));
  EXPECT_GT(unpacked.written.bytes, report_.written.bytes);
  ExpectSameTensors(back.path(), original_.path());
}

TEST_F(PackedFolder, GivesTheScoresOfTheOriginal) {
  for (const size_t stages : {size_t{1}, size_t{2}}) {
    EXPECT_EQ(Scores(packed_.path(), {}, WeightStorage::kAsStored, stages),
              Scores(original_.path()));
  }
  for (const WeightStorage storage : {WeightStorage::kFloat32, WeightStorage::kBFloat16}) {
    EXPECT_EQ(Scores(packed_.path(), {}, storage), Scores(original_.path(), {}, storage));
  }
}

TEST_F(PackedFolder, LinearsStayInTheirFileUnlessTheirTypeChanges) {
  const int64_t outputs = config_.wqkv_rows();
  const auto take = [&](const Quantization& wanted, WeightStorage storage) {
    CheckpointWeights weights = Weights(packed_.path(), wanted, storage);
    const ops::LinearWeight weight =
        weights.TakeLinear("model.layers.0.attention.wqkv", outputs, 256);
    weights.RequireTaken({kWqkv});
    EXPECT_EQ(weights.bf12_counts().packed, weight.packing == ops::WeightPacking::kBf12 ? 1 : 0);
    return weight;
  };
  const ops::LinearWeight stored = take({}, WeightStorage::kAsStored);
  EXPECT_EQ(stored.packing, ops::WeightPacking::kBf12);
  EXPECT_FALSE(stored.data.storage().resizable()) << "a view into the file";
  EXPECT_EQ(take({}, WeightStorage::kBFloat16).packing, ops::WeightPacking::kBf12);
  EXPECT_EQ(take({}, WeightStorage::kFloat32).data.scalar_type(), at::kFloat);
  EXPECT_EQ(take(kInt8, WeightStorage::kAsStored).packing, ops::WeightPacking::kInt8);
}

TEST_F(PackedFolder, IsReadInPiecesForOtherDevices) {
  CheckpointWeights original = Weights(original_.path());
  CheckpointWeights packed = Weights(packed_.path());
  const std::vector<int64_t> shape = {config_.wqkv_rows(), 256};
  const at::Tensor expected = original.Take(kWqkv, shape);
  const UnreadTensor unread = packed.TakeUnread(kWqkv, shape);
  EXPECT_EQ(unread.type, at::kBFloat16);
  EXPECT_EQ(unread.shape, shape);
  const auto* bytes = static_cast<const std::byte*>(expected.const_data_ptr());
  const size_t panel = 4 * 256 * 2;
  for (const auto& [offset, size] : {std::pair<size_t, size_t>{0, expected.nbytes()},
                                     {0, 1},
                                     {panel - 3, 7},
                                     {3 * panel, panel},
                                     {panel + 1, 2 * panel},
                                     {expected.nbytes() - 5, 5},
                                     {8, 0}}) {
    std::vector<std::byte> piece(size);
    unread.read(piece, offset);
    EXPECT_TRUE(std::equal(piece.begin(), piece.end(), bytes + offset)) << offset << " " << size;
  }
}

TEST_F(PackedFolder, ArrivesOnADeviceAsTheOriginalDoes) {
  const int64_t outputs = config_.wqkv_rows();
  const auto uploaded = [&](const fs::path& folder) {
    CheckpointWeights host = Weights(folder);
    DeviceWeights weights(host, at::TensorOptions().dtype(at::kHalf),
                          std::make_unique<StagedUpload>(std::make_unique<LazyDevice>(6, 1000), 3));
    const ops::LinearWeight linear =
        weights.TakeLinear("model.layers.0.attention.wqkv", outputs, 256);
    const at::Tensor stacked = weights.TakeStacked(
        {"model.layers.0.feed_forward.w1.weight", "model.layers.0.feed_forward.w3.weight"},
        {config_.intermediate_size, 256});
    weights.Finish();
    EXPECT_EQ(linear.packing, ops::WeightPacking::kDense);
    return at::cat({linear.data, stacked});
  };
  EXPECT_TRUE(uploaded(packed_.path()).equal(uploaded(original_.path())));
}

// The output matrix of 228 pieces fits 12 bits, and does not fill panels: it stays bfloat16.
TEST_F(PackedFolder, QuantisesAsTheOriginalDoes) {
  for (const int64_t pieces : {224, 228}) {
    ModelConfig config = config_;
    config.intermediate_size = 144;
    config.vocab_size = pieces;
    const Folder original("pack_q_original");
    const Folder packed("pack_q_packed");
    WriteRandom(config, original.path());
    PackCheckpoint(Checkpoint::Open(original.path()), config, 2, packed.path(), {}, kSilent);
    const auto quantise = [&](const Folder& from, const Folder& to) {
      QuantiseCheckpoint(Checkpoint::Open(from.path()), config, kInt4, 2, to.path(), {}, kSilent);
    };
    const Folder of_original("pack_q1");
    const Folder of_packed("pack_q2");
    quantise(original, of_original);
    quantise(packed, of_packed);
    ExpectSameTensors(of_packed.path(), of_original.path());
    EXPECT_EQ(Checkpoint::Open(of_packed.path()).Find("output.weight") != nullptr, pieces == 228);
  }
}

// Only linears of the model are ever in 12 bits: whatever else is called so is a tensor like
// others.
TEST_F(PackedFolder, TensorsBesideTheModelAreCopied) {
  const Checkpoint checkpoint = Checkpoint::Open(original_.path());
  std::vector<TensorSource> sources;
  for (const TensorEntry& entry : checkpoint.entries()) {
    sources.push_back(SourceOf(checkpoint, entry));
  }
  const auto add = [&](const std::string& name, DType type, const std::vector<int64_t>& shape) {
    sources.push_back({name, type, shape, [shape](const ByteSink& sink) {
                         int64_t count = 4;
                         for (const int64_t extent : shape) count *= extent;
                         sink(std::vector<std::byte>(static_cast<size_t>(count), std::byte{7}));
                       }});
  };
  add("lm_head.bf12.words", DType::kI32, {1, 1, 192});
  add("lm_head.bf12.scales", DType::kF32, {4});
  add("summary.bf12.outliers", DType::kI32, {2});
  const Folder strange("pack_strange");
  WriteSafetensors(sources, strange.path(), {});
  const Checkpoint with = Checkpoint::Open(strange.path());
  EXPECT_TRUE(WeightsIn12Bits(config_, HeadersOf(with)).empty());
  const Folder packed("pack_strange_packed");
  EXPECT_EQ(Pack(strange.path(), packed.path()).packed, report_.packed);
  const Folder back("pack_strange_back");
  const PackingReport unpacked =
      UnpackCheckpoint(Checkpoint::Open(packed.path()), config_, 1, back.path(), {}, kSilent);
  EXPECT_EQ(unpacked.unpacked, report_.packed);
  ExpectSameTensors(back.path(), strange.path());
}

// What was kept counts as it is, not as if it were packed.
TEST_F(PackedFolder, TakesTheBytesThatThePlanCounts) {
  ModelConfig config = config_;
  config.in_12_bits = WeightsIn12Bits(config_, HeadersOf(Checkpoint::Open(packed_.path())));
  int64_t least = 0;
  int64_t most = 0;
  for (const WeightSpec& spec : WeightTable(config)) {
    least += WeightBytes(spec, WeightType::kBf12);
    most += WeightBytes(spec, WeightType::kBf12) + Bf12Reserve(spec, WeightType::kBf12);
  }
  for (const bool pack : {false, true}) {
    CheckpointWeights weights = Weights(packed_.path());
    PipelineOptions options;
    options.kv = kForkedPool;
    options.pack_bf12 = pack;
    const Pipeline pipeline(weights, config_, EvenDeviceMap(config_, {"cpu"}), options);
    EXPECT_GE(weights.bytes(), least) << pack;
    EXPECT_LE(weights.bytes(), most) << pack;
  }
}

TEST_F(PackedFolder, PackedAgainIsTheSame) {
  const Folder again("pack_again");
  const PackingReport report = Pack(packed_.path(), again.path());
  EXPECT_EQ(report.packed, report_.packed);
  EXPECT_EQ(report.kept, report_.kept);
  ExpectSameTensors(again.path(), packed_.path());
  CheckpointWeights weights = Weights(packed_.path());
  weights.PackBf12();
  weights.TakeLinear("model.layers.0.attention.wqkv", config_.wqkv_rows(), 256);
  EXPECT_EQ(weights.bf12_counts().packed, 1);
}

TEST_F(PackedFolder, WordsBeginWithALineOfMemory) {
  const Checkpoint packed = Checkpoint::Open(packed_.path());
  for (const TensorEntry& entry : packed.entries()) {
    if (!entry.name.ends_with(".bf12.words")) continue;
    EXPECT_EQ(entry.offset % 64, 0) << entry.name;
  }
}

TEST_F(PackedFolder, TellsHowFarItIs) {
  const Folder to("pack_progress");
  std::vector<WriteProgress> steps;
  PackCheckpoint(Checkpoint::Open(original_.path()), config_, 1, to.path(), {},
                 [&](const WriteProgress& step) { steps.push_back(step); });
  ASSERT_FALSE(steps.empty());
  EXPECT_EQ(steps.back().bytes_done, steps.back().bytes_total);
  for (size_t i = 1; i < steps.size(); ++i) {
    EXPECT_GE(steps[i].bytes_done, steps[i - 1].bytes_done);
    EXPECT_LE(steps[i].bytes_done, steps[i].bytes_total);
  }
}

void ExpectError(ErrorKind kind, const testing::Matcher<std::string>& what,
                 const std::function<void()>& body) {
  try {
    body();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_THAT(std::string(error.what()), what);
  }
}

TEST_F(PackedFolder, OtherCheckpointsAndFoldersAreRefused) {
  const Folder to("pack_refused");
  ExpectError(ErrorKind::kUsage, HasSubstr("own directory"),
              [&] { Pack(original_.path(), original_.path()); });
  ExpectError(ErrorKind::kUsage, HasSubstr("not empty"),
              [&] { Pack(original_.path(), packed_.path()); });
  EXPECT_EQ(Pack(original_.path(), packed_.path(), {.overwrite = true}).packed, report_.packed);
  const Folder half("pack_half");
  WriteRandom(config_, half.path(),
              [](const std::string&, const at::Tensor& tensor) { return tensor.to(at::kHalf); });
  ExpectError(ErrorKind::kUsage, AllOf(HasSubstr(".weight is F16"), HasSubstr("BF16 only")),
              [&] { Pack(half.path(), to.path()); });
  EXPECT_FALSE(fs::exists(to.path())) << "it is seen before anything is made";
  const Folder others("pack_others");
  WriteRandom(config_, others.path(), [](const std::string& name, const at::Tensor& tensor) {
    const bool fits = name.ends_with("w1.weight") || name == "output.weight";
    return fits || name.find(".w") == std::string::npos ? tensor : tensor.to(at::kFloat);
  });
  ExpectError(ErrorKind::kUsage, HasSubstr("is F32"), [&] { Pack(others.path(), to.path()); });
  ModelConfig quantised = PanelModel(Kind::kVl7b, kInt8);
  const Folder int8("pack_int8");
  WriteRandom(quantised, int8.path());
  const Checkpoint checkpoint = Checkpoint::Open(int8.path());
  ExpectError(ErrorKind::kUsage, HasSubstr("is quantised"),
              [&] { PackCheckpoint(checkpoint, quantised, 1, to.path(), {}, kSilent); });
  EXPECT_EQ(UnpackCheckpoint(checkpoint, quantised, 1, to.path(), {}, kSilent).unpacked, 0);
  ExpectSameTensors(to.path(), int8.path());
}

/// Words of a part of wqkv, to be damaged.
class DamagedPart {
 public:
  DamagedPart(const fs::path& folder, const std::string& part)
      : file_(folder / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary) {
    const Checkpoint checkpoint = Checkpoint::Open(folder);
    begin_ = checkpoint.Find("model.layers.0.attention.wqkv.bf12." + part)->offset;
  }
  void Set(int64_t word, int32_t value) {
    file_.seekp(begin_ + 4 * word);
    file_.write(reinterpret_cast<const char*>(&value), sizeof(value));
    file_.flush();
  }

 private:
  std::fstream file_;
  int64_t begin_ = 0;
};

TEST_F(PackedFolder, WhatPackingDoesNotWriteIsRefused) {
  const int64_t panels = config_.wqkv_rows() / 4;
  const auto places = static_cast<int32_t>(panels + 1);
  struct Damage {
    std::string part;
    int64_t word;
    int32_t value;
    std::string what;
  };
  // Outliers of rows 4 to 7: three pairs behind the places, in the order of inputs.
  for (const Damage& damage : std::vector<Damage>{
           {"scales", 3, 0, "scale of row 3"},
           {"scales", 9, 0x3f800001, "scale of row 9"},
           {"scales", 0, 0x7f800000, "scale of row 0"},
           {"outliers", 0, 0, "do not begin after"},
           {"outliers", 1, places - 2, "the outliers of rows 0 to 3"},
           {"outliers", 2, places + 1000, "the outliers of rows 4 to 7"},
           {"outliers", 2, places + 5, "the outliers of rows 4 to 7"},
           {"outliers", panels, INT32_MAX, "outliers of rows"},
           {"outliers", places, -1, "has the place -1"},
           {"outliers", places, 256 * 4, "has the place 1024"},
           {"outliers", places + 2, 0, "has the place 0 after"},
           {"outliers", places + 1, 0x3f800001, "no bfloat16 that has to be one"}}) {
    const Folder folder("pack_damaged");
    fs::copy(packed_.path(), folder.path());
    DamagedPart(folder.path(), damage.part).Set(damage.word, damage.value);
    ExpectError(
        ErrorKind::kCheckpoint,
        AllOf(HasSubstr(std::string(kWqkv) + " is no matrix in 12 bits"), HasSubstr(damage.what)),
        [&] { Scores(folder.path()); });
  }
}

}  // namespace
}  // namespace xcomposer
