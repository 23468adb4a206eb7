#include "model/random_weights.h"

#include <ATen/ops/empty.h>

#include <cmath>

#include "base/check.h"
#include "ops/linear_weight.h"

namespace xcomposer {
namespace {

uint64_t Mixed(uint64_t x) {  // the finaliser of splitmix64
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

uint64_t Hash(const std::string& text, uint64_t seed) {
  uint64_t hash = Mixed(seed + 0x9e3779b97f4a7c15ULL);
  for (const char c : text) hash = Mixed(hash ^ static_cast<unsigned char>(c));
  return hash;
}

bool IsNormWeight(const std::string& name) {
  return name.find("norm") != std::string::npos && name.size() > 7 &&
         name.compare(name.size() - 7, 7, ".weight") == 0;
}

/// Numbers center - scale .. center + scale.
template <typename Number>
void Draw(at::Tensor& weight, uint64_t state, float center, float scale) {
  auto* values = weight.mutable_data_ptr<Number>();
  for (int64_t i = 0; i < weight.numel(); ++i) {
    state += 0x9e3779b97f4a7c15ULL;
    const auto unit =
        static_cast<float>(Mixed(state) >> 40) / static_cast<float>(1 << 24);  // [0, 1)
    values[i] = Number(center + scale * (2.0f * unit - 1.0f));
  }
}

}  // namespace

RandomWeights::RandomWeights(uint64_t seed, const Quantization& stored, at::ScalarType type)
    : WeightSource(stored), seed_(seed), type_(type) {
  Check(type == at::kBFloat16 || type == at::kHalf || type == at::kFloat,
        "random weights are asked for as ", type);
}

at::Tensor RandomWeights::Load(const std::string& name, at::IntArrayRef shape) {
  at::Tensor weight = ops::EmptyWeight(shape, type_);
  const auto fan_in = static_cast<float>(
      shape.size() > 1 ? weight.numel() / std::max<int64_t>(shape[0], 1) : int64_t{16});
  const bool norm = IsNormWeight(name);
  const float scale = norm ? 0.2f : std::sqrt(3.0f / fan_in);
  const float center = norm ? 1.0f : 0.0f;
  const uint64_t state = Hash(name, seed_);
  if (type_ == at::kBFloat16) Draw<at::BFloat16>(weight, state, center, scale);
  if (type_ == at::kHalf) Draw<at::Half>(weight, state, center, scale);
  if (type_ == at::kFloat) Draw<float>(weight, state, center, scale);
  if (on_drawn_) on_drawn_(static_cast<int64_t>(weight.nbytes()), name);
  return weight;
}

std::optional<at::Tensor> RandomWeights::LoadPart(const std::string& name, at::ScalarType type,
                                                  at::IntArrayRef shape) {
  if (shape.size() == 1) return std::nullopt;
  at::Tensor part = ops::EmptyWeight(shape, type);
  uint64_t state = Hash(name, seed_);
  const int64_t count = part.numel();
  const auto next = [&state] { return Mixed(state += 0x9e3779b97f4a7c15ULL); };
  const bool is_head = name.starts_with(kHeadModule);
  const Quantization own = is_head ? stored().Head() : stored();
  const bool eight = own.method == Quantization::Method::kOwn && own.bits == 8;
  if (name.ends_with(".zeros")) {
    part.fill_(static_cast<int32_t>(eight ? 0x80808080u : 0x88888888u));
  } else if (type == at::kInt) {
    auto* codes = part.mutable_data_ptr<int32_t>();
    for (int64_t i = 0; i < count; ++i) {
      codes[i] = static_cast<int32_t>(static_cast<uint32_t>(next()));
    }
  } else {
    auto* scales = part.mutable_data_ptr<at::Half>();
    for (int64_t i = 0; i < count; ++i) {
      const float unit = static_cast<float>(next() >> 40) / static_cast<float>(1 << 24);  // [0, 1)
      scales[i] = at::Half((eight ? 1.0f / 16.0f : 1.0f) * (0.002f + 0.002f * unit));
    }
  }
  if (on_drawn_) on_drawn_(static_cast<int64_t>(part.nbytes()), name);
  return part;
}

at::Tensor MetaWeights::Load(const std::string&, at::IntArrayRef shape) {
  return at::empty(shape, at::TensorOptions().dtype(at::kBFloat16).device(at::kMeta));
}

std::optional<at::Tensor> MetaWeights::LoadPart(const std::string&, at::ScalarType type,
                                                at::IntArrayRef shape) {
  return at::empty(shape, at::TensorOptions().dtype(type).device(at::kMeta));
}

}  // namespace xcomposer
