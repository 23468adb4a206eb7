#pragma once

namespace xcomposer::cpu {

/// How many threads can really run at once in this process: the processors of its affinity mask, or
/// fewer where a control group allows less time than that (rounded up). At least 1.
int UsableCores();

}  // namespace xcomposer::cpu
