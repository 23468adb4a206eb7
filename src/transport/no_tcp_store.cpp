#include "transport/store.h"
#include "xcomposer/error.h"

namespace xcomposer {

std::shared_ptr<Store> OpenTcpStore(const TcpStoreOptions& /*options*/) {
  throw Error(ErrorKind::kTransport,
              "this build has no LibTorch, whose TCPStore is the meeting place of the ranks");
}

}  // namespace xcomposer
