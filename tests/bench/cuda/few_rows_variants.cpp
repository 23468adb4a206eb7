#include "bench/cuda/few_rows_variants.h"

#include <numeric>

namespace xcomposer::cuda {
namespace {

constexpr int64_t kWorkspace = int64_t{64} << 20;

// One that is near the chosen one, or deeper than what lets the next kernel in beside it.
constexpr FewRowsShape kForQkv[] = {{.stages = 6}, {.stages = 3}, {.warps_n = 1, .warps_k = 8}};
constexpr FewRowsShape kForAdd[] = {{.stages = 3}, {.stages = 6}, {.warps_n = 1, .warps_k = 8}};
constexpr FewRowsShape kForGateUp[] = {
    {.stages = 3}, {.stages = 6}, {.warps_n = 4, .warps_k = 2, .stages = 3}};
constexpr FewRowsShape kForLogits[] = {{.stages = 3}, {.warps_n = 2, .warps_k = 2}};

std::string NameOf(const FewRowsShape& shape) {
  std::string name;
  const auto add = [&name](char letter, int number) {
    if (number != 0) name += letter + std::to_string(number);
  };
  add('n', shape.warps_n);
  add('k', shape.warps_k);
  add('s', shape.stages);
  return name.empty() ? "chosen" : name;
}

}  // namespace

FewRowsVariants::FewRowsVariants(const Decoder& decoder, Figures& figures, GpuTimer& timer,
                                 DeviceMemory& memory)
    : decoder_(decoder), figures_(figures), timer_(timer) {
  const DecoderShape& s = decoder.shape;
  x_ = memory.RandomStored(kFewRows * s.inner, 1.0f);
  hidden_ = memory.Variable<float>(kFewRows * s.hidden);
  out_ = memory.Stored(kFewRows * 2 * s.inner);
  logits_ = memory.Variable<float>(kFewRows * s.vocab);
  angles_ = memory.Written(
      std::vector<float>(static_cast<size_t>(kFewRows * s.heads.head_dim / 2), 0.5f));
  std::vector<int64_t> slots(kFewRows);
  std::iota(slots.begin(), slots.end(), 0);
  slots_ = memory.Written(slots);
  keys_ = memory.Stored(kFewRows * s.kv());
  values_ = memory.Stored(kFewRows * s.kv());
  workspace_ = memory.Variable<char>(kWorkspace);
}

void FewRowsVariants::Measure() {
  for (const Named& product :
       {Named{Product::kQkv, "wqkv"}, Named{Product::kWo, "wo"}, Named{Product::kGateUp, "w1_w3"},
        Named{Product::kW2, "w2"}, Named{Product::kLogits, "logits"}}) {
    for (const int64_t rows : {8, 32, 16, 4, 2}) Measure(product, rows);
  }
}

void FewRowsVariants::Measure(const Named& product, int64_t rows) {
  const std::string place = std::string(product.name) + "." + std::to_string(rows);
  figures_.Group("variant.cublas." + place, [&] {
    LinearPlans plans(workspace_, kWorkspace);
    Give("variant.cublas." + place, product.product,
         [&](int64_t layer) { EnqueueCublas(product.product, layer, rows, plans); });
  });
  for (const FewRowsShape& shape : Shapes(product.product, rows)) {
    const std::string name = "variant.fewrows." + place + "." + NameOf(shape);
    figures_.Group(name, [&] {
      Give(name, product.product,
           [&](int64_t layer) { Enqueue(product.product, layer, rows, shape); });
    });
  }
}

std::vector<FewRowsShape> FewRowsVariants::Shapes(Product product, int64_t rows) const {
  std::vector<FewRowsShape> shapes = {{}};
  if (rows < 8) return shapes;
  const auto add = [&shapes](const auto& more) {
    for (const FewRowsShape& shape : more) shapes.push_back(shape);
  };
  switch (product) {
    case Product::kQkv:
      add(kForQkv);
      break;
    case Product::kWo:
    case Product::kW2:
      add(kForAdd);
      break;
    case Product::kGateUp:
      add(kForGateUp);
      break;
    case Product::kLogits:
      add(kForLogits);
      break;
  }
  return shapes;
}

WeightMatrix FewRowsVariants::Weight(Product product, int64_t layer) const {
  const DecoderLayer& weights = decoder_.layers[static_cast<size_t>(layer)];
  switch (product) {
    case Product::kQkv:
      return weights.wqkv.weight;
    case Product::kWo:
      return weights.wo.weight;
    case Product::kGateUp:
      return weights.w1.weight;
    case Product::kW2:
      return weights.w2.weight;
    case Product::kLogits:
      break;
  }
  return decoder_.output;
}

void FewRowsVariants::Enqueue(Product product, int64_t layer, int64_t rows,
                              const FewRowsShape& shape) const {
  const Context& context = timer_.context();
  FewRowsParams params{.x = x_, .weight = Weight(product, layer), .rows = rows, .shape = shape};
  switch (product) {
    case Product::kQkv:
      return Require(QkvFewRows({.x = x_,
                                 .wqkv = params.weight,
                                 .heads = decoder_.shape.heads,
                                 .rows = rows,
                                 .cos = angles_,
                                 .sin = angles_,
                                 .slots = slots_,
                                 .q = out_,
                                 .k_cache = keys_,
                                 .v_cache = values_,
                                 .shape = shape},
                                context),
                     "QkvFewRows");
    case Product::kGateUp: {
      const DecoderLayer& weights = decoder_.layers[static_cast<size_t>(layer)];
      return Require(GateUpFewRows({.x = x_,
                                    .w1 = weights.w1.weight,
                                    .w3 = weights.w3.weight,
                                    .rows = rows,
                                    .out = out_,
                                    .shape = shape},
                                   context),
                     "GateUpFewRows");
    }
    case Product::kLogits:
      params.y = logits_;
      return Require(LinearFewRowsToFloat(params, context), "LinearFewRowsToFloat");
    case Product::kWo:
    case Product::kW2:
      params.y = hidden_;
      return Require(LinearFewRowsAdd(params, context), "LinearFewRowsAdd");
  }
}

void FewRowsVariants::EnqueueCublas(Product product, int64_t layer, int64_t rows,
                                    LinearPlans& plans) const {
  const WeightMatrix weight = Weight(product, layer);
  LinearParams params{.x = x_,
                      .x_stride = weight.columns,
                      .weight = weight,
                      .y = out_,
                      .y_stride = weight.rows,
                      .rows = rows};
  if (product == Product::kGateUp) {
    const DecoderLayer& weights = decoder_.layers[static_cast<size_t>(layer)];
    params.batch = {.count = 2,
                    .weight_distance = DecoderLayer::Apart(weights.w1.weight, weights.w3.weight),
                    .y_distance = rows * weight.rows};
  }
  if (product == Product::kWo || product == Product::kW2) {
    params.y = hidden_;
    params.result = LinearResult::kAddFloat;
  }
  if (product == Product::kLogits) {
    params.y = logits_;
    params.result = LinearResult::kFloat;
  }
  Require(Linear(params, plans, timer_.context()), "Linear");
}

void FewRowsVariants::Give(const std::string& name, Product product,
                           const std::function<void(int64_t)>& layer) {
  // The head alone is larger than any cache.
  const int64_t count = product == Product::kLogits ? 4 : decoder_.shape.layers;
  const Timing timing = timer_.MeasureGraph(
      [&] {
        for (int64_t l = 0; l < count; ++l) layer(l);
      },
      {.least_runs = 5, .most_runs = 20, .budget_s = 0.02, .warm_up_s = 0.01});
  const WeightMatrix weight = Weight(product, 0);
  const int64_t weights = product == Product::kGateUp ? 2 : 1;
  figures_.Give(name, timing.Part(static_cast<double>(count)),
                {.bytes = static_cast<double>(weights * 2 * weight.rows * weight.columns)});
}

}  // namespace xcomposer::cuda
