#pragma once

#include <cstdint>

#include "config/kv_type.h"
#include "config/model_config.h"
#include "placement/workload.h"

/// What the engine allocates beside weights, derived from its own code (docs/placement.md). All
/// sizes in bytes.
namespace xcomposer {

/// How a kind of device computes.
struct ComputeTraits {
  int64_t activation = 4;        ///< bytes of an intermediate number
  int64_t residual = 4;          ///< bytes of a number of the hidden rows between layers
  KvType kv = KvType::kFloat32;  ///< unless the workload asks for int8
  int64_t runtime = 0;           ///< bytes of libraries, context and threads
  /// Batches whose hidden rows may lie at a stage beside the one that it runs, waiting or being
  /// sent; no more than can be in flight.
  int64_t waiting_batches = 0;
  int64_t library_workspace = 0;  ///< bytes that every stage sets aside for products of matrices
  /// PLoRA's factors lie beside the weights: batches with pictures have memory for the input of all
  /// linears, with room for the adapters' part, as long as they run.
  bool joins_adapters = false;
  /// Up to so many sequences, filled up to a power of two, a step runs over memory that stays.
  int64_t recorded_sequences = 0;
  bool packs_rows = false;  ///< kernels copy their input into panels (CPU)
  // Of packing kernels:
  int64_t threads = 1;
  int64_t panel_rows = 8;         ///< rows of a panel are a multiple of it
  int64_t panel_columns = 48;     ///< outputs of a panel of the weight
  int64_t panel_number = 4;       ///< bytes of a packed number of the input
  int64_t streamed_rows = 16;     ///< up to so many rows the weight is not cut into panels
  int64_t panel_scratch = 0;      ///< bytes of one thread
  int64_t attention_scratch = 0;  ///< bytes of one thread per number of a head
  int64_t attention_fixed = 0;    ///< bytes of one thread besides
};

/// CPU: the engine's AVX-512 kernels on two threads, unless the caller knows better.
ComputeTraits CpuTraits();
ComputeTraits CudaTraits();

/// Rows of the largest batch.
int64_t BatchRows(const Workload& workload);

/// How keys and values are kept.
KvType KvTypeOf(const Workload& workload, const ComputeTraits& traits);

/// Keys and values of one layer for all sequences, whole blocks.
int64_t KvBytesOfLayer(const ModelConfig& config, const Workload& workload,
                       const ComputeTraits& traits);

/// Peak while the layers of a stage run one batch: hidden rows, tables and a layer's intermediate
/// results. The same for every stage.
int64_t LayerActivations(const ModelConfig& config, const Workload& workload,
                         const ComputeTraits& traits);

/// Hidden rows of other batches that a stage of several holds meanwhile: what came in before its
/// turn, and what is still being sent. With s stages the engine has s + 1 batches in flight.
int64_t HandOverBytes(const ModelConfig& config, const Workload& workload,
                      const ComputeTraits& traits, int64_t stages);

/// Scores that arrive on the first rank from another one, as they come and as they are handed on.
int64_t ArrivingScores(const ModelConfig& config, const Workload& workload);

/// Peak while the scores of a batch are formed.
int64_t HeadActivations(const ModelConfig& config, const Workload& workload,
                        const ComputeTraits& traits);

/// Scores of recorded steps, which stay: of 1, 2, 4, ... sequences.
int64_t KeptScores(const ModelConfig& config, const Workload& workload,
                   const ComputeTraits& traits);

/// Peak while one picture is encoded, its own features included.
int64_t PictureActivations(const ModelConfig& config, const PictureShape& picture,
                           const ComputeTraits& traits);

/// The features of one picture, which stay until its prompt is done.
int64_t FeatureBytes(const ModelConfig& config, const PictureShape& picture);

/// Tensors of the vision part that are kept in float32 beside the weights.
int64_t VisionCopies(const ModelConfig& config, WeightType format);

/// Scratch of the kernels of decoder layers and head, and what the vision part adds to it.
int64_t LayerWorkspace(const ModelConfig& config, const Workload& workload,
                       const ComputeTraits& traits);
int64_t VisionWorkspace(const ModelConfig& config, const Workload& workload,
                        const ComputeTraits& traits);

}  // namespace xcomposer
