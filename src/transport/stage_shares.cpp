#include "transport/stage_shares.h"

#include <cstring>

#include "base/check.h"
#include "transport/wire_bytes.h"

namespace xcomposer {

Payload EncodeShares(const std::vector<StageShare>& shares) {
  WireWriter out;
  out.Put(static_cast<uint32_t>(shares.size()));
  for (const StageShare& share : shares) {
    out.Put(static_cast<uint64_t>(share.end_layer));
    out.Put(static_cast<uint64_t>(share.budget));
  }
  Payload payload = Payload::Allocate(static_cast<int64_t>(out.bytes().size()));
  std::memcpy(payload.data, out.bytes().data(), out.bytes().size());
  return payload;
}

std::vector<StageShare> DecodeShares(std::span<const std::byte> bytes, size_t stages) {
  WireReader in(bytes);
  const auto count = in.Get<uint32_t>();
  Require(in.good() && count == stages, ErrorKind::kTransport, "rank 0 placed ", count,
          " stages, expected ", stages);
  std::vector<StageShare> shares;
  int64_t begin = 0;
  for (uint32_t i = 0; i < count && in.good(); ++i) {
    StageShare share;
    share.end_layer = static_cast<int64_t>(in.Get<uint64_t>());
    share.budget = static_cast<int64_t>(in.Get<uint64_t>());
    if (!in.good()) break;
    Require(share.end_layer >= begin && share.budget >= 0, ErrorKind::kTransport,
            "rank 0 gave stage ", i, " the layers ", begin, " to ", share.end_layer, " and ",
            share.budget, " bytes");
    begin = share.end_layer;
    shares.push_back(share);
  }
  Require(in.finished(), ErrorKind::kTransport, "rank 0 sent ", bytes.size(),
          " bytes that are no placement of ", stages, " stages");
  return shares;
}

}  // namespace xcomposer
