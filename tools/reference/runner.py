"""Runs one request as the published chat call does, and keeps the intermediate tensors."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from PIL import Image

from . import checkpoint
from .decoder import KeyValue, Rows, Spans, causal_mask
from .preprocess import normalise, square, tiled, video_canvas
from .prompt import META, interleave, prompt_text
from .search import SearchOptions, beam_search, greedy
from .tokenizer import BOS, Tokenizer

DEFAULT_TILES = {"2-4khd-7b": 25, "2.5-7b": 24}
SEVERAL_PICTURES_TILES = 6


@dataclasses.dataclass
class Result:
    """Taps carry the names of `xcomposer trace`; `output_ids` is empty for a forward call."""

    taps: dict[str, torch.Tensor]
    output_ids: list[int] = dataclasses.field(default_factory=list)
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Prompt:
    embeds: torch.Tensor     # (1, T, hidden)
    spans: Spans
    penalty_ids: list[int]   # what the repetition penalty starts from
    cached: bool             # the text path keeps no cache
    mode: str


class Runner:
    """A model with its tokenizer. Rotary tables start fresh unless `keep_rotary` is asked for."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32, kind: str | None = None):
        self.model = checkpoint.load(folder, dtype, kind)
        self.config = self.model.config
        self.tokenizer = Tokenizer(folder / "tokenizer.model", keep_space=self.config.tiled)
        self._dtype = dtype
        self._table = self.model.new_rotary_table()

    @torch.inference_mode()
    def run(self, request: dict, image_roots: list[Path], keep_rotary: bool = False) -> Result:
        """`request` has the form of the command line's --request files."""
        if not keep_rotary:
            self._table = self.model.new_rotary_table()
        result = Result({})
        prompt = self._assemble(request, image_roots, result.taps)
        hidden, cache = self._forward(prompt.embeds, prompt.spans, prompt.mode, None, result.taps)
        if request.get("call") == "forward":
            result.taps["prefill_logits"] = self.model.output(hidden[0]).float()
            return result
        options = self._options(request)
        first = self.model.output(hidden[0, -1])
        search = greedy if options.num_beams == 1 else beam_search
        found = search(first, self._stepper(prompt, cache), prompt.penalty_ids,
                       self.tokenizer.stop_ids, options)
        result.taps["logits"] = torch.stack(found.logits).float()
        result.output_ids = found.ids
        result.text = self.tokenizer.decode(found.ids)
        return result

    @torch.inference_mode()
    def continue_ids(self, ids: list[int], options: SearchOptions) -> Result:
        """Continues bare token ids: no prompt text, no picture, cached."""
        self._table = self.model.new_rotary_table()
        embeds = self.model.model.tok_embeddings(torch.tensor([ids]))
        prompt = Prompt(embeds, [], ids, cached=True, mode="base")
        hidden, cache = self._forward(embeds, [], prompt.mode, None)
        search = greedy if options.num_beams == 1 else beam_search
        found = search(self.model.output(hidden[0, -1]), self._stepper(prompt, cache), ids,
                       self.tokenizer.stop_ids, options)
        return Result({"logits": torch.stack(found.logits).float()}, found.ids,
                      self.tokenizer.decode(found.ids))

    @staticmethod
    def _options(request: dict) -> SearchOptions:
        known = {field.name for field in dataclasses.fields(SearchOptions)}
        asked = {**request.get("chat", {}), **request.get("generate", {})}
        if asked.get("do_sample"):
            raise ValueError("the reference model does not sample: set do_sample to false")
        return SearchOptions(**{k: v for k, v in asked.items() if k in known})

    def _assemble(self, request: dict, roots: list[Path], taps: dict[str, torch.Tensor]) -> Prompt:
        chat = request.get("chat", {})
        kind = self.config.kind
        mode = chat.get("infer_mode", "base")
        meta = request.get("meta_instruction", chat.get("meta_instruction"))
        if meta is None:
            meta = META if kind != "2.5-7b" or chat.get("use_meta") else ""
        history = [(asked, answered) for asked, answered in request.get("history") or []]
        text = prompt_text(request["query"], history, meta)
        images = request.get("images", [])
        if images is None or (not images and kind != "2.5-7b"):
            ids = [BOS] + self.tokenizer.encode("<s>" + text)
            embeds = self.model.model.tok_embeddings(torch.tensor([ids]))
            taps["inputs_embeds"] = embeds[0]
            taps["im_mask"] = torch.zeros(len(ids), dtype=torch.uint8)
            return Prompt(embeds, [], ids, cached=False, mode=mode)
        tiles = chat.get("hd_num", DEFAULT_TILES.get(kind, 0))
        if kind == "2.5-7b" and len(images) > 1:
            tiles = SEVERAL_PICTURES_TILES
        pictures = [self._picture(image, roots, tiles, f"image{index}", taps)
                    for index, image in enumerate(images)]
        embeds, spans = self._merge(text, pictures)
        taps["inputs_embeds"] = embeds[0]
        taps["im_mask"] = torch.zeros(embeds.shape[1], dtype=torch.uint8)
        for begin, end in spans:
            taps["im_mask"][begin:end] = 1
        return Prompt(embeds, spans, [BOS], cached=True, mode=mode)

    def _picture(self, image: str | dict, roots: list[Path], tiles: int, name: str,
                 taps: dict[str, torch.Tensor]) -> torch.Tensor:
        """A picture file, or {"canvas": file} of a video -> rows [R, hidden]."""
        is_video = isinstance(image, dict)
        relative = image["canvas"] if is_video else image
        path = next((root / relative for root in roots if (root / relative).is_file()), None)
        if path is None:
            raise FileNotFoundError(f"{relative} is in none of: {', '.join(map(str, roots))}")
        with Image.open(path) as opened:
            if is_video:
                rgb = video_canvas(opened.convert("RGB"))
            elif self.config.tiled:
                rgb = tiled(opened, self.config.kind, tiles)
            else:
                rgb = square(opened, self.config.vision.image_size)
        pixels = normalise(rgb).to(self._dtype)
        taps[f"{name}.rgb"] = torch.frombuffer(bytearray(rgb.tobytes()), dtype=torch.uint8).view(
            rgb.height, rgb.width, 3)
        features = self.model.vit_rows(pixels)
        taps[f"{name}.vit"] = features
        rows = self.model.project(features, rgb.height, rgb.width)
        taps[f"{name}.embeds"] = rows
        return rows

    def _merge(self, text: str, pictures: list[torch.Tensor]) -> tuple[torch.Tensor, Spans]:
        """Text pieces and pictures in order, cut at max_length (model specification 8.5)."""
        parts, spans, length, limit = [], [], 0, self.config.max_length
        for piece in interleave(text, len(pictures), self.config.kind):
            ids = [BOS] * piece.bos + self.tokenizer.encode(piece.text)
            parts.append(self.model.model.tok_embeddings(torch.tensor(ids, dtype=torch.int64)))
            length += len(ids)
            if piece.image is not None:
                rows = pictures[piece.image]
                parts.append(rows)
                spans.append((min(length, limit), min(length + len(rows), limit)))
                length += len(rows)
            if length > limit:
                break
        return torch.cat(parts)[None, :limit], [s for s in spans if s[0] < s[1]]

    def _forward(self, h: torch.Tensor, spans: Spans, mode: str, past: list[KeyValue] | None,
                 taps: dict[str, torch.Tensor] | None = None
                 ) -> tuple[torch.Tensor, list[KeyValue]]:
        new = h.shape[1]
        total = new + (past[0][0].shape[2] if past else 0)
        cos, sin = (table[total - new:].to(self._dtype) for table in self._table.rows(total))
        rows = Rows(spans, cos, sin, causal_mask(new, total, h), mode)
        if taps is None:
            return self.model.model(h, rows, past)
        hooks = [layer.register_forward_hook(
            lambda _m, _i, out, name=f"layer{k}.out": taps.__setitem__(name, out[0][0]))
            for k, layer in enumerate(self.model.model.layers)]
        hidden, cache = self.model.model(h, rows, past)
        for hook in hooks:
            hook.remove()
        taps["final_norm.out"] = hidden[0]
        return hidden, cache

    def _stepper(self, prompt: Prompt, cache: list[KeyValue]):
        """The step function of the search: cached, or recomputing everything (text path)."""
        state = {"cache": cache, "embeds": prompt.embeds}

        def step(tokens: list[int], beams: list[int]) -> torch.Tensor:
            new = self.model.model.tok_embeddings(torch.tensor(tokens))[:, None]  # (B, 1, hidden)
            index = torch.tensor(beams)
            if prompt.cached:
                past = [(k.expand(len(k) if len(k) > 1 else len(beams), -1, -1, -1)[index],
                         v.expand(len(v) if len(v) > 1 else len(beams), -1, -1, -1)[index])
                        for k, v in state["cache"]]
                hidden, state["cache"] = self._forward(new, [], prompt.mode, past)
            else:
                before = state["embeds"]
                before = before.expand(len(beams), -1, -1) if len(before) == 1 else before
                state["embeds"] = torch.cat((before[index], new), dim=1)
                hidden, _ = self._forward(state["embeds"], [], prompt.mode, None)
            return self.model.output(hidden[:, -1])

        return step
