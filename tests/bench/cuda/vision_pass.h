#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "bench/cuda/device_memory.h"
#include "kernels/cuda/context.h"
#include "kernels/cuda/linear.h"

namespace xcomposer::cuda {

/// Sizes of a vision tower with its projector; by default ViT-L/14 in front of a 7B decoder.
struct VisionShape {
  int64_t layers = 24;
  int64_t hidden = 1024;
  int64_t heads = 16;
  int64_t inner = 4096;
  int64_t patch = 14;
  int64_t grid = 35;         ///< patches along a side of a view: 35 at 490 pixels, 24 at 336
  int64_t output = 4096;     ///< the decoder's width
  int64_t projected = 1024;  ///< the projector's input: `hidden`, or four times that for tiles
  float eps = 1e-5f;

  int64_t side() const { return grid * patch; }
  int64_t patches() const { return grid * grid; }
  int64_t patch_row() const { return (3 * patch * patch + 7) / 8 * 8; }
};

struct BiasedLinear {
  WeightMatrix weight;
  const void* bias = nullptr;
};

struct LayerNormWeights {
  const void* weight = nullptr;
  const void* bias = nullptr;
};

struct VisionLayer {
  LayerNormWeights norm1;
  BiasedLinear qkv;  ///< (3C, C): q, k, v
  BiasedLinear out;
  LayerNormWeights norm2;
  BiasedLinear fc1;
  BiasedLinear fc2;
};

class VisionTower {
 public:
  VisionTower(const VisionShape& shape, DeviceMemory& memory);

  const VisionShape shape;
  WeightMatrix patch_embedding;  ///< (C, patch row)
  const void* class_embedding = nullptr;
  const void* position_embedding = nullptr;
  LayerNormWeights pre_norm;
  std::vector<VisionLayer> layers;
  const void* sub_gn = nullptr;
  const void* glb_gn = nullptr;
  BiasedLinear project0;
  BiasedLinear project2;
};

/// How a picture is tiled: the global view and rows x columns of tiles.
struct Tiling {
  int64_t rows = 0;
  int64_t columns = 0;
};

/// From pixels to the rows that take a picture's place in the prompt.
class VisionPass {
 public:
  /// Without `tiling` one view, all of whose patches become rows.
  VisionPass(const VisionTower& tower, std::optional<Tiling> tiling, DeviceMemory& memory);

  void Enqueue(const float* pixels, LinearPlans& plans, const Context& context) const;

  /// The attention of a layer alone, to be measured.
  void Attention(const Context& context) const;

  const void* features() const { return features_; }  ///< (feature_rows, output), as stored
  int64_t feature_rows() const { return feature_rows_; }
  int64_t views() const { return views_; }

  double flops() const;
  double attention_flops() const;  ///< of one layer

 private:
  void EnqueueLayer(size_t index, LinearPlans& plans, const Context& context) const;
  void Product(const BiasedLinear& linear, const void* x, void* y, int64_t rows, LinearPlans& plans,
               const Context& context) const;
  void Norm(const LayerNormWeights& weights, const Context& context) const;
  /// The products join the stream, and the norm of that.
  void AddAndNorm(const LayerNormWeights& weights, const Context& context) const;

  const VisionTower& tower_;
  const std::optional<Tiling> tiling_;
  int64_t views_ = 1;
  int64_t rows_ = 0;  ///< of all views, with the class rows
  int64_t feature_rows_ = 0;

  void* patch_rows_ = nullptr;  // (n * N, patch row)
  float* patches_ = nullptr;    // (n * N, C)
  float* hidden_ = nullptr;     // (n * (N + 1), C), the residual stream
  void* normed_ = nullptr;      // (n * (N + 1), C)
  void* qkv_ = nullptr;         // (n * (N + 1), 3C)
  void* mixed_ = nullptr;       // (n * (N + 1), C)
  void* product_ = nullptr;     // (n * (N + 1), C)
  void* inner_ = nullptr;       // (n * (N + 1), F)
  void* merged_ = nullptr;      // (feature rows, projected)
  void* projected_ = nullptr;   // (feature rows, output)
  void* features_ = nullptr;    // (feature rows, output)
};

}  // namespace xcomposer::cuda
