#pragma once

#include "xcomposer/export.h"

namespace xcomposer {

/// Version of the library that runs, "major.minor.patch".
XCOMPOSER_API const char* Version();

}  // namespace xcomposer
