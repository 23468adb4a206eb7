"""Runs a request, or bare token ids, through the reference model: answer as JSON, taps to a file.

The request has the form that `xcomposer trace --request` takes, the tensors have its names, so
that the two can be compared where no golden exists.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from reference.config import KINDS  # noqa: E402
from reference.runner import Runner  # noqa: E402
from reference.search import SearchOptions  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--request", type=Path, help="file with one request")
    what.add_argument("--ids", type=int, nargs="+", help="token ids to continue greedily")
    parser.add_argument("--max-new-tokens", type=int, default=256, help="with --ids")
    parser.add_argument("--image-root", type=Path, action="append", default=[])
    parser.add_argument("--out", type=Path, help="safetensors file for the taps")
    parser.add_argument("--kind", choices=KINDS, help="instead of what the tensors tell")
    parser.add_argument("--float64", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dtype = torch.float64 if arguments.float64 else torch.float32
    runner = Runner(arguments.model, dtype, arguments.kind)
    if arguments.ids:
        options = SearchOptions(max_new_tokens=arguments.max_new_tokens, repetition_penalty=1.0)
        result = runner.continue_ids(arguments.ids, options)
    else:
        request = json.loads(arguments.request.read_text(encoding="utf-8"))
        roots = [*arguments.image_root, arguments.request.parent]
        result = runner.run(request, roots)
    if arguments.out:
        taps = {name: t.to(t.dtype if t.dtype == torch.uint8 else torch.float32).contiguous()
                for name, t in result.taps.items()}
        save_file(taps, arguments.out)
    print(json.dumps({"text": result.text, "output_ids": result.output_ids}, ensure_ascii=False))


if __name__ == "__main__":
    main()
