#!/usr/bin/env python3
"""Writes the small pictures of this folder, and expected.txt with what Pillow makes of them.

Usage: make_pictures.py FOLDER        (needs Pillow and NumPy; the pictures are committed)

Each line of expected.txt: file, Pillow's mode, width, height, SHA-256 of Image.convert("RGB").
What Pillow itself does not write (interlaced PNG, run-length BMP, partial GIF frames, ...) is put
together here byte by byte.
"""
import hashlib
import io
import os
import struct
import sys
import warnings
import zlib

import numpy as np
from PIL import Image

warnings.simplefilter("ignore")
FILES = {}


def noise(count, seed):
    """Bytes of a linear congruential generator, so that no library's random numbers matter."""
    out, state = bytearray(), seed * 2654435761 % 2**32
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        out.append(state >> 24)
    return bytes(out)


def colour(width=21, height=13):
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 11 + y, y * 17 + x, (x * y * 3) % 256], -1)
    return Image.fromarray(pixels.astype(np.uint8))


def pillow(name, image, **options):
    out = io.BytesIO()
    image.save(out, **options)
    FILES[name] = out.getvalue()


# --- PNG ---------------------------------------------------------------------------------------------
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_rows(width, height, bits, samples, interlaced):
    values = noise(width * height * samples * 2, bits + samples)
    def text(x, y):
        at = (y * width + x) * samples * 2
        wide = values[at:at + samples * 2]
        return "".join(format(int.from_bytes(wide[2 * s:2 * s + 2], "big") % (1 << bits), f"0{bits}b")
                       for s in range(samples))
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
                  (0, 1, 1, 2)]
    out = b""
    for x0, y0, dx, dy in passes:
        if x0 >= width:
            continue
        for y in range(y0, height, dy):
            row = "".join(text(x, y) for x in range(x0, width, dx))
            row += "0" * (-len(row) % 8)
            out += b"\0" + int(row, 2).to_bytes(len(row) // 8, "big")
    return out


def png(width, height, bits, kind, interlaced=0, extra=b""):
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    data = zlib.compress(png_rows(width, height, bits, samples, interlaced), 9)
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced)
    half = len(data) // 2
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data[:half]) +
            chunk(b"IDAT", data[half:]) + chunk(b"IEND", b""))


def make_png():
    for bits, kind in [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (1, 3), (2, 3), (4, 3),
                       (8, 3), (8, 4), (16, 4), (8, 6), (16, 6)]:
        palette = b""
        if kind == 3:  # fewer colours than indices: the rest is black
            palette = chunk(b"PLTE", noise(3 * min(1 << bits, 200), 5)) + chunk(b"tRNS", b"\0\x80")
        FILES[f"type{kind}_{bits}bit.png"] = png(11, 9, bits, kind, 0, palette)
        FILES[f"type{kind}_{bits}bit_interlaced.png"] = png(11, 9, bits, kind, 1, palette)
    FILES["gray_transparent.png"] = png(5, 4, 8, 0, 0, chunk(b"tRNS", b"\0\x07"))
    FILES["colour_transparent.png"] = png(5, 4, 8, 2, 0, chunk(b"tRNS", bytes(6)))
    FILES["gamma.png"] = png(5, 4, 8, 2, 0, chunk(b"gAMA", struct.pack(">I", 45455)) +
                             chunk(b"sBIT", b"\5\6\5"))
    exif = Image.Exif()
    exif[274] = 6
    pillow("exif_turned.png", colour(), format="PNG", exif=exif)


# --- BMP ---------------------------------------------------------------------------------------------
def bmp(width, height, bits, palette, data, colours=0, compression=0, masks=b"", size=40):
    header = struct.pack("<IiiHHIIiiII", size, width, height, 1, bits, compression, len(data), 0, 0,
                         colours, 0)
    if size == 12:
        header = struct.pack("<IHHHH", size, width, height, 1, bits)
    if size > 40:
        header += (masks + bytes(84))[:size - 40]
        masks = b""
    start = 14 + len(header) + len(masks) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + masks + palette + data


