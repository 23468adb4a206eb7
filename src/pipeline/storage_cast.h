#pragma once

#include <ATen/core/Tensor.h>

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

/// The tensor in the wanted storage, unchanged where it has it already. Throws kCheckpoint naming
/// the tensor where a value would become infinite; underflows are counted and accepted.
at::Tensor StoredAs(const at::Tensor& weight, WeightStorage storage, const std::string& name,
                    CastCounts& counts);

}  // namespace xcomposer
