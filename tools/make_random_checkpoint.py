"""Writes a random checkpoint of any kind, at full size or scaled down, as fast as the disk.

Weights are bfloat16, normal with deviation 0.02 (norm weights 1 plus that). One seeded block of
numbers is drawn and every tensor is cut from it at an offset of its own. Needs numpy only.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from checkpoint_layout import KINDS, Shape, Sizes, parameter_count, small_files, tensor_table

BLOCK = 1 << 25  # numbers, 64 MiB of bfloat16
ALIGNMENT = 64   # of a tensor in a .bin file, as PyTorch writes it


def bfloat16(values: np.ndarray) -> np.ndarray:
    """float32 -> the upper halves, rounded to nearest even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


class RandomBits:
    """Bytes of any tensor, depending on seed and name only."""

    def __init__(self, seed: int):
        self._generator = np.random.default_rng(seed)
        self._seed = seed
        normal = self._generator.standard_normal(BLOCK, np.float32)
        self._block = bfloat16(0.02 * normal)

    def pieces(self, name: str, shape: Shape) -> Iterator[memoryview]:
        count = math.prod(shape)
        start = zlib.crc32(f"{self._seed} {name}".encode()) % BLOCK
        if "norm" in name and name.endswith("weight"):
            yield memoryview(bfloat16(1 + self._values(start, count))).cast("B")
            return
        while count:
            part = self._block[start:start + count]
            yield memoryview(part).cast("B")
            count -= len(part)
            start = 0

    def _values(self, start: int, count: int) -> np.ndarray:
        bits = np.take(self._block, np.arange(start, start + count), mode="wrap")
        return (bits.astype(np.uint32) << 16).view(np.float32)


def split(table: dict[str, Shape], shard_bytes: int) -> list[dict[str, Shape]]:
    """Consecutive tensors in shards of at most `shard_bytes` (one tensor may exceed it)."""
    shards: list[dict[str, Shape]] = [{}]
    used = 0
    for name, shape in table.items():
        size = 2 * math.prod(shape)
        if shards[-1] and used + size > shard_bytes:
            shards.append({})
            used = 0
        shards[-1][name] = shape
        used += size
    return shards


def write_safetensors(path: Path, table: dict[str, Shape], bits: RandomBits) -> None:
    header: dict = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in table.items():
        end = offset + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb", buffering=0) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in table.items():
            for piece in bits.pieces(name, shape):
                file.write(piece)


class StateDictPickle:
    """The pickle of a dictionary of bfloat16 tensors, one storage each (protocol 2)."""

    def __init__(self) -> None:
        self._out = bytearray(b"\x80\x02}(")

    def _text(self, text: str) -> None:
        encoded = text.encode()
        self._out += b"X" + struct.pack("<I", len(encoded)) + encoded

    def _integer(self, value: int) -> None:
        if value < 1 << 31:
            self._out += b"J" + struct.pack("<i", value)
        else:
            encoded = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            self._out += b"\x8a" + bytes([len(encoded)]) + encoded

    def _integers(self, values: Shape) -> None:
        self._out += b"("
        for value in values:
            self._integer(value)
        self._out += b"t"

    def add(self, name: str, key: int, shape: Shape) -> None:
        self._text(name)
        self._out += b"ctorch._utils\n_rebuild_tensor_v2\n(("
        self._text("storage")
        self._out += b"ctorch\nBFloat16Storage\n"
        self._text(str(key))
        self._text("cpu")
        self._integer(math.prod(shape))
        self._out += b"tQ"
        self._integer(0)
        self._integers(shape)
        strides = itertools.accumulate(reversed(shape[1:]), lambda a, b: a * b, initial=1)
        self._integers(tuple(reversed(list(strides))))
        self._out += b"\x89ccollections\nOrderedDict\n)RtR"

    def finish(self) -> bytes:
        return bytes(self._out + b"u.")


