"""How far float16 alone moves the recorded tensors: the budgets of the goldens on a device.

    python3 half_error.py --shared DIR --goldens FOLDER

Runs tools/reference on the cases of FOLDER/goldens.json in float32, rounded to float16 wherever the
kernels store: weights, the inputs and outputs of linears, norms in front of them, rotated queries
and keys. What adds to the decoder's residual stream stays float32. Writes twice the largest
difference to each recorded tensor into goldens.json as its budget: a kernel may err twice as much
as the plain computation of the same precision. Needs what tools/requirements.txt names.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOOLS))

import torch  # noqa: E402

from gpu_check_parts import taps, tensors  # noqa: E402
from reference import decoder  # noqa: E402
from reference.runner import Runner  # noqa: E402

FACTOR = 2.0
# Added to the residual stream, or read by the sampler, in float32.
NOT_STORED = ("attention.wo", "feed_forward.w2", "output", "embeddings.patch_embedding",
              "pre_layrnorm")


def rounded(x: torch.Tensor) -> torch.Tensor:
    return x.half().to(x.dtype)


def round_where_kernels_store(model: torch.nn.Module) -> None:
    for parameter in model.parameters():
        parameter.data = rounded(parameter.data)
    for name, module in model.named_modules():
        if not list(module.parameters(recurse=False)):
            continue
        # A linear reads what was stored before it; a norm reads the residual stream.
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            module.register_forward_pre_hook(
                lambda _m, inputs: (rounded(inputs[0]), *inputs[1:]))
        stored = not name.endswith(NOT_STORED) and name != "model.norm"
        if stored and (isinstance(module, torch.nn.Linear) or "norm" in name.rsplit(".", 1)[-1]):
            module.register_forward_hook(lambda _m, _i, out: rounded(out))
    plain = decoder.rotate
    decoder.rotate = lambda x, cos, sin: rounded(plain(x, cos, sin))


def budgets(runner: Runner, record: dict, roots: list[Path], case: dict,
            recorded_file: Path) -> dict[str, float]:
    result = runner.run(record, roots)
    agreed = 0
    for mine, wanted in zip(result.output_ids, record["output_ids"]):
        if mine != wanted:
            break
        agreed += 1
    with tempfile.TemporaryDirectory() as folder:
        traced_file = Path(folder) / "traced.safetensors"
        tensors.write(traced_file, {name: _tensor(t) for name, t in result.taps.items()
                                    if taps.is_traced(name)})
        found = {}
        with tensors.Tensors(recorded_file) as recorded, tensors.Tensors(traced_file) as traced:
            for name in case["names"]:
                rows = agreed + 1 if name == "logits" else None
                difference = taps.compare(name, recorded, traced, rows)
                found[name] = FACTOR * difference.largest
                print(f"  {name}: {difference.largest:.3g}, over rms {difference.relative:.2e}")
    print(f"  {agreed} of {len(record['output_ids'])} ids equal", flush=True)
    return found


def _tensor(t: torch.Tensor) -> tuple[str, list[int], bytes]:
    if t.dtype == torch.uint8:
        return "U8", list(t.shape), bytes(t.contiguous().view(-1).tolist())
    wide = t.detach().float().contiguous()
    return "F32", list(wide.shape), wide.numpy().tobytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--goldens", type=Path, required=True)
    arguments = parser.parse_args()
    listed = arguments.goldens / "goldens.json"
    content = json.loads(listed.read_text(encoding="utf-8"))
    original = arguments.shared / "data" / "goldens"
    plain = decoder.rotate
    for kind in content["kinds"]:
        folder = original / kind["kind"]
        records = {r["name"]: r for r in json.loads((folder / "cases.json").read_text("utf-8"))}
        runner = Runner(folder / "model")
        decoder.rotate = plain
        round_where_kernels_store(runner.model)
        for case in kind["cases"]:
            print(kind["kind"], case["name"], flush=True)
            case["budgets"] = budgets(runner, records[case["name"]],
                                      [arguments.shared / "data", folder], case,
                                      arguments.goldens / case["taps"])
    listed.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
