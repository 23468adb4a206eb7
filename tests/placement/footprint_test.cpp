#include "placement/footprint.h"

#include "config/weight_names.h"
#include "gmock/gmock.h"
#include "worlds.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

CostTable CostsOf(Kind kind, const Workload& workload, const Cluster& cluster) {
  return ModelFootprint(Shipped(kind)).Costs(workload, cluster);
}

const ModuleFootprint& Module(const CostTable& costs, const std::string& name) {
  for (const ModuleFootprint& module : costs.modules) {
    if (module.name == name) return module;
  }
  throw std::runtime_error("no module " + name);
}

/// Model arithmetic that everybody uses: gigabytes of fp16, to the digits that are given.
TEST(Footprint, HasTheKnownSizesOfTheModel) {
  const Cluster cluster = Alike(1, int64_t{80} << 30);
  Workload workload = TextWorkload(1024, 1);
  const CostTable costs = CostsOf(Kind::kVl7b, workload, cluster);
  int64_t all = 0;
  for (const ModuleFootprint& module : costs.modules) all += module.weight_bytes;
  EXPECT_EQ(all, 17333676032);
  const ModuleFootprint& layer = Module(costs, "model.layers.17");
  EXPECT_NEAR(static_cast<double>(layer.weight_bytes) / 1e9, 0.4362 + 1.208 / 32, 1e-4);
  EXPECT_NEAR(static_cast<double>(Module(costs, "output").weight_bytes) / 1e9, 0.758, 5e-4);
  EXPECT_NEAR(static_cast<double>(Module(costs, "vit").weight_bytes) / 1e9, 0.608, 2e-3);
  EXPECT_EQ(layer.kv_bytes * 32, 1024 * (128 << 10));  // 128 KiB a token in 16 bit
  EXPECT_EQ(CostsOf(Kind::k4khd7b, workload, cluster).modules.size(), 5u + 32 + 2);
}

TEST(Footprint, HasTheKnownWorkOfAToken) {
  Workload workload = TextWorkload(1024, 1);
  const ModelConfig config = Shipped(Kind::kVl7b);
  const Work layer = DecodeWorkOfLayer(config, workload, 1, KvType::k16Bit);
  const Work head = DecodeWorkOfHead(config, workload, 1);
  EXPECT_NEAR((32 * layer.bytes + head.bytes) / 1e9, 14.717 + 0.134, 1e-3);
  workload.images = 1;
  workload.prefill_chunk = 4096;
  EXPECT_EQ(PromptRows(workload), 1024);
  workload.context = 4096;
  EXPECT_EQ(PromptRows(workload), 1289);
  // Body 17.99, PLoRA 1.48, causal attention 0.44.
  EXPECT_NEAR(32 * PrefillWorkOfLayer(config, workload).operations / 1e12, 19.91, 0.01);
  EXPECT_NEAR(PictureWork(config, workload).operations / 1e12, 0.89 + 0.05, 0.01);
}

TEST(Footprint, QuantisedWeightsAreTheDecodersLinearsAndTheOutput) {
  const Cluster cluster = Alike(1, int64_t{80} << 30);
  Workload workload = TextWorkload(1024, 1);
  const auto layer = [&](WeightType type) {
    workload.weights = type;
    return Module(CostsOf(Kind::kVl7b, workload, cluster), "model.layers.0").weight_bytes;
  };
  const int64_t half = layer(WeightType::kFloat16);
  EXPECT_EQ(layer(WeightType::kFloat32), 2 * half);
  EXPECT_EQ(layer(WeightType::kBFloat16), half);
  // 218,103,808 numbers of the five linears; norms and low-rank factors stay.
  const int64_t linears = 218103808;
  EXPECT_EQ(half - layer(WeightType::kInt8), linears - linears / 128 * 3);
  EXPECT_EQ(half - layer(WeightType::kInt4), linears * 3 / 2 - linears / 32 * 5 / 2);
  // A byte for each number, and for each 128 of them a scale of two bytes and a zero of one.
  const int64_t numbers = int64_t{92544} * 4096;
  for (const WeightType type : {WeightType::kInt8, WeightType::kInt4}) {
    workload.weights = type;
    const CostTable costs = CostsOf(Kind::kVl7b, workload, cluster);
    const ModuleFootprint& output = Module(costs, "output");
    EXPECT_EQ(output.weight_bytes, numbers + numbers / 128 * 3);
    EXPECT_EQ(output.cpu_step.bytes, static_cast<double>(output.weight_bytes));
    EXPECT_EQ(output.cpu_step.operations, 2.0 * static_cast<double>(numbers));
    EXPECT_EQ(Module(costs, "model.tok_embeddings").weight_bytes, 2 * numbers);
    EXPECT_EQ(Module(costs, "model.norm").weight_bytes, 2 * 4096);
  }
}

