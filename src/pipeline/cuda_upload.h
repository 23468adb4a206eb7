#pragma once

#include <c10/cuda/CUDAStream.h>

#include <cstddef>
#include <memory>

#include "pipeline/staged_upload.h"

namespace xcomposer {

/// Uploads to the GPU of `allocating`, the stream whose memory the targets are, from `buffers`
/// buffers of 4 MiB. Takes 16 MiB of the GPU, 4 for each of its streams, until it is destroyed.
/// Must be made and destroyed where `allocating` is the current stream.
std::unique_ptr<UploadDevice> MakeCudaUpload(c10::cuda::CUDAStream allocating, size_t buffers);

}  // namespace xcomposer
