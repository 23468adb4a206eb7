#pragma once

#include <cstdint>

#include "kernels/cpu/context.h"
#include "kernels/cpu/number.h"

namespace xcomposer::cpu {

/// x = x * sigmoid(1.702 x).
void QuickGelu(float* x, int64_t count, const Context& context);

/// x = x * (1 + erf(x / sqrt 2)) / 2.
void Gelu(float* x, int64_t count, const Context& context);

/// gate = gate * sigmoid(gate) * up.
void SiluMul(float* gate, const float* up, int64_t count, const Context& context);

/// y += x.
void Add(float* y, const float* x, int64_t count, const Context& context);

/// out (count, table.columns) = the named rows of the table; a negative id gives zeros. The ids
/// must be less than table.rows.
void Embedding(const int64_t* ids, int64_t count, const StoredMatrix& table, float* out,
               const Context& context);

}  // namespace xcomposer::cpu