TEST(Footprint, Bf12PacksTheDecodersLinearsAndTheOutput) {
  const Cluster cluster = Alike(1, int64_t{80} << 30);
  Workload workload = TextWorkload(1024, 1);
  const auto costs = [&](WeightType type) {
    workload.weights = type;
    return CostsOf(Kind::kVl7b, workload, cluster);
  };
  const CostTable half = costs(WeightType::kBFloat16);
  const CostTable packed = costs(WeightType::kBf12);
  // 218,103,808 numbers with 6,144 + 4,096 + 2 * 14,336 + 4,096 outputs in five matrices: a scale
  // for each output, a place for every four and one more for each matrix.
  const int64_t numbers = 218103808;
  const int64_t outputs = 43008;
  const int64_t exact = numbers / 2 * 3 + 4 * outputs + outputs + 5 * 4;
  const int64_t reserve = numbers / 512 * 8;
  EXPECT_EQ(
      Module(half, "model.layers.0").weight_bytes - Module(packed, "model.layers.0").weight_bytes,
      2 * numbers - exact - reserve);
  // What is read for a token is what is there for certain.
  EXPECT_EQ(Module(half, "model.layers.0").cpu_step.bytes -
                Module(packed, "model.layers.0").cpu_step.bytes,
            static_cast<double>(2 * numbers - exact));
  const int64_t head = int64_t{92544} * 4096;
  const int64_t exact_head = head / 2 * 3 + 5 * 92544 + 4;
  EXPECT_EQ(Module(packed, "output").weight_bytes, exact_head + head / 512 * 8);
  EXPECT_EQ(Module(packed, "output").cpu_step.bytes, static_cast<double>(exact_head));
  for (const char* kept : {"vit", "vision_proj", "model.tok_embeddings", "model.norm"}) {
    EXPECT_EQ(Module(packed, kept).weight_bytes, Module(half, kept).weight_bytes) << kept;
  }
  // An output matrix without whole blocks of four rows stays as it is.
  ModelConfig odd = Shipped(Kind::kVl7b);
  odd.vocab_size = 92546;
  EXPECT_EQ(Module(ModelFootprint(odd).Costs(workload, cluster), "output").weight_bytes,
            int64_t{2} * 92546 * 4096);
}

// A folder that `quantize` wrote takes what rounding at load takes, however the rest is stored.
TEST(Footprint, AQuantisedOutputIsTheSameInAFolder) {
  const Cluster cluster = Alike(1, int64_t{80} << 30);
  Workload workload = TextWorkload(1024, 1);
  workload.weights = WeightType::kInt4;
  const CostTable at_load = CostsOf(Kind::kVl7b, workload, cluster);
  ModelConfig packed = Shipped(Kind::kVl7b);
  packed.quantization = kInt4;
  for (const WeightType stored : {WeightType::kBFloat16, WeightType::kFloat32}) {
    workload.weights = stored;
    const CostTable folder = ModelFootprint(packed).Costs(workload, cluster);
    EXPECT_EQ(Module(folder, "output").weight_bytes, Module(at_load, "output").weight_bytes);
    if (stored == WeightType::kBFloat16) {
      EXPECT_EQ(Module(folder, "model.layers.9").weight_bytes,
                Module(at_load, "model.layers.9").weight_bytes);
    }
    EXPECT_EQ(DecodeWorkOfHead(packed, workload, 1).bytes,
              static_cast<double>(Module(at_load, "output").weight_bytes));
    EXPECT_EQ(DecodeWorkOfHead(packed, workload, 3).operations, 6.0 * 92544 * 4096);
  }
  ModelConfig odd = Shipped(Kind::kVl7b);
  workload.weights = WeightType::kInt8;
  for (const int64_t vocabulary : {92547, 92552}) {
    odd.vocab_size = vocabulary;
    EXPECT_EQ(Module(ModelFootprint(odd).Costs(workload, cluster), "output").weight_bytes,
              2 * vocabulary * 4096);
  }
}

