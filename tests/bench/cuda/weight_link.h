#pragma once

#include "bench/cuda/figures.h"

namespace xcomposer::cuda {

/// What loading weights needs of the card beside copies: memory, and numbers in another type.
void MeasureWeightLink(Figures& figures);

}  // namespace xcomposer::cuda
