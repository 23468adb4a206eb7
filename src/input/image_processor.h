#pragma once

#include "batch/picture.h"
#include "input/pixel_view.h"
#include "input/tiling.h"

namespace xcomposer {

/// Resizes and pads a picture as the reference does for this kind (the model specification, 4.2
/// to 4.4): the result has the size that LayoutFor gives. Takes a DecodedImage as well as RGB
/// pixels of any other source. 2.5's reference fails on files that are not RGB or have an unknown
/// extension; here every decodable picture is accepted and converted.
///
/// Throws what LayoutFor throws, and Error(kImage) where the number of bytes does not fit the size.
Picture ProcessPicture(const PixelView& image, const PictureRule& rule);

/// Puts `content` onto a white picture of the given size, its corner at (x, y). It must fit.
Picture PadWhite(const PixelView& content, const PictureLayout& layout);

}  // namespace xcomposer
