#!/usr/bin/env python3
"""Writes the kept inputs of the checkpoint fuzz targets: small files as real writers make them, and a few
that are wrong in the ways the parsers look for. Needs nothing but Python. Usage: checkpoint_corpus.py [folder]"""
import json
import pathlib
import struct
import sys


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors_inputs():
    good = {
        "__metadata__": {"format": "pt"},
        "model.norm.weight": entry("BF16", [4], 0, 8),
        "output.weight": entry("F32", [2, 3], 8, 32),
        "empty": entry("I64", [0, 7], 32, 32),
        "scalar": entry("U8", [], 32, 33),
    }
    yield "good", safetensors(good, bytes(range(33)))
    yield "none", safetensors({})
    yield "quantised", safetensors(
        {"q.qweight": entry("I32", [2, 2], 0, 16), "q.scales": entry("F16", [1, 2], 16, 20)}, bytes(20))
    yield "overlap", safetensors({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 2, 6)}, bytes(6))
    yield "hole", safetensors({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 6, 10)}, bytes(10))
    yield "overflow", safetensors({"a": entry("F32", [1 << 62, 1 << 62], 0, 4)}, bytes(4))
    yield "twice", safetensors(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{}}', b"x")
    yield "huge_header", struct.pack("<Q", 1 << 63) + b"{}"


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value):
    if 0 <= value < 256:
        return b"K" + struct.pack("<B", value)
    if 0 <= value < 65536:
        return b"M" + struct.pack("<H", value)
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def integers(values):
    return b"(" + b"".join(integer(value) for value in values) + b"t"


ORDERED = name("collections", "OrderedDict") + b")R"
REBUILD = name("torch._utils", "_rebuild_tensor_v2")


def tensor(kind, key, elements, offset, shape, strides):
    storage = b"(" + text("storage") + name("torch", kind) + text(key) + text("cpu") + integer(elements) + b"tQ"
    return REBUILD + b"(" + storage + integer(offset) + integers(shape) + integers(strides) + b"\x89" + ORDERED + b"tR"


def state_dict(tensors):
    items = b"".join(text(key) + value for key, value in tensors.items())
    return b"\x80\x02" + ORDERED + b"q\0(" + items + b"u}" + text("_metadata") + ORDERED + b"sb."


GOOD_TENSORS = {
    "model.norm.weight": tensor("BFloat16Storage", "0", 4, 0, [4], [1]),
    "turned": tensor("FloatStorage", "1", 6, 0, [3, 2], [1, 3]),
    "tail": tensor("FloatStorage", "1", 6, 2, [2, 2], [2, 1]),
}


def pickle_inputs():
    yield "ordered", state_dict(GOOD_TENSORS)
    yield "plain", b"\x80\x02}q\0(" + text("w") + GOOD_TENSORS["turned"] + b"u."
    memo = b"\x80\x02}(" + text("a") + b"q\0" + REBUILD + b"q\1" + b"(" + b"tRu."
    yield "memo", memo
    parameter = name("torch._utils", "_rebuild_parameter") + GOOD_TENSORS["tail"] + b"\x88" + ORDERED + b"\x87R"
    yield "parameter", b"\x80\x02}" + text("p") + parameter + b"s."
    yield "metadata", b"\x80\x02" + ORDERED + b"}" + text("_metadata") + ORDERED + b"(" + text("") + b"}" + text(
        "version") + b"K\1suu" + b"sb."
    yield "system", b"\x80\x02cos\nsystem\n(" + text("true") + b"tR."
    yield "lists", b"\x80\x02}" + text("l") + b"](K\1K\2eK\3as."
    yield "long", b"\x80\x02}" + text("n") + b"\x8a\x08" + b"\xff" * 8 + b"s."
    yield "deep", b"\x80\x02N" + b"\x85" * 50 + b"."


