#pragma once

#include <map>
#include <string>
#include <zmq.hpp>

#include "transport/curve_keys.h"

namespace xcomposer {

/// Answers ZeroMQ's question whether a client's key belongs to the run (ZAP, RFC 27). Belongs to
/// the thread that polls its socket.
class KeyCheck {
 public:
  KeyCheck(zmq::context_t& context, const CurveKeys& keys, int world_size);

  zmq::socket_t& socket() { return socket_; }
  void Answer();

 private:
  std::map<std::string, int> ranks_;  // by public key
  zmq::socket_t socket_;
};

}  // namespace xcomposer
