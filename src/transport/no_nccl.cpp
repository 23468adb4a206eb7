#include "transport/nccl_api.h"

namespace xcomposer {

std::optional<NcclApi> SystemNccl() { return std::nullopt; }

}  // namespace xcomposer
