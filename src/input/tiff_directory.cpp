#include "input/tiff_directory.h"

#include <array>
#include <bit>
#include <cstdint>

#include "base/checked_math.h"
#include "input/picture_reader.h"

namespace xcomposer {
namespace {

constexpr int64_t kBigVersion = 43;

/// Bytes of one value by its type; 0 for numbers that are no type.
int64_t SizeOfType(int64_t type) {
  constexpr std::array<int64_t, 19> kSizes = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4,
                                              8, 4, 8, 4, 0, 0, 8, 8, 8};
  return type < static_cast<int64_t>(kSizes.size()) ? kSizes[type] : 0;
}

}  // namespace

void CheckTiffDirectory(std::span<const std::byte> encoded) {
  const auto size = static_cast<int64_t>(encoded.size());
  const bool big_endian = !encoded.empty() && encoded[0] == std::byte{'M'};
  PictureReader reader(encoded, big_endian ? std::endian::big : std::endian::little);
  reader.Skip(2);
  const bool big = reader.U16() == kBigVersion;
  if (big) reader.Skip(4);  // the size of an offset, which is 8, and two bytes of zero
  const auto offset = [&] { return big ? reader.I64() : reader.U32(); };
  reader.Seek(offset());
  const int64_t entries = big ? reader.I64() : reader.U16();
  int64_t sum = 0;
  for (int64_t i = 0; i < entries; ++i) {
    reader.Skip(2);  // the tag
    const int64_t type = reader.U16();
    const auto bytes = CheckedMul(offset(), SizeOfType(type));
    const int64_t at = offset();
    const bool inside = bytes && *bytes >= 0 && at >= 0 && *bytes <= size && at <= size - *bytes;
    const int64_t room = big ? 8 : 4;  // smaller values stand in the entry itself
    if (!inside || *bytes <= room) continue;
    sum += *bytes;  // cannot overflow: no value is larger than the file, and it is refused below
    Require(sum <= size, ErrorKind::kImage, "broken TIFF: the values of its first ", i + 1,
            " tags take ", sum, " bytes, the file has only ", size, ": they overlap");
  }
}

}  // namespace xcomposer
