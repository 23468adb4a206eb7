"""From a picture file to normalised pixels (model specification 4)."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
WHITE = (255, 255, 255)


def normalise(image: Image.Image) -> torch.Tensor:
    """RGB picture -> float32 [3, H, W]."""
    rgb = torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    return (rgb.float() / 255 - mean) / std


def square(image: Image.Image, size: int) -> Image.Image:
    """2-7b, 2-vl-7b, 2-vl-1.8b: bicubic resize that ignores the aspect ratio."""
    return image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)


def _scale(ratio: float, limit: int) -> int:
    scale = 1
    while scale * math.ceil(scale / ratio) <= limit:
        scale += 1
    return scale - 1


def tiled(image: Image.Image, kind: str, limit: int) -> Image.Image:
    """2-4khd-7b and 2.5-7b: bilinear resize to whole tiles of at most `limit`, padded white."""
    tile = 336 if kind == "2-4khd-7b" else 560
    image = image.convert("RGB")
    transposed = image.width < image.height
    if transposed:
        image = image.transpose(Image.Transpose.TRANSPOSE)
    ratio = image.width / image.height
    scale = _scale(ratio, limit)
    if kind == "2.5-7b":
        scale = min(math.ceil(image.width / tile), scale)
    width = tile * scale
    height = int(width / ratio)
    padded = math.ceil(height / tile) * tile
    top = int((padded - height) / 2) if kind == "2-4khd-7b" else 0
    canvas = Image.new("RGB", (width, padded), WHITE)
    canvas.paste(image.resize((width, height), Image.Resampling.BILINEAR), (0, top))
    return canvas.transpose(Image.Transpose.TRANSPOSE) if transposed else canvas


def video_canvas(canvas: Image.Image) -> Image.Image:
    """2.5-7b: the drawn canvas of a video -> padded picture (4.5, step 4)."""
    transposed = canvas.width < canvas.height
    if transposed:
        canvas = canvas.transpose(Image.Transpose.TRANSPOSE)
    width = int(560 * (canvas.width / canvas.height))
    resized = canvas.resize((width, 560), Image.Resampling.BILINEAR)
    resized = resized.transpose(Image.Transpose.TRANSPOSE)
    out = Image.new("RGB", (560, math.ceil(width / 560) * 560), WHITE)
    out.paste(resized, (0, 0))
    return out if transposed else out.transpose(Image.Transpose.TRANSPOSE)