/// The example that docs/placement.md works out by hand.
TEST(Footprint, AgreesWithTheExampleOfTheDocument) {
  const ModelConfig config = Shipped(Kind::kVl7b);
  const ComputeTraits cpu = CpuTraits();
  Workload workload = TextWorkload(2048, 1);
  workload.images = 1;
  EXPECT_EQ(KvBytesOfLayer(config, workload, cpu), 16777216);
  EXPECT_EQ(LayerActivations(config, workload, cpu), 152576268);
  EXPECT_EQ(FeatureBytes(config, workload.picture), 20070400);
  EXPECT_EQ(LayerWorkspace(config, workload, cpu), 35014404);
  EXPECT_EQ(PictureActivations(config, workload.picture, cpu), 68114096);
  Cluster cluster = Alike(1, int64_t{80} << 30);
  cluster.devices[0].kind = cluster.devices[0].name = "cpu";
  const CostTable costs = CostsOf(Kind::kVl7b, workload, cluster);
  EXPECT_EQ(Module(costs, "vit").activation_bytes, 25096192);
  EXPECT_EQ(costs.cpu.runtime, 562036736);
  int64_t total = costs.cpu.bytes();
  double seconds = 0;
  for (const ModuleFootprint& module : costs.modules) {
    total += module.bytes();
    seconds += module.cpu_step.Seconds(33e9, 371e9);
  }
  EXPECT_EQ(total, 18645270544);
  EXPECT_NEAR(seconds, 0.462, 5e-4);
}

/// By hand: 1226 rows of 1024 numbers in the tower, 1225 of 4096 behind it; 490 x 490 pixels.
TEST(Footprint, GpusKeepTheResidualStreamOfAPictureInFloat32) {
  const ModelConfig config = Shipped(Kind::kVl7b);
  Workload workload = TextWorkload(2048, 1);
  workload.images = 1;
  const int64_t pixels = 3 * 490 * 490 * 4;
  const int64_t features = 1226 * 1024 * 4;
  const int64_t narrowed = 1225 * 1024 * 2;
  const int64_t inner = 2 * 1225 * 4096 * 2;
  EXPECT_EQ(PictureActivations(config, workload.picture, CudaTraits()),
            pixels + features + narrowed + inner + FeatureBytes(config, workload.picture));
  // Narrow projections leave the tower's peak: pixels, hidden rows and six times their width.
  ModelConfig narrow = config;
  narrow.hidden_size = 64;
  const int64_t tower = pixels + 1226 * 1024 * (4 + 6 * 2);
  EXPECT_EQ(PictureActivations(narrow, workload.picture, CudaTraits()), pixels + features + tower);
}

/// By hand: 1024 rows of 4096 numbers, 256 on either side, and of twice 14336 and 256; 6144 and
/// 4096 of queries, keys and values beside them, and nothing of the adapters elsewhere but a rank
/// of 256.
TEST(Footprint, GpusHaveRoomForAdaptersBesideTheRowsOfPictures) {
  const ModelConfig config = Shipped(Kind::kVl7b);
  Workload workload = TextWorkload(2048, 1);
  const int64_t tables = 1024 * 520 + 4 * 67;
  const int64_t hidden = 1024 * 4096 * 4;
  EXPECT_EQ(LayerActivations(config, workload, CudaTraits()),
            hidden + tables + 2 * 1024 * (4096 + 2 * 14336));
  workload.images = 1;
  const int64_t rooms = 4096 + 2 * 256 + 2 * 14336 + 256;
  EXPECT_EQ(LayerActivations(config, workload, CudaTraits()),
            hidden + tables + 2 * 1024 * (rooms + 6144 + 4096 + 256));
}

TEST(Footprint, GpusKeepWhatLibrariesAndRecordedStepsTake) {
  const ModelConfig config = Shipped(Kind::kVl7b);
  const auto rows = [&](int64_t sequences, const ComputeTraits& traits) {
    return KeptScores(config, TextWorkload(64, sequences), traits) / (92544 * 4);
  };
  EXPECT_EQ(rows(1, CudaTraits()), 1);
  EXPECT_EQ(rows(4, CudaTraits()), 1 + 2 + 4);
  EXPECT_EQ(rows(5, CudaTraits()), 1 + 2 + 4 + 8);
  EXPECT_EQ(rows(500, CudaTraits()), 63);
  EXPECT_EQ(rows(500, CpuTraits()), 0);
  const CostTable costs = CostsOf(Kind::kVl7b, TextWorkload(64, 1), Alike(1, int64_t{80} << 30));
  EXPECT_EQ(costs.cuda.workspace, (32 << 20) + (256 << 10));
}

