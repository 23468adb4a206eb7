#include "transport/zeromq_key_check.h"

#include <array>
#include <vector>

#include "base/check.h"

namespace xcomposer {

KeyCheck::KeyCheck(zmq::context_t& context, const CurveKeys& keys, int world_size)
    : socket_(context, zmq::socket_type::rep) {
  for (int rank = 0; rank < world_size; ++rank) {
    const auto key = keys.ForConnecting(rank).public_key;
    ranks_[{reinterpret_cast<const char*>(key.data()), key.size()}] = rank;
  }
  socket_.set(zmq::sockopt::linger, 0);
  socket_.bind("inproc://zeromq.zap.01");
}

void KeyCheck::Answer() {
  std::vector<std::string> request;
  zmq::message_t part;
  while (socket_.recv(part, zmq::recv_flags::dontwait)) {
    request.push_back(part.to_string());
    if (!part.more()) break;
  }
  if (request.size() < 2) return;
  // version, request id, domain, address, identity, mechanism, credentials
  const bool is_curve = request.size() == 7 && request[5] == "CURVE";
  const auto found = is_curve ? ranks_.find(request[6]) : ranks_.end();
  const bool known = found != ranks_.end();
  const std::array<std::string, 6> reply = {"1.0",
                                            request[1],
                                            known ? "200" : "400",
                                            known ? "OK" : "not a key of this run",
                                            known ? StrCat(found->second) : "",
                                            ""};
  for (size_t i = 0; i < reply.size(); ++i) {
    socket_.send(zmq::buffer(reply[i]),
                 i + 1 < reply.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
  }
}

}  // namespace xcomposer
