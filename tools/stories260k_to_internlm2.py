"""Converts the stories260K model of llama2.c to a checkpoint folder of kind 2-vl-7b.

A real model that someone else trained and small enough for a test. Its weights keep every bit
(float32); the parts that it does not have (vision tower, projector, partial LoRA) are zero and
touch no text. Started from the single id 1, greedy and without repetition penalty, it tells the
story that its authors published.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import struct
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from sentencepiece import sentencepiece_model_pb2

from checkpoint_layout import Sizes, small_files, tensor_table


@dataclasses.dataclass(frozen=True)
class Llama:
    """A llama2.c file: its header and its tensors in file order."""

    dim: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    tensors: dict[str, np.ndarray]

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads


def read_llama(path: Path) -> Llama:
    """The first ("legacy") form of llama2.c: seven int32, then float32 tensors."""
    raw = path.read_bytes()
    dim, hidden, layers, heads, kv_heads, vocab, positions = struct.unpack_from("<7i", raw)
    if min(dim, hidden, layers, heads, kv_heads, positions) <= 0 or dim % heads:
        raise SystemExit(f"{path} is not a llama2.c model of the first form")
    if vocab <= 0:
        raise SystemExit(f"{path} has an output matrix of its own, expected a shared one")
    kv_dim = dim // heads * kv_heads
    shapes = {"embedding": (vocab, dim), "attention_norm": (layers, dim),
              "wq": (layers, dim, dim), "wk": (layers, kv_dim, dim), "wv": (layers, kv_dim, dim),
              "wo": (layers, dim, dim), "ffn_norm": (layers, dim), "w1": (layers, hidden, dim),
              "w2": (layers, dim, hidden), "w3": (layers, hidden, dim), "norm": (dim,)}
    tensors, offset = {}, 28
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        tensors[name] = np.frombuffer(raw, np.float32, count, offset).reshape(shape)
        offset += 4 * count
    rotary = 4 * positions * (dim // heads)
    if len(raw) != offset + rotary:
        raise SystemExit(f"{path} has {len(raw)} bytes, expected {offset + rotary}")
    return Llama(dim, hidden, layers, heads, kv_heads, vocab, tensors)


def split_half(matrix: np.ndarray, head_dim: int) -> np.ndarray:
    """Rows of each head from neighbouring pairs (0 1)(2 3).. to halves (0 2 ..)(1 3 ..)."""
    heads = matrix.reshape(-1, head_dim // 2, 2, matrix.shape[-1])
    return heads.transpose(0, 2, 1, 3).reshape(matrix.shape)


def packed_qkv(llama: Llama, layer: int) -> np.ndarray:
    """Per KV head: its query heads, its key, its value."""
    groups = llama.kv_heads
    query = split_half(llama.tensors["wq"][layer], llama.head_dim)
    key = split_half(llama.tensors["wk"][layer], llama.head_dim)
    parts = [query, key, llama.tensors["wv"][layer]]
    return np.concatenate([p.reshape(groups, -1, llama.dim) for p in parts], axis=1).reshape(
        -1, llama.dim)


def weights(llama: Llama, sizes: Sizes) -> dict[str, np.ndarray]:
    """Every tensor of the layout; what the model does not have stays zero."""
    out = {name: np.zeros(shape, np.float32) for name, shape in tensor_table(sizes).items()}
    source = llama.tensors
    out["model.tok_embeddings.weight"] = out["output.weight"] = source["embedding"]
    out["model.norm.weight"] = source["norm"]
    for layer in range(llama.layers):
        prefix = f"model.layers.{layer}."
        out[prefix + "attention.wqkv.weight"] = packed_qkv(llama, layer)
        out[prefix + "attention.wo.weight"] = source["wo"][layer]
        for name in ("attention_norm", "ffn_norm"):
            out[f"{prefix}{name}.weight"] = source[name][layer]
        for name in ("w1", "w2", "w3"):
            out[f"{prefix}feed_forward.{name}.weight"] = source[name][layer]
    return {name: np.ascontiguousarray(tensor).copy() for name, tensor in out.items()}


def tokenizer_model(path: Path) -> bytes:
    """tok512.bin -> a SentencePiece BPE model without the dummy space in front."""
    raw = path.read_bytes()
    model = sentencepiece_model_pb2.ModelProto()
    offset = 4
    while offset < len(raw):
        score, length = struct.unpack_from("<fi", raw, offset)
        offset += 8
        text = raw[offset:offset + length].decode("utf-8")
        offset += length
        index = len(model.pieces)
        piece = model.pieces.add(score=score)
        if index < 3:
            piece.piece = ("<unk>", "<s>", "</s>")[index]
            piece.type = piece.UNKNOWN if index == 0 else piece.CONTROL
        elif index < 259:
            piece.piece, piece.type = f"<0x{index - 3:02X}>", piece.BYTE
        else:
            piece.piece, piece.type = text.replace(" ", "\u2581"), piece.NORMAL
    trainer, normaliser = model.trainer_spec, model.normalizer_spec
    trainer.model_type, trainer.vocab_size = trainer.BPE, len(model.pieces)
    trainer.byte_fallback, trainer.split_digits = True, True
    trainer.unk_id, trainer.bos_id, trainer.eos_id, trainer.pad_id = 0, 1, 2, -1
    normaliser.name, normaliser.add_dummy_prefix = "identity", False
    normaliser.remove_extra_whitespaces = False
    return model.SerializeToString(deterministic=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="stories260K.bin")
    parser.add_argument("--tokenizer", type=Path, required=True, help="tok512.bin")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    arguments = parser.parse_args()
    llama = read_llama(arguments.model)
    sizes = Sizes("2-vl-7b", hidden=llama.dim, layers=llama.layers, heads=llama.heads,
                  kv_heads=llama.kv_heads, intermediate=llama.hidden, vocab=llama.vocab, rank=1,
                  rank_wqkv=1, vit_width=64, vit_layers=1, vit_mlp=64, rope_theta=10000)
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_file(weights(llama, sizes), arguments.out / "model.safetensors",
              metadata={"format": "pt"})
    (arguments.out / "model.safetensors").chmod(0o644)
    files = small_files(sizes)
    files["config.json"]["torch_dtype"] = "float32"
    for name, content in files.items():
        text = json.dumps(content, indent=2) + "\n"
        (arguments.out / name).write_text(text, encoding="utf-8")
    (arguments.out / "tokenizer.model").write_bytes(tokenizer_model(arguments.tokenizer))


if __name__ == "__main__":
    main()
