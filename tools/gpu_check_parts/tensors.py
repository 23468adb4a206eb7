"""Tensors of a .safetensors file, read row by row with nothing but the standard library."""

from __future__ import annotations

import array
import json
import math
import struct
from pathlib import Path

TYPES = {"F32": ("f", 4), "I32": ("i", 4), "U8": ("B", 1)}
MOST_HEADER = 64 << 20


class Tensors:
    """The file is kept open; tensors are read when asked for."""

    def __init__(self, path: Path):
        self._file = path.open("rb")
        try:
            self._header, self._begin = self._read_header()
        except ValueError as error:
            self._file.close()
            raise ValueError(f"{path}: {error}") from None

    def __enter__(self) -> Tensors:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, name: str) -> bool:
        return name in self._header

    def names(self) -> list[str]:
        return list(self._header)

    def shape(self, name: str) -> list[int]:
        return self._header[name]["shape"]

    def dtype(self, name: str) -> str:
        return self._header[name]["dtype"]

    def _read_header(self) -> tuple[dict, int]:
        """What it holds, and where the numbers begin."""
        begin = self._file.read(8)
        if len(begin) < 8:
            raise ValueError(f"{len(begin)} bytes are no file of tensors")
        (size,) = struct.unpack("<Q", begin)
        if size > MOST_HEADER:
            raise ValueError(f"a header of {size} bytes")
        header = json.loads(self._file.read(size))
        if not isinstance(header, dict):
            raise ValueError("its header is no object")
        header.pop("__metadata__", None)
        return header, 8 + size

    def raw(self, name: str) -> bytes:
        begin, end = self._header[name]["data_offsets"]
        self._file.seek(self._begin + begin)
        return self._file.read(end - begin)

    def all(self, name: str) -> array.array:
        return self._numbers(name, 0, math.prod(self.shape(name)))

    def slice(self, name: str, first: int, count: int) -> array.array:
        """`count` numbers from the `first` on, counted through the whole tensor."""
        return self._numbers(name, first, count)

    def _numbers(self, name: str, first: int, count: int) -> array.array:
        code, size = TYPES[self.dtype(name)]
        begin, end = self._header[name]["data_offsets"]
        if first < 0 or begin + (first + count) * size > end:
            raise ValueError(
                f"{name}: {count} numbers from {first} on are not in {self.shape(name)}")
        self._file.seek(self._begin + begin + first * size)
        data = self._file.read(count * size)
        if len(data) != count * size:
            raise ValueError(f"{name}: the file ends within it")
        return array.array(code, data)


def write(path: Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> None:
    """Tensors as name -> (dtype, shape, bytes)."""
    header: dict = {}
    at = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)