def make_bmp():
    for bits in (1, 4, 8, 16, 24, 32):
        palette = noise(4 << bits, 3) if bits <= 8 else b""
        stride = (7 * bits + 31) // 32 * 4
        FILES[f"{bits}bit.bmp"] = bmp(7, 5, bits, palette, noise(stride * 5, bits))
        FILES[f"{bits}bit_top_down.bmp"] = bmp(7, -5, bits, palette, noise(stride * 5, bits))
    ramp = b"".join(bytes([i, i, i, 0]) for i in range(256))
    FILES["gray_ramp.bmp"] = bmp(7, 2, 8, ramp, noise(16, 1))
    FILES["black_white.bmp"] = bmp(7, 2, 1, bytes(4) + b"\xff\xff\xff\0", noise(8, 1), 2)
    FILES["few_colours.bmp"] = bmp(7, 2, 8, noise(12, 2), bytes(range(14)) + b"\0\0", 3)
    FILES["core_header.bmp"] = bmp(7, 2, 4, noise(48, 2), noise(8, 4), size=12)
    masks = struct.pack("<4I", 0xF800, 0x7E0, 0x1F, 0)
    FILES["565.bmp"] = bmp(7, 2, 16, b"", noise(32, 9), 0, 3, masks[:12])
    masks = struct.pack("<4I", 0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    FILES["rgba_masks.bmp"] = bmp(7, 2, 32, b"", noise(56, 9), 0, 3, masks, 108)
    runs = (b"\5\1\2\7\0\0" + b"\0\3\4\5\6\0" + b"\4\2\0\0" + b"\0\2\1\1" + b"\6\x09" + b"\7\1\7\2\7\3\7\4"
            b"\7\1\7\2\0\1")
    FILES["rle8.bmp"] = bmp(7, 4, 8, noise(1024, 3), runs, 0, 1)
    FILES["rle4.bmp"] = bmp(7, 4, 4, noise(64, 3), runs, 0, 2)
    FILES["rle8_top_down.bmp"] = bmp(7, -4, 8, noise(1024, 3), runs, 0, 1)


# --- GIF ---------------------------------------------------------------------------------------------
def lzw(data, bits):
    clear = 1 << bits
    table, size, following = {}, bits + 1, clear + 2
    stream, count, out = clear, size, bytearray()
    current = ()

    def put(code):
        nonlocal stream, count
        stream |= code << count
        count += size
        while count >= 8:
            out.append(stream & 255)
            stream >>= 8
            count -= 8

    for value in data:
        longer = current + (value,)
        if len(longer) == 1 or longer in table:
            current = longer
            continue
        put(table[current] if len(current) > 1 else current[0])
        if following < 4096:
            table[longer] = following
            if following == 1 << size and size < 12:
                size += 1
            following += 1
        current = (value,)
    put(table[current] if len(current) > 1 else current[0])
    if following == 1 << size and size < 12:
        size += 1
    put(clear + 1)
    out.append(stream & 255)
    return bytes(out)


def gif(screen, frame, bits, table=b"", own_table=b"", interlaced=0, transparent=None, data=None):
    def size_of(colours):
        return 0x80 | ((len(colours) // 3).bit_length() - 2) if colours else 0
    out = b"GIF89a" + struct.pack("<HHBBB", *screen, size_of(table), 1, 0) + table
    out += b"!\xfe\5hello\0"
    if transparent is not None:
        out += b"!\xf9\4" + bytes([1, 0, 0, transparent]) + b"\0"
    out += b"," + struct.pack("<HHHHB", *frame, size_of(own_table) | interlaced << 6) + own_table
    data = data or [v % (1 << bits) for v in noise(frame[2] * frame[3], bits)]
    packed = lzw(data, max(bits, 2))
    out += bytes([max(bits, 2)])
    for at in range(0, len(packed), 255):
        out += bytes([len(packed[at:at + 255])]) + packed[at:at + 255]
    return out + b"\0;"


def make_gif():
    for bits in (1, 2, 5, 8):
        FILES[f"{bits}bit.gif"] = gif((11, 7), (0, 0, 11, 7), bits, noise(3 << bits, bits))
    FILES["interlaced.gif"] = gif((9, 19), (0, 0, 9, 19), 4, noise(48, 1), interlaced=1)
    FILES["interlaced_low.gif"] = gif((9, 3), (0, 0, 9, 3), 4, noise(48, 1), interlaced=1)
    FILES["own_colours.gif"] = gif((9, 5), (0, 0, 9, 5), 3, noise(24, 1), noise(24, 2))
    FILES["partial.gif"] = gif((14, 12), (3, 4, 6, 5), 3, noise(24, 1))
    FILES["partial_transparent.gif"] = gif((14, 12), (3, 4, 6, 5), 3, noise(24, 1), transparent=6)
    FILES["partial_transparent_beyond.gif"] = gif((14, 12), (3, 4, 6, 5), 3, noise(24, 1), transparent=77)
    FILES["frame_beyond_screen.gif"] = gif((4, 4), (2, 3, 6, 5), 3, noise(24, 1))
    FILES["no_colours.gif"] = gif((9, 5), (0, 0, 9, 5), 7)
    FILES["gray_ramp.gif"] = gif((9, 5), (0, 0, 9, 5), 4, bytes(i for i in range(16) for _ in range(3)))
    FILES["own_gray_ramp.gif"] = gif((9, 5), (0, 0, 9, 5), 2, noise(12, 1),
                                     bytes(i for i in range(4) for _ in range(3)))
    FILES["full_dictionary.gif"] = gif((80, 80), (0, 0, 80, 80), 8, noise(768, 1))
    frames = [colour().quantize(16), colour().rotate(180).quantize(16)]
    pillow("animated.gif", frames[0], format="GIF", save_all=True, append_images=frames[1:])


# --- TIFF --------------------------------------------------------------------------------------------
def tiff(order, photometric, bits, samples, extra=None, compression=1, orientation=None, rows=3, fill=1,
         tile=None):
    width, height = 11, 7
    end = "<" if order == b"II" else ">"
    row = (width * samples * bits + 7) // 8
    data = noise(row * height, photometric + bits + samples)
    pieces = [data[row * y:row * min(y + rows, height)] for y in range(0, height, rows)]
    if tile:
        pieces = [noise(tile * tile * samples, i) for i in range(-(-width // tile) * -(-height // tile))]
    if compression in (8, 32946):
        pieces = [zlib.compress(p) for p in pieces]
    if compression == 32773:
        pieces = [b"".join(bytes([len(p[i:i + 128]) - 1]) + p[i:i + 128] for i in range(0, len(p), 128))
                  for p in pieces]
    offsets = [8 + sum(map(len, pieces[:i])) for i in range(len(pieces))]
    counts = [len(p) for p in pieces]
    tags = [(256, 3, [width]), (257, 3, [height]), (258, 3, [bits] * samples), (259, 3, [compression]),
            (262, 3, [photometric]), (277, 3, [samples])]
    if tile:
        tags += [(322, 3, [tile]), (323, 3, [tile]), (324, 4, offsets), (325, 4, counts)]
    else:
        tags += [(273, 4, offsets), (278, 3, [rows]), (279, 4, counts)]
    if fill != 1:
        tags.append((266, 3, [fill]))
    if extra is not None:
        tags.append((338, 3, [extra]))
    if orientation is not None:
        tags.append((274, 3, [orientation]))
    if photometric == 3:
        tags.append((320, 3, [v * 257 - 3 & 0xFFFF for v in noise(3 << bits, 8)]))
    body = b"".join(pieces)
    body += b"\0" * (len(body) % 2)
    start = 8 + len(body)
    entries, tail = b"", b""
    for tag, kind, values in sorted(tags):
        raw = struct.pack(end + str(len(values)) + {3: "H", 4: "I"}[kind], *values)
        if len(raw) > 4:
            at = start + 2 + 12 * len(tags) + 4 + len(tail)
            tail += raw + b"\0" * (len(raw) % 2)
            raw = struct.pack(end + "I", at)
        entries += struct.pack(end + "HHI", tag, kind, len(values)) + raw.ljust(4, b"\0")
    return (order + struct.pack(end + "HI", 42, start) + body + struct.pack(end + "H", len(tags)) +
            entries + bytes(4) + tail)


def make_tiff():
    layouts = {"bilevel_white0": (0, 1, 1), "bilevel": (1, 1, 1), "gray2": (1, 2, 1), "gray4": (0, 4, 1),
               "gray": (1, 8, 1), "gray_white0": (0, 8, 1), "gray16": (1, 16, 1), "rgb": (2, 8, 3),
               "rgba": (2, 8, 4, 2), "rgbx": (2, 8, 4, 0), "rgba_premultiplied": (2, 8, 4, 1),
               "gray_alpha": (1, 8, 2, 2), "palette1": (3, 1, 1), "palette4": (3, 4, 1),
               "palette8": (3, 8, 1), "cmyk": (5, 8, 4)}
    for name, layout in layouts.items():
        FILES[f"{name}.tif"] = tiff(b"II", *layout)
        FILES[f"{name}_big_endian.tif"] = tiff(b"MM", *layout, compression=8)
    FILES["gray16_white0.tif"] = tiff(b"II", 0, 16, 1)
    FILES["fill2.tif"] = tiff(b"II", 1, 1, 1, fill=2)
    FILES["packbits.tif"] = tiff(b"II", 2, 8, 3, compression=32773)
    FILES["deflate_old.tif"] = tiff(b"II", 2, 8, 3, compression=32946)
    FILES["tiled.tif"] = tiff(b"II", 2, 8, 3, compression=8, tile=16)
    for orientation in range(1, 9):
        FILES[f"orientation{orientation}.tif"] = tiff(b"II", 2, 8, 3, orientation=orientation)
    pillow("lzw.tif", colour(), format="TIFF", compression="tiff_lzw")
    pillow("lzw_predictor.tif", colour(), format="TIFF", compression="tiff_lzw", tiffinfo={317: 2})


# --- JPEG and WebP -----------------------------------------------------------------------------------
def make_jpeg():
    image = colour(37, 29)
    for sub, name in enumerate(["444", "422", "420"]):
        pillow(f"{name}.jpg", image, format="JPEG", quality=80, subsampling=sub)
        pillow(f"{name}_progressive.jpg", image, format="JPEG", quality=60, subsampling=sub,
               progressive=True)
    pillow("gray.jpg", image.convert("L"), format="JPEG", quality=70)
    pillow("cmyk.jpg", image.convert("CMYK"), format="JPEG", quality=90)
    pillow("restarts.jpg", image, format="JPEG", quality=50, restart_marker_blocks=2)
    adobe = FILES["cmyk.jpg"].index(b"Adobe") + 11  # its last byte: 0 plain inks, 2 YCCK
    FILES["ycck.jpg"] = FILES["cmyk.jpg"][:adobe] + b"\2" + FILES["cmyk.jpg"][adobe + 1:]
    FILES["trailing_bytes.jpg"] = FILES["420.jpg"] + b"trailing"
    FILES["no_end_mark.jpg"] = FILES["420.jpg"][:-2] + bytes(2)
    exif = Image.Exif()
    exif[274] = 6
    pillow("exif_turned.jpg", image, format="JPEG", exif=exif)


def make_webp():
    image = colour(37, 29)
    clear = image.copy()
    clear.putalpha(Image.frombytes("L", image.size, noise(37 * 29, 4)))
    pillow("lossy.webp", image, format="WEBP", quality=70)
    pillow("lossless.webp", image, format="WEBP", lossless=True)
    pillow("lossy_alpha.webp", clear, format="WEBP", quality=70)
    pillow("lossless_alpha.webp", clear, format="WEBP", lossless=True, exact=True)
    exif = Image.Exif()
    exif[274] = 6
    pillow("exif_turned.webp", image, format="WEBP", quality=70, exif=exif)
    frames = [image, image.rotate(180)]
    pillow("animated.webp", frames[0], format="WEBP", save_all=True, append_images=frames[1:], quality=70)
    stream = FILES["lossy.webp"][12:]
    frame = (6).to_bytes(3, "little") + (2).to_bytes(3, "little") + (36).to_bytes(3, "little") + (
        28).to_bytes(3, "little") + (100).to_bytes(3, "little") + b"\0" + stream
    body = (b"WEBPVP8X" + struct.pack("<I", 10) + b"\x12\0\0\0" + (59).to_bytes(3, "little") +
            (39).to_bytes(3, "little") + b"ANIM" + struct.pack("<IIH", 6, 0xFF112233, 0) + b"ANMF" +
            struct.pack("<I", len(frame)) + frame)
    FILES["partial_first_frame.webp"] = b"RIFF" + struct.pack("<I", len(body)) + body


def main(folder):
    for make in (make_png, make_bmp, make_gif, make_tiff, make_jpeg, make_webp):
        make()
    lines = []
    for name, data in sorted(FILES.items()):
        with open(os.path.join(folder, name), "wb") as out:
            out.write(data)
        image = Image.open(io.BytesIO(data))
        mode = "I;16" if image.mode == "I;16B" else image.mode  # byte order is no mode of ours
        pixels = image.convert("RGB")
        digest = hashlib.sha256(pixels.tobytes()).hexdigest()
        lines.append(f"{name} {mode} {pixels.width} {pixels.height} {digest}\n")
    with open(os.path.join(folder, "expected.txt"), "w") as out:
        out.writelines(lines)


if __name__ == "__main__":
    main(sys.argv[1])
