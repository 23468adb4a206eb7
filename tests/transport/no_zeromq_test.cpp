// A build without ZeroMQ says so, and still runs ranks as threads.
#include <gtest/gtest.h>

#include "transport/links.h"

namespace xcomposer {
namespace {

TEST(NoZeroMq, SeveralProcessesAreRefusedByName) {
  try {
    MakeZeroMqLinks({});
    FAIL() << "there are links without ZeroMQ";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kTransport);
    EXPECT_NE(std::string(error.what()).find("libzmq3-dev"), std::string::npos);
  }
}

}  // namespace
}  // namespace xcomposer
