#include "input/webp_container.h"

#include <string_view>

#include "base/check.h"
#include "input/picture_reader.h"

namespace xcomposer {
namespace {

constexpr int64_t kAlphaFlag = 0x10;  // of the VP8X chunk

struct Chunk {
  std::string_view name;
  EncodedBytes data;
  EncodedBytes whole;  // with its header and padding
};

std::string_view TakeName(PictureReader& in) {
  const auto bytes = in.Take(4);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Chunk TakeChunk(PictureReader& in, EncodedBytes all) {
  const int64_t start = in.position();
  Chunk chunk;
  chunk.name = TakeName(in);
  const int64_t size = in.U32();
  chunk.data = in.Take(size);
  if (size % 2 != 0 && in.remaining() > 0) in.Skip(1);
  chunk.whole = all.subspan(static_cast<size_t>(start), static_cast<size_t>(in.position() - start));
  return chunk;
}

/// Sets the size that the header of a lossy ("VP8 ") or lossless ("VP8L") bit stream states.
void ReadStreamSize(const Chunk& chunk, WebpStill& still) {
  PictureReader in(chunk.data);
  if (chunk.name == "VP8 ") {
    in.Skip(3);
    Require(in.U24() == 0x2A019D, ErrorKind::kImage, "broken WebP: no key frame at its start");
    still.width = in.U16() & 0x3FFF;
    still.height = in.U16() & 0x3FFF;
    return;
  }
  Require(in.U8() == 0x2F, ErrorKind::kImage, "broken WebP: no lossless signature at its start");
  const int64_t bits = in.U32();
  still.width = (bits & 0x3FFF) + 1;
  still.height = (bits >> 14 & 0x3FFF) + 1;
  still.has_alpha = (bits >> 28 & 1) != 0;
}

bool IsStream(const Chunk& chunk) { return chunk.name == "VP8 " || chunk.name == "VP8L"; }

void Append(std::vector<std::byte>& out, EncodedBytes bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void AppendName(std::vector<std::byte>& out, std::string_view text) {
  for (const char c : text) out.push_back(static_cast<std::byte>(c));
}

void AppendNumber(std::vector<std::byte>& out, int64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<std::byte>(value >> (8 * i) & 0xFF));
}

/// A file with the frame's alpha and pixel chunks, and nothing else.
std::vector<std::byte> BuildFile(const WebpStill& still, EncodedBytes alpha, EncodedBytes stream) {
  std::vector<std::byte> body;
  AppendName(body, "WEBP");
  AppendName(body, "VP8X");
  AppendNumber(body, 10, 4);
  AppendNumber(body, alpha.empty() ? 0 : kAlphaFlag, 4);
  AppendNumber(body, still.width - 1, 3);
  AppendNumber(body, still.height - 1, 3);
  Append(body, alpha);
  Append(body, stream);
  if (body.size() % 2 != 0) body.push_back(std::byte{0});
  std::vector<std::byte> file;
  AppendName(file, "RIFF");
  AppendNumber(file, static_cast<int64_t>(body.size()), 4);
  Append(file, body);
  return file;
}

/// `frame` is the payload of an ANMF chunk.
void ReadFrame(EncodedBytes frame, WebpStill& still) {
  PictureReader in(frame);
  still.left = in.U24() * 2;
  still.top = in.U24() * 2;
  const int64_t width = in.U24() + 1;
  const int64_t height = in.U24() + 1;
  in.Skip(4);
  EncodedBytes alpha;
  while (in.remaining() > 0) {
    const Chunk chunk = TakeChunk(in, frame);
    if (chunk.name == "ALPH") alpha = chunk.whole;
    if (!IsStream(chunk)) continue;
    ReadStreamSize(chunk, still);
    Require(still.width == width && still.height == height, ErrorKind::kImage,
            "broken WebP: the first frame's size differs from its header");
    still.owned = BuildFile(still, chunk.name == "VP8 " ? alpha : EncodedBytes{}, chunk.whole);
    still.file = still.owned;
    return;
  }
  throw Error(ErrorKind::kImage, "broken WebP: the first frame holds no picture");
}

void ReadExtended(EncodedBytes header, PictureReader& in, EncodedBytes all, WebpStill& still) {
  constexpr int64_t kAnimationFlag = 0x02;
  PictureReader fields(header);
  const int64_t flags = fields.U8();
  fields.Skip(3);
  still.canvas_width = fields.U24() + 1;
  still.canvas_height = fields.U24() + 1;
  bool found = false;
  while (!found && in.remaining() >= 8) {
    const Chunk chunk = TakeChunk(in, all);
    found = true;
    if (chunk.name == "ANMF" && (flags & kAnimationFlag) != 0) {
      ReadFrame(chunk.data, still);
    } else if (IsStream(chunk)) {
      ReadStreamSize(chunk, still);
    } else {
      found = false;
    }
  }
  Require(found, ErrorKind::kImage, "broken WebP: it holds no picture");
  still.has_alpha = (flags & kAlphaFlag) != 0;
}

}  // namespace

WebpStill FindWebpStill(EncodedBytes encoded) {
  PictureReader outer(encoded);
  outer.Skip(4);
  const int64_t size = outer.U32();
  Require(size <= outer.remaining(), ErrorKind::kImage, "truncated WebP: ", size,
          " bytes announced, ", outer.remaining(), " there");
  const EncodedBytes all = encoded.first(static_cast<size_t>(8 + size));
  PictureReader in(all);
  in.Skip(12);
  WebpStill still;
  still.file = all;
  const Chunk first = TakeChunk(in, all);
  if (first.name == "VP8X") {
    ReadExtended(first.data, in, all, still);
  } else {
    Require(IsStream(first), ErrorKind::kImage, "broken WebP: it starts with an unknown chunk");
    ReadStreamSize(first, still);
    still.canvas_width = still.width;
    still.canvas_height = still.height;
  }
  Require(still.left + still.width <= still.canvas_width &&
              still.top + still.height <= still.canvas_height,
          ErrorKind::kImage, "broken WebP: the first frame lies outside of the canvas");
  return still;
}

}  // namespace xcomposer
