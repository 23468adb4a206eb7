#include "base/check.h"
#include "pipeline/stage_device.h"

// Stands in for cuda_device.cpp in a build without CUDA.
namespace xcomposer {

std::unique_ptr<StageDevice> MakeCudaDevice(int number, const PipelineOptions&,
                                            std::optional<int64_t>) {
  throw Error(ErrorKind::kDevice,
              StrCat("this build has no CUDA part; a stage cannot run on cuda:", number),
              {{"device", StrCat("cuda:", number)}});
}

}  // namespace xcomposer
