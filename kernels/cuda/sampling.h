#pragma once

#include <cstdint>

#include "kernels/cuda/context.h"

namespace xcomposer::cuda {

/// How one sequence's ids are chosen; the fields are the engine's SearchOptions.
struct SamplingOptions {
  uint64_t seed = 0;
  float temperature = 1.0f;
  float dropped_mass = 0.0f;  ///< 1 - top_p, at least 0
  float repetition_penalty = 1.0f;
  int32_t top_k = 0;      ///< 0: no limit
  int32_t do_sample = 0;  ///< 0: the largest score, of equal ones the smallest id
};

/// Everything is read and written on the device, so that one step need not wait for the host.
struct SampleParams {
  const float* logits = nullptr;  ///< (rows, vocab)
  int64_t rows = 0;
  int64_t vocab = 0;                         ///< less than 2^24
  const SamplingOptions* options = nullptr;  ///< (rows)
  /// (rows, ceil(vocab / 32)): a bit for every id that is there already; gets the chosen one's.
  uint32_t* seen = nullptr;
  int64_t* steps = nullptr;  ///< (rows): new ids so far, which numbers the draws; grows by one
  /// (rows): the chosen one; -1 where the host must look at the logits, because a score is not a
  /// finite number, or because float32 rounding decides which id is drawn.
  int32_t* ids = nullptr;
  uint64_t* partial = nullptr;  ///< SamplePartialWords; only written and read in here
  int32_t* counters = nullptr;  ///< (rows): zero before the first call, and after each
};

/// 64-bit words that `partial` must hold.
int64_t SamplePartialWords(int64_t rows, int64_t vocab);

/// Repetition penalty, then temperature, top-k (ties with the last one stay), top-p (drops the ids
/// of lowest score while their sum is at most dropped_mass; the best stays), then a draw by the
/// counter-based generator. Every id but -1 is the one that engine/sampler.h gives for these
/// logits. Probabilities are added up as integers (units of 2^-44 of the largest one), so that the
/// order of threads changes nothing.
cudaError_t Sample(const SampleParams& params, const Context& context);

}  // namespace xcomposer::cuda
