#pragma once

#include <cstdint>
#include <vector>

#include "bench/cuda/decoder.h"
#include "kernels/cuda/context.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/sampling.h"

namespace xcomposer::cuda {

/// A prompt from position 0 to its first new id: all layers, then the last row's logits. Rows of
/// pictures also take the adapters; their features are added to rows of zeros, which an id of -1
/// gives.
class PrefillPass {
 public:
  /// `ids` (T), -1 in `spans`, the rows of pictures. `sequence` of the cache takes keys and values.
  PrefillPass(const Decoder& decoder, const KvCache& cache, int64_t sequence,
              const std::vector<int32_t>& ids, const std::vector<RowSpan>& spans,
              DeviceMemory& memory);

  /// `features` (rows of all spans, C), as stored; not read where there are no spans.
  void Enqueue(const void* features, LinearPlans& plans, const Context& context) const;

  /// The attention of one layer alone, to be measured.
  void Attention(int64_t layer, const Context& context) const;

  const float* logits() const { return logits_; }  ///< (V), of the last row
  const int32_t* id() const { return id_; }        ///< (1)

  double flops() const;
  double attention_flops() const;  ///< of one layer

 private:
  /// Rows of x, `stride` numbers apart. Where there are pictures, each has room for what the
  /// adapters add on one side or both: zeros for rows of text, which no kernel writes.
  struct Rows {
    void* x = nullptr;
    int64_t stride = 0;
  };
  Rows RoomFor(int64_t before, int64_t columns, int64_t behind, DeviceMemory& memory) const;

  void EnqueueLayer(int64_t layer, LinearPlans& plans, const Context& context) const;
  void Norm(const void* weight, const Context& context) const;
  /// y = W x, or y += W x, with the adapters on the spans, whose part comes behind x.
  void Project(const AdaptedLinear& linear, Rows x, void* y, LinearResult result,
               LinearPlans& plans, const Context& context) const;
  void GateUp(const DecoderLayer& weights, LinearPlans& plans, const Context& context) const;

  const Decoder& decoder_;
  const KvCache& cache_;
  const int64_t sequence_;
  const int64_t rows_;
  const std::vector<RowSpan> spans_;
  const int64_t rank_;  ///< of the adapters; 0 without spans

  const int32_t* ids_ = nullptr;             // (T)
  const int32_t* positions_ = nullptr;       // (T)
  const int32_t* rope_tables_ = nullptr;     // (T)
  const int64_t* slots_ = nullptr;           // (T)
  const int32_t* first_row_ = nullptr;       // (1)
  const int32_t* row_count_ = nullptr;       // (1)
  const int32_t* first_position_ = nullptr;  // (1)
  float* cos_ = nullptr;                     // (T, D / 2)
  float* sin_ = nullptr;                     // (T, D / 2)
  float* hidden_ = nullptr;                  // (T, C), the residual stream
  Rows normed_;                              // (T, C), room on both sides
  void* qkv_ = nullptr;                      // (T, qkv)
  void* q_ = nullptr;                        // (T, H, D)
  Rows mixed_;                               // (T, H, D), room behind
  Rows inner_;                               // (T, F), the gate at first; room, the up behind it
  float* logits_ = nullptr;                  // (V)
  const SamplingOptions* options_ = nullptr;
  uint32_t* seen_ = nullptr;
  int64_t* steps_ = nullptr;
  uint64_t* sample_partial_ = nullptr;
  int32_t* sample_counters_ = nullptr;
  int32_t* id_ = nullptr;
};

}  // namespace xcomposer::cuda