def zip_archive(members, described=True, zip64=True):
    """Members as torch.save writes them: stored, padded with an extra field, sizes behind the data."""
    body, directory = b"", b""
    flags = 0x808 if described else 0
    for path, data in members:
        size = len(data)
        extra = b"FB" + struct.pack("<H", 4) + b"ZZZZ"
        told = (0, 0, 0) if described else (1234, size, size)
        offset = len(body)
        body += b"PK\3\4" + struct.pack("<HHHIIII", 0, flags, 0, 0, *told)
        body += struct.pack("<HH", len(path), len(extra)) + path.encode() + extra + data
        if described:
            body += b"PK\7\x08" + struct.pack("<III", 1234, size, size)
        directory += b"PK\1\2" + struct.pack("<IHHIIII", 0, flags, 0, 0, 1234, size, size)
        directory += struct.pack("<HHHHHII", len(path), 0, 0, 0, 0, 0, offset) + path.encode()
    out = body + directory
    if zip64:
        at = len(out)
        out += b"PK\6\6" + struct.pack("<QIIIQQQQ", 44, 0, 0, 0, len(members), len(members), len(directory), len(body))
        out += b"PK\6\7" + struct.pack("<IQI", 0, at, 1)
    return out + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(directory), len(body), 0)


def zip_inputs():
    members = [("m/data.pkl", b"pickle"), ("m/data/0", b"storage")]
    yield "torch", zip_archive(members)
    yield "plain", zip_archive(members, described=False, zip64=False)
    yield "prefixes", zip_archive([("a/data.pkl", b""), ("b/data/0", b"")])
    yield "climbing", zip_archive([("a/../../x", b"")])
    yield "nested", zip_archive([("m/data/0", zip_archive(members))])
    yield "empty", zip_archive([])


def torch_zip_inputs():
    def archive(pickle, **more):
        members = [("m/data.pkl", pickle), ("m/byteorder", more.get("order", b"little")), ("m/data/0", bytes(8)),
                   ("m/data/1", bytes(range(24))), ("m/version", b"3\n")]
        return zip_archive(members, described=more.get("described", True))

    yield "good", archive(state_dict(GOOD_TENSORS))
    yield "plain", archive(state_dict(GOOD_TENSORS), described=False)
    yield "big_endian", archive(state_dict(GOOD_TENSORS), order=b"big")
    yield "outside", archive(state_dict({"w": tensor("FloatStorage", "1", 6, 3, [2, 2], [2, 1])}))
    yield "repeating", archive(state_dict({"w": tensor("FloatStorage", "1", 6, 0, [1000, 6], [0, 1])}))
    yield "lying", archive(state_dict({"w": tensor("FloatStorage", "1", 7, 0, [7], [1])}))
    yield "missing", archive(state_dict({"w": tensor("FloatStorage", "9", 6, 0, [6], [1])}))
    # Not archives: the fuzz target wraps them into one.
    yield "views", state_dict(GOOD_TENSORS)
    yield "view_outside", state_dict({"w": tensor("CharStorage", "0", 8, 7, [2], [1])})
    yield "view_empty", state_dict({"w": tensor("HalfStorage", "1", 12, 12, [3, 0], [1, 1])})
    yield "old", b"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."


def shard_index_inputs():
    good = {"metadata": {"total_size": 12}, "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}
    yield "good", json.dumps(good, indent=2).encode()
    yield "float_size", b'{"metadata":{"total_size":1.2e1,"x":[1,{"y":null}]},"weight_map":{"a":"s"}}'
    yield "leaving", b'{"weight_map":{"a":"../s","b":"/etc/s"}}'
    yield "twice", b'{"weight_map":{"a":"s","a":"t"}}'
    yield "deep", b'{"metadata":' + b"[" * 40
    yield "escapes", b'{"weight_map":{"\\u00e4\\ud83d\\ude00":"s\\u0000"}}'


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "corpus"
    sets = {"safetensors": safetensors_inputs, "pickle": pickle_inputs, "zip": zip_inputs,
            "torch_zip": torch_zip_inputs, "shard_index": shard_index_inputs}
    for target, inputs in sets.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for label, data in inputs():
            (folder / target / label).write_bytes(data)


if __name__ == "__main__":
    main()
