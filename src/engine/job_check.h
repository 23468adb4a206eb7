#pragma once

#include <cstdint>

#include "engine/job.h"

namespace xcomposer {

/// Throws Error(kRequest) that says what is wrong with the job: empty prompt, ids outside the
/// vocabulary, picture spans that do not fit the -1 rows, search options out of range.
void Validate(const Job& job, int64_t vocab);

}  // namespace xcomposer
