"""Torch's own kernels at the sizes of the model, and a Llama-shaped 7B of transformers, as peers.

    python3 torch_peer.py [--small]

Prints lines as tests/bench/cuda/figures.h has them, each naming in "beside" the figure of ours that
it stands beside. --small runs tiny sizes on the CPU: that the program works, not how fast.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator

LAYERS = 32
Lengths = tuple[int, ...]


def line(**content: object) -> None:
    print(json.dumps(content), flush=True)


class Bench:
    """Times by events on the device, by the clock on a CPU."""

    def __init__(self, torch, device: str):
        self.torch = torch
        self.device = device
        self.dtype = torch.float16 if device == "cuda" else torch.float32

    def random(self, *shape: int):
        return self.torch.randn(shape, device=self.device, dtype=self.dtype)

    def graphed(self, run: Callable[[], object]) -> Callable[[], object]:
        """As a CUDA graph: what a serving engine would replay."""
        if self.device != "cuda":
            return run
        stream = self.torch.cuda.Stream()
        stream.wait_stream(self.torch.cuda.current_stream())
        with self.torch.cuda.stream(stream):
            for _ in range(3):
                run()
        self.torch.cuda.current_stream().wait_stream(stream)
        graph = self.torch.cuda.CUDAGraph()
        with self.torch.cuda.graph(graph):
            run()
        return graph.replay

    @contextlib.contextmanager
    def case(self, name: str) -> Iterator[None]:
        """What fails within - for want of memory, of an argument that this torch has not, of a
        capture - is said by name, and costs no other case."""
        try:
            yield
        except Exception as error:  # pylint: disable=broad-except
            line(failed=f"peer.{name}", reason=repr(error)[:300])

    def give(self, name: str, make: Callable[[], Callable[[], object]], beside: str, parts: int = 1,
             runs: int = 15, **more: object) -> None:
        """The times of what `make` makes: its tensors, and its capture where it has one."""
        with self.case(name):
            run = make()
            for _ in range(2):
                run()
            seconds = sorted(self._once(run) / parts for _ in range(runs))
            line(figure=f"peer.{name}", seconds=statistics.median(seconds), least=seconds[0],
                 most=seconds[-1], runs=runs, beside=beside, **more)

    def _once(self, run: Callable[[], object]) -> float:
        if self.device != "cuda":
            begin = time.perf_counter()
            run()
            return time.perf_counter() - begin
        cuda = self.torch.cuda
        begin, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) * 1e-3


def products(bench: Bench, hidden: int, inner: int, qkv: int, layers: int) -> None:
    """The linears of a step, each layer with weights of its own, so that none is in the cache."""
    for name, part, outputs, inputs in (("wqkv", "qkv", qkv, hidden), ("wo", "wo", hidden, hidden),
                                        ("w1_w3", "gate_up", 2 * inner, hidden),
                                        ("w2", "w2", hidden, inner)):
        with bench.case(f"torch.{name}"):
            _product(bench, f"torch.{name}", part, outputs, inputs, layers)


def _product(bench: Bench, name: str, part: str, outputs: int, inputs: int, layers: int) -> None:
    linear = bench.torch.nn.functional.linear
    weights = [bench.random(outputs, inputs) / math.sqrt(inputs) for _ in range(layers)]

    def step(rows: int) -> Callable[[], object]:
        x = bench.random(rows, inputs)
        return bench.graphed(lambda: [linear(x, w) for w in weights])

    def prompt(rows: int) -> Callable[[], object]:
        x = bench.random(rows, inputs)
        return lambda: linear(x, weights[0])

    for rows in (1, 8, 32):
        bench.give(f"{name}.{rows}_rows", lambda rows=rows: step(rows),
                   f"part.bs{rows}.ctx1024.{part}", layers, bytes=2 * outputs * inputs,
                   note="the product alone, in a CUDA graph")
    rows = 1289 if bench.device == "cuda" else 16
    bench.give(f"{name}.1289_rows", lambda: prompt(rows), "", flops=2 * rows * outputs * inputs)


def attention(bench: Bench, heads: int, kv_heads: int, dim: int, rows: Lengths,
              steps: tuple[tuple[int, int], ...], views: tuple[tuple[int, int, str], ...]) -> None:
    """scaled_dot_product_attention: prompts, steps of several sequences, pictures."""
    sdpa = bench.torch.nn.functional.scaled_dot_product_attention

    def prompt(length: int) -> Callable[[], object]:
        q = bench.random(1, heads, length, dim)
        k, v = bench.random(1, kv_heads, length, dim), bench.random(1, kv_heads, length, dim)
        return lambda: sdpa(q, k, v, is_causal=True, enable_gqa=True)

    def step(sequences: int, keys: int) -> Callable[[], object]:
        q = bench.random(sequences, heads, 1, dim)
        k = bench.random(sequences, kv_heads, keys, dim)
        v = bench.random(sequences, kv_heads, keys, dim)
        return bench.graphed(lambda: sdpa(q, k, v, enable_gqa=True))

    def picture(count: int, length: int) -> Callable[[], object]:
        q, k, v = (bench.random(count, heads // 2, length, 64) for _ in range(3))
        return lambda: sdpa(q, k, v)

    for length in rows:
        named = "prefill.8201.pictures" if length == 8201 else f"prefill.{length}"
        bench.give(f"torch.sdpa.prompt_{length}", lambda length=length: prompt(length),
                   f"part.{named}.attention", flops=2 * length * (length + 1) * heads * dim)
    for sequences, keys in steps:
        bench.give(f"torch.sdpa.step_{sequences}x{keys}", lambda s=sequences, k=keys: step(s, k),
                   f"part.bs{sequences}.ctx{keys}.attention",
                   bytes=4 * sequences * keys * kv_heads * dim,
                   note="keys and values in one piece; small ones stay in the cache")
    for count, length, beside in views:
        bench.give(f"torch.sdpa.views_{count}x{length}", lambda c=count, n=length: picture(c, n),
                   beside, flops=4 * count * length * length * (heads // 2) * 64)


def llama(bench: Bench, small: bool) -> None:
    """A Llama-shaped model of the decoder's sizes: static cache, the step compiled or eager."""
    try:
        from transformers import LlamaConfig, LlamaForCausalLM, StaticCache
    except ImportError as error:
        line(skipped="peer.transformers", reason=f"transformers is missing: {error}")
        return
    torch = bench.torch
    sizes = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": LAYERS,
             "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 92544}
    if small:
        sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
                 "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128}
    config = LlamaConfig(**sizes, max_position_embeddings=16384, attn_implementation="sdpa")
    length = 31 if small else 1289
    before = torch.get_default_dtype()
    torch.set_default_dtype(bench.dtype)
    try:
        with torch.device(bench.device):
            model = LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)
    ids = torch.arange(length, device=bench.device)[None] % sizes["vocab_size"]
    with torch.inference_mode():
        bench.give("transformers.prompt_1289",
                   lambda: lambda: model(ids, use_cache=False, logits_to_keep=1), "prefill.1289",
                   runs=8)
        keys = 32 if small else 1024
        # Every step moves on by one place: room for those that are timed.
        cache = StaticCache(config=config, max_cache_len=keys + 64)
        model(ids[:, :keys - 1], past_key_values=cache, logits_to_keep=1)
        token = torch.zeros((1, 1), dtype=torch.long, device=bench.device)
        name, beside = f"transformers.step_1x{keys}", f"decode.bs1.ctx{keys}"
        bench.give(f"{name}.eager", lambda: lambda: model(token, past_key_values=cache), beside,
                   runs=8)

        def compiled() -> Callable[[], object]:
            mode = "reduce-overhead" if bench.device == "cuda" else "default"
            step = torch.compile(model, mode=mode)
            return lambda: step(token, past_key_values=cache)

        bench.give(f"{name}.compiled", compiled, beside, runs=15,
                   note="static cache, torch.compile")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="tiny sizes on the CPU")
    small = parser.parse_args().small
    try:
        import torch
    except ImportError as error:
        line(skipped="peer.torch", reason=f"this machine's Python has no torch: {error}")
        return
    if not small and not torch.cuda.is_available():
        line(no_device="torch sees no CUDA device")
        raise SystemExit(5)
    torch.manual_seed(0)
    bench = Bench(torch, "cpu" if small else "cuda")
    with torch.inference_mode():
        if small:
            attention(bench, 4, 2, 16, (33,), ((2, 40),), ((2, 17, ""),))
            products(bench, 64, 96, 128, 2)
        else:
            attention(bench, 32, 8, 128, (1289, 8201),
                      ((1, 1024), (1, 8192), (8, 1024), (32, 1024), (32, 4096)),
                      ((1, 1226, "part.vision.490.attention"),
                       (56, 577, "part.vision.336x56.attention")))
            products(bench, 4096, 14336, 6144, LAYERS)
    with bench.case("transformers"):
        if not small:
            torch.cuda.empty_cache()
        llama(bench, small)


if __name__ == "__main__":
    main()
