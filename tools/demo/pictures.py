"""Training and test pictures: Fashion-MNIST, and drawn numbers and dots. All gray, 28 by 28."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

DATASET = Path("/usr/share/datasets/fashion-mnist")
FONTS = Path("/usr/share/fonts/truetype/dejavu")
SIZE = 28


def fashion(split: str, folder: Path = DATASET) -> tuple[np.ndarray, np.ndarray]:
    """`split` is "train" or "t10k": pictures uint8 [N, 28, 28] and classes uint8 [N]."""
    try:
        with gzip.open(folder / f"{split}-images-idx3-ubyte.gz") as file:
            images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, SIZE, SIZE)
        with gzip.open(folder / f"{split}-labels-idx1-ubyte.gz") as file:
            labels = np.frombuffer(file.read(), np.uint8, offset=8)
    except FileNotFoundError as error:
        raise SystemExit(f"{error.filename} is missing: install dataset-fashion-mnist, or name "
                         "the folder of the four idx files with --dataset") from error
    return images, labels


def _canvas(rng: random.Random) -> tuple[Image.Image, ImageDraw.ImageDraw, int]:
    """Dark or light ground with ink of the opposite brightness, at four times the final size."""
    dark = rng.random() < 0.7
    ground = rng.randrange(0, 40) if dark else rng.randrange(200, 256)
    ink = rng.randrange(150, 256) if dark else rng.randrange(0, 90)
    image = Image.new("L", (4 * SIZE, 4 * SIZE), ground)
    return image, ImageDraw.Draw(image), ink


def _shrink(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX))


def draw_number(value: int, fonts: list[Path], rng: random.Random) -> np.ndarray:
    """A number of one or two digits in a random face, size and place."""
    image, draw, ink = _canvas(rng)
    text = str(value)
    size = rng.randrange(64, 100) if len(text) == 1 else rng.randrange(52, 76)
    font = ImageFont.truetype(str(rng.choice(fonts)), size)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    free_x, free_y = 4 * SIZE - (right - left), 4 * SIZE - (bottom - top)
    x = rng.uniform(0.2, 0.8) * free_x - left
    y = rng.uniform(0.2, 0.8) * free_y - top
    draw.text((x, y), text, fill=ink, font=font)
    return _shrink(image)


def _scatter(count: int, radius: float,
             rng: random.Random) -> tuple[float, list[tuple[float, float]]]:
    """Centres of dots that do not touch, and their radius: it shrinks when they find no room."""
    tries = 0
    placed: list[tuple[float, float]] = []
    while len(placed) < count:
        x, y = (rng.uniform(radius + 2, 4 * SIZE - radius - 2) for _ in range(2))
        if all((x - a) ** 2 + (y - b) ** 2 > (2 * radius + 6) ** 2 for a, b in placed):
            placed.append((x, y))
        tries += 1
        if tries == 200:
            return _scatter(count, 0.9 * radius, rng)
    return radius, placed


def draw_dots(count: int, rng: random.Random) -> np.ndarray:
    """Dots of one size that do not touch."""
    image, draw, ink = _canvas(rng)
    radius, centres = _scatter(count, rng.uniform(7, 11), rng)
    for x, y in centres:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
    return _shrink(image)


def drawn(count: int, seed: int, folder: Path = FONTS) -> tuple[np.ndarray, list[tuple[str, int]]]:
    """`count` drawn pictures, numbers and dots in turn, with their subjects."""
    fonts = sorted(p for p in folder.glob("DejaVu*.ttf") if "Math" not in p.name)
    if not fonts:
        raise SystemExit(f"no DejaVu*.ttf in {folder}: install fonts-dejavu")
    rng = random.Random(seed)
    images = np.empty((count, SIZE, SIZE), np.uint8)
    subjects: list[tuple[str, int]] = []
    for index in range(count):
        if index % 2 == 0:
            value = rng.randrange(100) if rng.random() < 0.7 else rng.randrange(10)
            images[index] = draw_number(value, fonts, rng)
            subjects.append(("number", value))
        else:
            value = rng.randrange(1, 10)
            images[index] = draw_dots(value, rng)
            subjects.append(("dots", value))
    return images, subjects
