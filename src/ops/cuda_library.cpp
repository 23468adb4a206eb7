#include "ops/cuda_library.h"

namespace xcomposer::ops {

void RegisterCudaOps(torch::Library& m) {
  RegisterCudaLinear(m);
  RegisterCudaRows(m);
  RegisterCudaAttention(m);
  RegisterCudaDecode(m);
  RegisterCudaVision(m);
}

}  // namespace xcomposer::ops
