#pragma once

#include <string>
#include <zmq.hpp>

#include "transport/links.h"

namespace xcomposer {

/// Follows what happens to the connection of one sending socket. Belongs to the thread that polls
/// its own socket.
class Monitor {
 public:
  /// `name` is an inproc address of its own. Throws zmq::error_t.
  Monitor(zmq::context_t& context, zmq::socket_t& watched, int rank, const std::string& name);

  zmq::socket_t& socket() { return socket_; }
  void Report(LinkSink& sink);

 private:
  void Report(int event, LinkSink& sink);

  zmq::socket_t socket_;
  const int rank_;
  bool established_ = false;
  int failures_ = 0;
};

}  // namespace xcomposer
