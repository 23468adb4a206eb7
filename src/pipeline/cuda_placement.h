#pragma once

#include "base/check.h"
#include "kernels/cuda/place_weights.h"
#include "pipeline/staged_upload.h"

namespace xcomposer {

/// What the kernel is to do with a piece that lies at `staged`.
inline cuda::PlaceWeightsParams PlacementOf(const UploadPiece& piece, const void* staged) {
  const UploadTensor& tensor = piece.tensor;
  cuda::PlaceWeightsParams params;
  params.staged = staged;
  switch (tensor.stored) {
    case at::kHalf:
      params.from = cuda::FileFormat::kFloat16;
      break;
    case at::kBFloat16:
      params.from = cuda::FileFormat::kBfloat16;
      break;
    default:
      Check(tensor.stored == at::kFloat, "weights of type ", tensor.stored, " on their way");
      params.from = cuda::FileFormat::kFloat32;
  }
  Check(tensor.type == at::kHalf || tensor.type == at::kBFloat16, "weights are to become ",
        tensor.type);
  params.to = tensor.type == at::kHalf ? cuda::Format::kFloat16 : cuda::Format::kBfloat16;
  params.target = tensor.target;
  params.first = piece.first;
  params.count = piece.count;
  params.columns = tensor.columns;
  params.row_stride = tensor.row_stride;
  params.losses = reinterpret_cast<uint64_t*>(tensor.losses);
  return params;
}

}  // namespace xcomposer
