#pragma once

#include <cstddef>
#include <span>

namespace xcomposer {

/// Throws Error(kImage) where the values of a TIFF's (or BigTIFF's) first directory take more bytes
/// than the file has. libtiff copies the values of every tag while it opens a file; thousands of
/// tags that point at the same bytes would cost gigabytes. Values of an honest file do not overlap.
/// Values that end beyond the file do not count: libtiff leaves such a tag out.
void CheckTiffDirectory(std::span<const std::byte> encoded);

}  // namespace xcomposer
