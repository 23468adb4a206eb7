#include "transport/links.h"

namespace xcomposer {

std::unique_ptr<Links> MakeZeroMqLinks(const LinkOptions& /*options*/) {
  throw Error(ErrorKind::kTransport,
              "this build has no ZeroMQ, so one process cannot talk to another. Build with "
              "libzmq3-dev, cppzmq-dev and libsodium-dev, or run all stages in one process "
              "(--devices)");
}

}  // namespace xcomposer
