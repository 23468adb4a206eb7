#include "transport/zeromq_monitor.h"

#include <cstring>

namespace xcomposer {

Monitor::Monitor(zmq::context_t& context, zmq::socket_t& watched, int rank, const std::string& name)
    : socket_(context, zmq::socket_type::pair), rank_(rank) {
  const int events = ZMQ_EVENT_CLOSED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
                     ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                     ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
  if (zmq_socket_monitor(watched.handle(), name.c_str(), events) != 0) throw zmq::error_t();
  socket_.set(zmq::sockopt::linger, 0);
  socket_.connect(name);
}

void Monitor::Report(LinkSink& sink) {
  zmq::message_t event;
  zmq::message_t address;
  while (socket_.recv(event, zmq::recv_flags::dontwait) &&
         socket_.recv(address, zmq::recv_flags::dontwait)) {
    uint16_t number = 0;
    if (event.size() < sizeof(number)) continue;
    std::memcpy(&number, event.data(), sizeof(number));
    Report(number, sink);
  }
}

void Monitor::Report(int event, LinkSink& sink) {
  if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
    established_ = true;
    sink.OnEvent({LinkEvent::Kind::kReached, rank_});
  } else if (event == ZMQ_EVENT_CLOSED) {  // of an attempt to connect
    sink.OnEvent({LinkEvent::Kind::kUnreachable, rank_});
  } else if (event == ZMQ_EVENT_DISCONNECTED) {
    if (established_) sink.OnEvent({LinkEvent::Kind::kClosed, rank_});
  } else {
    // Who holds another key only closes the connection, as does a process that ends just then.
    constexpr int kTries = 3;
    ++failures_;
    if (event != ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL || failures_ == kTries) {
      sink.OnEvent({LinkEvent::Kind::kRefused, rank_});
    }
  }
}

}  // namespace xcomposer
