"""Times llama.cpp through llama-cpp-python's low-level calls; prints one JSON object.

Run by bench_cpu in a process of its own, with the Python that has llama-cpp-python. A prompt is one
llama_decode of all its tokens, with the scores of the last; an answer is one call per token after
`--context` tokens. One run of each that does not count comes first.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import time


def fail(message: str) -> None:
    print(message, file=sys.stderr)
    raise SystemExit(1)


class Model:
    def __init__(self, arguments: argparse.Namespace) -> None:
        import llama_cpp
        self._api = llama_cpp
        self._silence = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self._silence, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        started = time.perf_counter()
        options = llama_cpp.llama_model_default_params()
        options.n_gpu_layers = 0
        self._model = llama_cpp.llama_model_load_from_file(arguments.gguf.encode(), options)
        if not self._model:
            fail(f"llama.cpp cannot load {arguments.gguf}")
        longest = max([*arguments.prompt_tokens, arguments.context + arguments.new_tokens])
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = longest + 8
        options.n_batch = options.n_ubatch = longest
        options.n_threads = options.n_threads_batch = arguments.threads
        self._context = llama_cpp.llama_init_from_model(self._model, options)
        if not self._context:
            fail("llama.cpp cannot make a context")
        self.load_s = time.perf_counter() - started
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))

    def system(self) -> str:
        return self._api.llama_print_system_info().decode()

    def version(self) -> str:
        return self._api.__version__

    def clear(self) -> None:
        self._api.llama_memory_clear(self._api.llama_get_memory(self._context), True)

    def decode(self, ids: list[int]) -> None:
        tokens = (self._api.llama_token * len(ids))(*ids)
        batch = self._api.llama_batch_get_one(tokens, len(ids))
        code = self._api.llama_decode(self._context, batch)
        if code != 0:
            fail(f"llama_decode returned {code}")
        self._api.llama_get_logits_ith(self._context, -1)  # waits until they are there


def ids(count: int, vocab: int, run: int) -> list[int]:
    return [(i * 7919 + run * 104729 + 17) % vocab for i in range(count)]


def prompt_seconds(model: Model, tokens: int, run: int) -> float:
    model.clear()
    prompt = ids(tokens, model.vocab, run)
    started = time.perf_counter()
    model.decode(prompt)
    return time.perf_counter() - started


def answer_seconds(model: Model, context: int, tokens: int, run: int) -> float:
    model.clear()
    all_ids = ids(context + tokens, model.vocab, run)
    model.decode(all_ids[:context])
    started = time.perf_counter()
    for token in all_ids[context:]:
        model.decode([token])
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gguf", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prompt-tokens", type=lambda t: [int(n) for n in t.split(",")],
                        required=True)
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--new-tokens", type=int, required=True, help="timed ones")
    parser.add_argument("--repeat", type=int, required=True)
    arguments = parser.parse_args()
    model = Model(arguments)
    figures: dict[str, list[float]] = {}
    for run in range(arguments.repeat + 1):
        taken = {f"prefill {n}": prompt_seconds(model, n, run) for n in arguments.prompt_tokens}
        taken[f"decode {arguments.context}"] = answer_seconds(
            model, arguments.context, arguments.new_tokens, run)
        for name, seconds in taken.items():
            figures.setdefault(name, [])
            if run > 0:
                figures[name].append(seconds)
    print(json.dumps({"version": model.version(), "system": model.system(),
                      "load_s": model.load_s, "seconds": figures}))


if __name__ == "__main__":
    main()