TEST(Footprint, StagesHoldTheRowsOfOtherBatches) {
  const ModelConfig config = Shipped(Kind::kVl7b);
  const Workload workload = TextWorkload(2048, 2);
  const int64_t rows = int64_t{1024} * 4096 * 4;  // of one batch
  EXPECT_EQ(HandOverBytes(config, workload, CpuTraits(), 1), 0);
  EXPECT_EQ(HandOverBytes(config, workload, CpuTraits(), 3), 3 * rows);
  EXPECT_EQ(HandOverBytes(config, workload, CudaTraits(), 4), 2 * rows);
  Cluster cluster = Alike(1, int64_t{80} << 30);
  const int64_t alone = CostsOf(Kind::kVl7b, workload, cluster).cpu.activations;
  cluster.devices.resize(100, cluster.devices[0]);  // more than the model has parts
  EXPECT_EQ(CostsOf(Kind::kVl7b, workload, cluster).cpu.activations,
            alone + (config.layers + 2) * rows);
}

TEST(Footprint, ScoresOfAnotherMachineArriveOnTheFirst) {
  const Workload workload = TextWorkload(2048, 3);
  Cluster cluster = Alike(2, int64_t{80} << 30);
  const std::string first = "model.tok_embeddings";
  EXPECT_EQ(Module(CostsOf(Kind::kVl7b, workload, cluster), first).activation_bytes, 0);
  cluster.nodes.push_back(cluster.nodes.front());
  cluster.devices[1].node = 1;
  EXPECT_EQ(Module(CostsOf(Kind::kVl7b, workload, cluster), first).activation_bytes,
            int64_t{2} * 3 * 92544 * 4);
}

TEST(Footprint, MixedClustersTakeTheLargerSize) {
  Cluster cluster = Alike(1, int64_t{80} << 30);
  Workload workload = TextWorkload(1024, 1);
  const CostTable cuda = CostsOf(Kind::kVl7b, workload, cluster);
  ClusterDevice cpu = cluster.devices[0];
  cpu.kind = cpu.name = "cpu";
  cluster.devices.push_back(cpu);
  const CostTable mixed = CostsOf(Kind::kVl7b, workload, cluster);
  EXPECT_EQ(Module(mixed, "model.layers.0").kv_bytes, 2 * Module(cuda, "model.layers.0").kv_bytes);
}

/// By hand: 8 heads of 128 codes and 4 scales of 2 bytes, keys and values.
TEST(Footprint, KeysAndValuesInInt8TakeTheirCodesAndScales) {
  const ModelConfig config = Shipped(Kind::kVl7b);
  Workload workload = TextWorkload(2048, 1);
  Cluster cluster = Alike(1, int64_t{80} << 30);
  cluster.devices[0].kind = cluster.devices[0].name = "cpu";
  const CostTable plain = CostsOf(Kind::kVl7b, workload, cluster);
  workload.int8_kv = true;
  const int64_t position = 2 * 8 * (128 + 4 * 2);
  EXPECT_EQ(KvBytesOfLayer(config, workload, CpuTraits()), 2048 * position);
  const CostTable int8 = CostsOf(Kind::kVl7b, workload, cluster);
  const ModuleFootprint& layer = Module(int8, "model.layers.3");
  EXPECT_EQ(layer.kv_bytes, 2048 * position);
  EXPECT_EQ(Module(plain, "model.layers.3").cpu_step.bytes - layer.cpu_step.bytes,
            2048.0 * (2 * 8 * 128 * 4 - position));
  EXPECT_EQ(Module(plain, "model.layers.3").cpu_step.operations, layer.cpu_step.operations);
  EXPECT_EQ(int8.cpu.bytes(), plain.cpu.bytes());
}

TEST(Footprint, KeysAndValuesInInt8AreRefusedWhereThereIsAGpu) {
  Workload workload = TextWorkload(2048, 1);
  workload.int8_kv = true;
  Cluster cluster = Alike(2, int64_t{80} << 30);
  cluster.devices[0].kind = cluster.devices[0].name = "cpu";
  try {
    CostsOf(Kind::kVl7b, workload, cluster);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDevice);
    EXPECT_EQ(error.where().at("device"), "a/cuda:1");
  }
}

TEST(Footprint, SequencesShareAStepByObjective) {
  Workload workload = TextWorkload(1024, 8);
  EXPECT_EQ(StepSequences(workload, 4), 2);
  EXPECT_EQ(StepSequences(workload, 3), 3);  // the engine's largest share
  EXPECT_EQ(StepSequences(workload, 1), 8);
  workload.objective = Objective::kLatency;
  EXPECT_EQ(StepSequences(workload, 4), 8);
  workload.objective = Objective::kThroughput;
  workload.sequences = 3;
  EXPECT_EQ(StepSequences(workload, 4), 1);
}

}  // namespace
}  // namespace xcomposer
