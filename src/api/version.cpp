#include "xcomposer/version.h"

namespace xcomposer {

const char* Version() { return XCOMPOSER_VERSION; }

}  // namespace xcomposer
