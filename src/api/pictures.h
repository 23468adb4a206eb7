#pragma once

#include <memory>
#include <vector>

#include "api/prepare.h"
#include "batch/picture.h"

namespace xcomposer::api {

struct PreparedPictures {
  std::vector<std::shared_ptr<const Picture>> pictures;
  std::vector<int64_t> rows;  ///< of each in the merged sequence
};

/// Decodes, resizes and pads the request's pictures as its kind does. Throws kImage and kRequest,
/// and kCapacity, before it resizes the picture, from the first one on that has no place in the
/// context's budget.
PreparedPictures PreparePictures(const Request& request, const RequestContext& context);

}  // namespace xcomposer::api
