#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bench/cuda/decoder.h"
#include "kernels/cuda/context.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/sampling.h"

namespace xcomposer::cuda {

/// What a step is made of. For one sequence each is one kernel, for several with the norms in
/// front.
enum class DecodePart { kQkv, kAttention, kWo, kGateUp, kW2, kLogits, kSample };

/// One step of decoding: from the ids of the step before to those of this one, without the host in
/// between. One sequence takes the five fused kernels of a layer, 2 to 32 take products of few rows
/// where those are the faster ones (docs/cuda.md). All memory is taken when this is made; Enqueue
/// may be captured into a graph.
class DecodeStep {
 public:
  /// `positions`: of each sequence's new row in the cache; -1 for a sequence not in use.
  /// Greedy unless `options` (one for all) say otherwise.
  DecodeStep(const Decoder& decoder, const KvCache& cache, const std::vector<int32_t>& positions,
             const std::vector<int32_t>& ids, DeviceMemory& memory, const Context& context,
             const SamplingOptions& options = {});

  void Enqueue(const Context& context) const;
  /// One part alone, to be measured. The head and the sampling belong to no layer.
  void Enqueue(DecodePart part, int64_t layer, const Context& context) const;

  const float* logits() const { return logits_; }  ///< (S, V)
  const int32_t* ids() const { return ids_; }      ///< (S), replaced by every step

  /// Bytes of weights, keys and values that a step must read.
  int64_t bytes() const;
  /// Those of a part, in one layer.
  int64_t bytes(DecodePart part) const;

 private:
  void Qkv(int64_t layer, const Context& context) const;
  void Attention(int64_t layer, const Context& context) const;
  void Wo(int64_t layer, const Context& context) const;
  void GateUp(int64_t layer, const Context& context) const;
  void W2(int64_t layer, const Context& context) const;
  void Logits(const Context& context) const;
  void Choose(const Context& context) const;
  void Norm(const void* weight, const Context& context) const;
  /// hidden += weight x.
  void AddProduct(const WeightMatrix& weight, const void* x, const Context& context) const;
  const DecoderLayer& Layer(int64_t layer) const {
    return decoder_.layers[static_cast<size_t>(layer)];
  }

  const Decoder& decoder_;
  const KvCache& cache_;
  const int64_t sequences_;
  int64_t seen_keys_ = 0;  ///< of all sequences
  int64_t splits_ = 1;

  int32_t* ids_ = nullptr;                // (S)
  const int32_t* positions_ = nullptr;    // (S)
  const int32_t* rope_tables_ = nullptr;  // (S)
  const int64_t* slots_ = nullptr;        // (S)
  float* cos_ = nullptr;                  // (S, D / 2)
  float* sin_ = nullptr;                  // (S, D / 2)
  float* hidden_ = nullptr;               // (S, C), the residual stream
  void* normed_ = nullptr;                // (S, C)
  void* q_ = nullptr;                     // (S, H, D)
  void* mixed_ = nullptr;                 // (S, H, D)
  void* inner_ = nullptr;                 // (S, F)
  float* partial_ = nullptr;
  int32_t* counters_ = nullptr;
  uint64_t* sample_partial_ = nullptr;
  int32_t* sample_counters_ = nullptr;
  float* logits_ = nullptr;  // (S, V)
  const SamplingOptions* options_ = nullptr;
  uint32_t* seen_ = nullptr;
  int64_t* steps_ = nullptr;
  std::unique_ptr<LinearPlans> plans_;
};

}  // namespace xcomposer::cuda
