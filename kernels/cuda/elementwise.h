#pragma once

#include <cstdint>

#include "kernels/cuda/context.h"
#include "kernels/cuda/number.h"

namespace xcomposer::cuda {

// All pointers on 16 bytes. Counts may be anything; row lengths are multiples of 8.

struct ActivationParams {
  void* x = nullptr;  ///< (count), as stored; in place
  int64_t count = 0;
  Format format = Format::kFloat16;
};

/// x = x * sigmoid(1.702 x), the vision tower's activation.
cudaError_t QuickGelu(const ActivationParams& params, const Context& context);

/// x = x * (1 + erf(x / sqrt 2)) / 2, the projector's activation.
cudaError_t Gelu(const ActivationParams& params, const Context& context);

/// Gate and up may be the two halves of one product's rows.
struct SiluMulParams {
  const void* gate = nullptr;  ///< (rows, columns), as stored
  const void* up = nullptr;    ///< (rows, columns)
  int64_t in_stride = 0;       ///< numbers between rows of gate and of up
  void* out = nullptr;         ///< (rows, columns), may be gate
  int64_t out_stride = 0;      ///< numbers between its rows
  int64_t rows = 0;
  int64_t columns = 0;
  Format format = Format::kFloat16;
};

/// out = gate * sigmoid(gate) * up.
cudaError_t SiluMul(const SiluMulParams& params, const Context& context);

struct AddParams {
  float* y = nullptr;       ///< (count), the residual stream
  const void* x = nullptr;  ///< (count), as stored
  int64_t count = 0;
  Format format = Format::kFloat16;
};

/// y += x.
cudaError_t Add(const AddParams& params, const Context& context);

struct EmbeddingParams {
  const int32_t* ids = nullptr;  ///< (rows), read on the device
  const void* table = nullptr;   ///< (vocab, columns), as stored
  float* out = nullptr;          ///< (rows, columns), the residual stream
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t vocab = 0;
  Format format = Format::kFloat16;
};

/// The named rows of the table. A negative id gives zeros: a place that a picture's features will
/// take. An id of `vocab` or more gives NaN, so that it cannot pass unseen.
cudaError_t Embedding(const EmbeddingParams& params, const Context& context);

}  // namespace xcomposer::cuda
