#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace xcomposer {

/// How weights lie in memory. Arithmetic on the CPU is float32 whatever this says.
enum class WeightStorage { kAsStored, kFloat32, kFloat16, kBFloat16 };

/// What a conversion did to the values of one tensor.
struct CastCounts {
  int64_t overflows = 0;   ///< finite before, infinite after
  int64_t underflows = 0;  ///< not zero before, zero after
};

/// Writes `count` numbers of type `from` as type `to`, either of them bfloat16, float16 or float32.
CastCounts Cast(const void* in, at::ScalarType from, void* out, at::ScalarType to, size_t count);

/// Throws kCheckpoint, naming the tensor, where a value became infinite.
void RequireNoOverflow(const CastCounts& counts, at::ScalarType type, const std::string& name);

/// The tensor in the wanted storage, unchanged where it has it already. Throws kCheckpoint naming
/// the tensor where a value would become infinite; underflows are counted and accepted.
at::Tensor StoredAs(const at::Tensor& weight, WeightStorage storage, const std::string& name,
                    CastCounts& counts);

}  // namespace xcomposer
