#include "transport/send_check.h"

#include "base/check.h"

namespace xcomposer {

void CheckFrameToSend(int to, int world_size, const FrameHeader& header, const Payload& payload) {
  Check(to >= 0 && to < world_size, "a frame to rank ", to, " of ", world_size);
  Check(header.channel >= Channel::kControl && header.channel <= Channel::kSetup,
        "a frame on channel ", static_cast<int>(header.channel));
  Check(header.rows >= 0 && payload.size >= 0, "a frame of ", header.rows, " rows and ",
        payload.size, " bytes");
  Check(header.payload_bytes == payload.size, "a header that promises ", header.payload_bytes,
        " bytes over a payload of ", payload.size);
  Check(!payload.on_device, "a payload in a GPU's memory, which only a RowLink carries");
  Check(payload.size == 0 || payload.data != nullptr, "a payload of ", payload.size,
        " bytes without bytes");
}

}  // namespace xcomposer