def write_bin(path: Path, table: dict[str, Shape], bits: RandomBits) -> None:
    """A PyTorch zip file: members are stored, storages aligned to 64 bytes."""
    pickled = StateDictPickle()
    for key, (name, shape) in enumerate(table.items()):
        pickled.add(name, key, shape)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:

        def member(name: str, size: int, pieces: Iterator[bytes | memoryview]) -> None:
            info = zipfile.ZipInfo("archive/" + name)
            info.file_size = size
            end = archive.start_dir + 30 + len(info.filename) + 4
            padding = -end % ALIGNMENT
            info.extra = struct.pack("<HH", 0x4246, padding) + b"Z" * padding
            with archive.open(info, "w") as file:
                for piece in pieces:
                    file.write(piece)

        data = pickled.finish()
        member("data.pkl", len(data), iter([data]))
        member("byteorder", 6, iter([b"little"]))
        for key, (name, shape) in enumerate(table.items()):
            member(f"data/{key}", 2 * math.prod(shape), bits.pieces(name, shape))
        member("version", 2, iter([b"3\n"]))


def write_weights(out: Path, table: dict[str, Shape], shard_bytes: int, form: str,
                  seed: int) -> None:
    """All shards, and the index where there are several."""
    bits = RandomBits(seed)
    shards = split(table, shard_bytes)
    stem, ending, write = {"safetensors": ("model", ".safetensors", write_safetensors),
                           "bin": ("pytorch_model", ".bin", write_bin)}[form]
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        part = f"-{number:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""
        file = stem + part + ending
        write(out / file, shard, bits)
        weight_map.update(dict.fromkeys(shard, file))
        print(f"{file}: {len(shard)} tensors", flush=True)
    if len(shards) > 1:
        index = {"metadata": {"total_size": 2 * parameter_count(table)}, "weight_map": weight_map}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (out / f"{stem}{ending}.index.json").write_text(text, encoding="utf-8")


def scaled(arguments: argparse.Namespace) -> Sizes:
    """The kind's sizes with those named on the command line replaced."""
    names = {field.name for field in dataclasses.fields(Sizes)} - {"kind", "adapters"}
    given = {k: v for k, v in vars(arguments).items() if k in names and v is not None}
    sizes = dataclasses.replace(KINDS[arguments.kind], **given)
    if sizes.hidden % sizes.heads or sizes.heads % sizes.kv_heads or sizes.vit_width % 64:
        raise SystemExit("hidden must be a multiple of heads, heads of kv-heads, vit-width of 64")
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=sorted(KINDS), required=True)
    parser.add_argument("--out", type=Path, help="checkpoint folder to write")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.model to copy")
    parser.add_argument("--format", choices=("safetensors", "bin"), default="safetensors")
    parser.add_argument("--shard-bytes", type=int, default=5_000_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry-run", action="store_true", help="only count tensors and bytes")
    for name in ("hidden", "layers", "heads", "kv-heads", "intermediate", "vocab", "rank",
                 "rank-wqkv", "vit-width", "vit-layers", "vit-mlp", "grid", "max-positions"):
        parser.add_argument(f"--{name}", type=int, help="replaces the kind's own")
    arguments = parser.parse_args()
    sizes = scaled(arguments)
    table = tensor_table(sizes)
    count = parameter_count(table)
    print(f"{sizes.kind}: {len(table)} tensors, {count} parameters, {2 * count} bytes")
    if arguments.dry_run:
        return
    if not arguments.out or not arguments.tokenizer:
        parser.error("--out and --tokenizer are needed unless --dry-run is given")
    arguments.out.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(arguments.out).free < 2 * count:
        raise SystemExit(f"{arguments.out} has no room for {2 * count} bytes")
    for name, content in small_files(sizes).items():
        text = json.dumps(content, indent=2) + "\n"
        (arguments.out / name).write_text(text, encoding="utf-8")
    shutil.copyfile(arguments.tokenizer, arguments.out / "tokenizer.model")
    write_weights(arguments.out, table, arguments.shard_bytes, arguments.format, arguments.seed)


if __name__ == "__main__":
    main()
