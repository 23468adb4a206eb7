"""Recorded cases of the reference as requests that need neither tokenizer nor picture decoder.

A case's ids become `token_ids`, with one -1 for each picture, and its pictures the RGB bytes that
the reference had before normalisation, which resizing leaves as they are. What cannot be asked for
in this way - beams, videos, text without pictures on the embeddings path - is left to the tests on
CPUs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import bounded, tensors
from .taps import is_traced

# One folder per kind of checkpoint; 2.5-7b-ntk stands for 2.5 because it is the smaller one.
KINDS = ("2-vl-7b", "2-4khd-7b", "2-7b", "2.5-7b-ntk")
MODEL_FILES = ("*.bin", "*.safetensors", "*.json")
MOST_ROWS = 2500       # of a prompt
PICTURE_CASES = 2      # of a kind
TEXT_CASES = 1
DECODE_S = 300.0       # at most for the pictures of one case


@dataclasses.dataclass(frozen=True)
class Pictures:
    """RGB bytes by their SHA-256, from the recorded tensors of all kinds."""

    found: dict[str, tuple[list[int], bytes]]

    @staticmethod
    def of(goldens: Path) -> Pictures:
        found: dict[str, tuple[list[int], bytes]] = {}
        for file in sorted(goldens.glob("*/taps/*.safetensors")):
            with tensors.Tensors(file) as taps:
                for name in taps.names():
                    if name.endswith(".rgb"):
                        data = taps.raw(name)
                        found[hashlib.sha256(data).hexdigest()] = (taps.shape(name), data)
        return Pictures(found)


    def decode(self, program: Path, folder: Path, record: dict[str, Any], scratch: Path) -> None:
        """Adds the pictures of a case that were not recorded, as `program` traces them."""
        count = len(record.get("images") or [])
        wanted = [record.get(f"image{i}.rgb_sha256") for i in range(count)]
        if all(digest in self.found for digest in wanted):
            return
        request, traced = scratch / "request.json", scratch / "traced.safetensors"
        request.write_text(json.dumps(record), encoding="utf-8")
        names = [f"image{i}.rgb" for i in range(count)]
        outcome = bounded.run(
            [program, "trace", "--model", folder / "model", "--request", request, "--image-root",
             folder.parent.parent, folder, "--out", traced, "--taps", ",".join(names), "--json",
             "--devices", "cpu"], DECODE_S)
        if outcome.code != 0:
            return
        with tensors.Tensors(traced) as taps:
            for name, digest in zip(names, wanted):
                data = taps.raw(name)
                # A decoder may differ by a level: only the reference's own pixels will do.
                if hashlib.sha256(data).hexdigest() == digest:
                    self.found[digest] = (taps.shape(name), data)


def write(goldens: Path, out: Path, kinds: tuple[str, ...] = KINDS,
          decoder: Path | None = None) -> dict[str, Any]:
    """Writes models, requests, pictures and recorded tensors, and goldens.json; returns it.

    `decoder` is an xcomposer that decodes pictures, for those that were not recorded.
    """
    pictures = Pictures.of(goldens)
    listed = []
    for kind in kinds:
        if not (goldens / kind / "cases.json").is_file():
            continue
        cases = list(_cases(goldens / kind, out / kind, pictures, decoder))
        if not cases:
            continue
        model = out / kind / "model"
        model.mkdir(parents=True, exist_ok=True)
        for pattern in MODEL_FILES:
            for file in sorted((goldens / kind / "model").glob(pattern)):
                shutil.copyfile(file, model / file.name)
        listed.append({"kind": kind, "model": f"{kind}/model", "cases": cases})
    content = {"kinds": listed}
    out.mkdir(parents=True, exist_ok=True)
    (out / "goldens.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    return content


def _cases(folder: Path, out: Path, pictures: Pictures,
           decoder: Path | None) -> Iterator[dict[str, Any]]:
    records = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    left = {"picture": PICTURE_CASES, "text": TEXT_CASES}
    for record in records:
        sort = "picture" if record.get("images") else "text"
        if left[sort] == 0 or not _can_be_asked(record):
            continue
        if decoder is not None and sort == "picture":
            with tempfile.TemporaryDirectory() as scratch:
                pictures.decode(decoder, folder, record, Path(scratch))
        request = _request(record, out, pictures)
        if request is None:
            continue
        left[sort] -= 1
        name = record["name"]
        (out / "taps").mkdir(parents=True, exist_ok=True)
        with tensors.Tensors(folder / record["taps"]) as taps:
            kept = {n: (taps.dtype(n), taps.shape(n), taps.raw(n)) for n in taps.names()
                    if not n.endswith(".rgb")}
            margins = _margins(record, taps)
            tensors.write(out / "taps" / f"{name}.safetensors", kept)
        (out / f"{name}.json").write_text(json.dumps(request), encoding="utf-8")
        yield {"name": name, "request": f"{out.name}/{name}.json",
               "taps": f"{out.name}/taps/{name}.safetensors",
               "names": [n for n in kept if is_traced(n)],
               "output_ids": record["output_ids"], "margins": margins,
               "rows": len(record["input_ids"])}


def _can_be_asked(record: dict[str, Any]) -> bool:
    generate = record.get("generate") or {}
    text_path = not record.get("images") and not generate.get("use_cache", True)
    return (bool(record.get("output_ids")) and bool(record.get("taps"))
            and record.get("call", "chat") == "chat" and generate.get("num_beams") == 1
            and not generate.get("do_sample") and len(record["input_ids"]) <= MOST_ROWS
            and record.get("rope_state", "fresh") == "fresh"
            and record.get("chat", {}).get("infer_mode", "base") == "base"
            and "image0.video" not in record and (bool(record.get("images")) or text_path))


def _request(record: dict[str, Any], out: Path, pictures: Pictures) -> dict[str, Any] | None:
    generate = record["generate"]
    request: dict[str, Any] = {
        "token_ids": _collapsed(record),
        "images": None,
        "generate": {"do_sample": False, "num_beams": 1,
                     "max_new_tokens": generate["max_new_tokens"],
                     "eos_token_id": generate["eos_token_id"],
                     "repetition_penalty": generate["repetition_penalty"],
                     "use_cache": generate["use_cache"]}}
    tiles = (record.get("chat") or {}).get("hd_num")
    if tiles is not None:
        request["chat"] = {"hd_num": tiles}
    if not record.get("images"):
        return request
    request["images"] = []
    for index in range(len(record["images"])):
        digest = record.get(f"image{index}.rgb_sha256")
        if digest not in pictures.found:
            return None
        (height, width, _), data = pictures.found[digest]
        file = f"{digest[:16]}.rgb"
        out.mkdir(parents=True, exist_ok=True)
        (out / file).write_bytes(data)
        request["images"].append({"rgb": file, "width": width, "height": height})
    return request


def _collapsed(record: dict[str, Any]) -> list[int]:
    """One -1 for all rows of a picture. Pictures that touch are told apart by their rows."""
    ids: list[int] = []
    rows = [record.get(f"image{i}.rows") for i in range(len(record.get("images") or []))]
    left = 0
    for token in record["input_ids"]:
        if token != -1:
            ids.append(token)
            left = 0
        elif left > 0:
            left -= 1
        else:
            ids.append(-1)
            known = rows.pop(0) if rows else None
            left = (known if known is not None else len(record["input_ids"])) - 1
    return ids


def _margins(record: dict[str, Any], taps: tensors.Tensors) -> list[float]:
    """Of each step: the best score before the second best, after the repetition penalty."""
    steps, vocab = taps.shape("logits")
    penalty = record["generate"]["repetition_penalty"]
    text_path = not record.get("images")
    seen = set(record.get("penalty_ids") or (record["input_ids"] if text_path else [1]))
    margins = []
    for step in range(min(steps, len(record["output_ids"]))):
        scores = taps.slice("logits", step * vocab, vocab)
        for token in seen:
            scores[token] *= penalty if scores[token] < 0 else 1 / penalty
        best, second = sorted(scores, reverse=True)[:2]
        margins.append(best - second)
        seen.add(record["output_ids"][step])
    return margins
