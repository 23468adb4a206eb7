#pragma once

#include "xcomposer/export.h"

namespace xcomposer {

/// Version of the library that runs, "major.minor.patch".
XCOMPOSER_API const char* Version();

/// The commit that it was built from, with "-dirty" where files had been changed since; empty where
/// the sources were not a git checkout.
XCOMPOSER_API const char* Commit();

}  // namespace xcomposer
