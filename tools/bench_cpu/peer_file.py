"""A GGUF file of the same decoder with random weights, for llama.cpp (architecture internlm2).

Blocks are drawn as they lie in the file: any code is a weight, and scales are chosen so that
activations keep their size. As llama.cpp's own quantiser does it, norms stay float32 and the output
of a Q4_0 file is Q6_K. Needs the packages gguf and numpy.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

from checkpoint_layout import Sizes

try:
    import numpy as np
except ModuleNotFoundError:
    pass  # sizes are known without it; only who writes a file needs it


@dataclasses.dataclass(frozen=True)
class Format:
    """How a number of numbers lies in a file: `block` numbers in `size` bytes."""

    name: str
    block: int
    size: int
    scales: tuple[tuple[int, float], ...]  # where in a block which float16 scale stands


F32 = Format("F32", 1, 4, ())
F16 = Format("F16", 1, 2, ())
BF16 = Format("BF16", 1, 2, ())
Q8_0 = Format("Q8_0", 32, 34, ((0, 3e-4),))
Q4_0 = Format("Q4_0", 32, 18, ((0, 4e-3),))
Q6_K = Format("Q6_K", 256, 210, ((208, 1e-5),))

#: file type -> formats of the matrices, of the output and of the embeddings
FILE_TYPES = {"F16": (F16, F16, F16), "BF16": (BF16, BF16, BF16),
              "Q8_0": (Q8_0, Q8_0, Q8_0), "Q4_0": (Q4_0, Q6_K, Q4_0)}


@dataclasses.dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple[int, ...]  # (outputs, inputs)
    format: Format

    @property
    def bytes(self) -> int:
        count = math.prod(self.shape)
        if self.shape[-1] % self.format.block:
            raise ValueError(f"{self.name}: {self.format.name} needs rows of a multiple of "
                             f"{self.format.block} numbers, found {self.shape[-1]}")
        return count // self.format.block * self.format.size


def tensors(sizes: Sizes, file_type: str) -> list[Tensor]:
    """What llama.cpp wants of an internlm2 model, with the tower and the adapters left out."""
    matrix, output, embeddings = FILE_TYPES[file_type]
    head = sizes.hidden // sizes.heads
    keys = sizes.kv_heads * head
    table = [Tensor("token_embd.weight", (sizes.vocab, sizes.hidden), embeddings),
             Tensor("output_norm.weight", (sizes.hidden,), F32),
             Tensor("output.weight", (sizes.vocab, sizes.hidden), output)]
    for layer in range(sizes.layers):
        shapes = {"attn_q": (sizes.hidden, sizes.hidden), "attn_k": (keys, sizes.hidden),
                  "attn_v": (keys, sizes.hidden), "attn_output": (sizes.hidden, sizes.hidden),
                  "ffn_gate": (sizes.intermediate, sizes.hidden),
                  "ffn_up": (sizes.intermediate, sizes.hidden),
                  "ffn_down": (sizes.hidden, sizes.intermediate)}
        for norm in ("attn_norm", "ffn_norm"):
            table.append(Tensor(f"blk.{layer}.{norm}.weight", (sizes.hidden,), F32))
        for name, shape in shapes.items():
            table.append(Tensor(f"blk.{layer}.{name}.weight", shape, matrix))
    return table


def bytes_per_token(sizes: Sizes, file_type: str, context: float) -> float:
    """What a decode step must read: all but the embeddings, and keys and values in float16."""
    weights = sum(t.bytes for t in tensors(sizes, file_type) if t.name != "token_embd.weight")
    head = sizes.hidden // sizes.heads
    return weights + context * 2 * 2 * sizes.kv_heads * head * sizes.layers


class Blocks:
    """Bytes of any tensor, cut from one drawn piece per format."""

    PIECE = 1 << 20  # blocks

    def __init__(self, seed: int = 1) -> None:
        self._generator = np.random.default_rng(seed)
        self._pieces: dict[str, np.ndarray] = {}

    def of(self, tensor: Tensor) -> Iterator[np.ndarray]:
        """(n, block size) bytes at a time."""
        if tensor.format is F32:
            yield np.ones(tensor.shape, np.float32).view(np.uint8).reshape(-1, 4)
            return
        piece = self._piece(tensor.format)
        left = tensor.bytes // tensor.format.size
        while left:
            part = piece[:min(left, len(piece))]
            yield part
            left -= len(part)

    def _piece(self, form: Format) -> np.ndarray:
        if form.name not in self._pieces:
            if form in (F16, BF16):
                drawn = 0.02 * self._generator.standard_normal(self.PIECE, np.float32)
                # A bfloat16 is the upper half of a float32; how it is rounded matters to no one.
                halves = drawn.astype(np.float16) if form is F16 else (
                    drawn.view(np.uint32) >> 16).astype(np.uint16)
                self._pieces[form.name] = halves.view(np.uint8).reshape(-1, 2)
                return self._pieces[form.name]
            count = self.PIECE // form.block
            piece = self._generator.integers(0, 256, (count, form.size), np.uint8)
            for place, scale in form.scales:
                drawn = scale * self._generator.uniform(0.5, 1.5, count)
                piece[:, place:place + 2] = drawn.astype(np.float16).view(np.uint8).reshape(-1, 2)
            self._pieces[form.name] = piece
        return self._pieces[form.name]


def write(path: Path, sizes: Sizes, file_type: str) -> None:
    """Writes the file; its vocabulary has numbers and no texts."""
    import gguf

    writer = gguf.GGUFWriter(path, "internlm2")
    writer.add_name(f"random {sizes.kind}")
    writer.add_context_length(sizes.max_positions)
    writer.add_embedding_length(sizes.hidden)
    writer.add_block_count(sizes.layers)
    writer.add_feed_forward_length(sizes.intermediate)
    writer.add_head_count(sizes.heads)
    writer.add_head_count_kv(sizes.kv_heads)
    writer.add_rope_freq_base(float(sizes.rope_theta))
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(sizes.vocab)
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(getattr(gguf.LlamaFileType, "MOSTLY_" + file_type))
    table = tensors(sizes, file_type)
    for tensor in table:
        bytes_of_row = tensor.shape[-1] // tensor.format.block * tensor.format.size
        writer.add_tensor_info(tensor.name, (*tensor.shape[:-1], bytes_of_row), np.uint8,
                               tensor.bytes,
                               getattr(gguf.GGMLQuantizationType, tensor.format.name))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    blocks = Blocks()
    for tensor in table:
        writer.write_tensor_data(np.concatenate(list(blocks.of(tensor))))
    writer.close()
