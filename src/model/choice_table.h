#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "batch/batch.h"
#include "ops/ops.h"

namespace xcomposer {

/// The rule of one row, without the ids that it has seen.
ops::ChoiceRule RuleOf(const IdChoice& choice);

/// int32 words of a row of ChoiceTable::seen.
constexpr int64_t SeenWords(int64_t vocab) { return (vocab + 31) / 32; }

/// Sets the bits of the ids that the choice has seen in a row of zeros.
void MarkSeen(const IdChoice& choice, int32_t* words);

/// Of the rows whose scores the batch wants, all of which have a choice; on `device`.
ops::ChoiceTable MakeChoiceTable(const Batch& batch, int64_t vocab, at::Device device);

}  // namespace xcomposer
