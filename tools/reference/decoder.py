"""The InternLM2 decoder with partial LoRA (model specification 2.2, 5 and 7)."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn
from torch.nn import functional

from .config import ModelConfig
from .rotary import rotate

Spans = list[tuple[int, int]]
KeyValue = tuple[torch.Tensor, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Rows:
    """What the rows of one call share: where pictures lie, rotary rows, mask, adapter mode.

    `spans` are half-open row ranges that came out of the projector. `mask` is added to the scores
    and broadcasts to [B, 1, T, S]; None where every row sees every key.
    """

    spans: Spans
    cos: torch.Tensor
    sin: torch.Tensor
    mask: torch.Tensor | None
    mode: str = "base"


class RmsNorm(nn.Module):
    """Normalises in float32 (or better), rounds to the input type, then scales."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self._eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self._eps)
        return self.weight * wide.to(x.dtype)


class PloraLinear(nn.Linear):
    """y = W x on every row, plus scale * B A x on picture rows, plus the adapters of a mode."""

    def __init__(self, inputs: int, outputs: int, config: ModelConfig, name: str):
        super().__init__(inputs, outputs, bias=False)
        rank = config.plora_ranks[name]
        self._scale = config.plora_scale(name)
        self.Plora_A = nn.Linear(inputs, rank, bias=False)
        self.Plora_B = nn.Linear(rank, outputs, bias=False)
        for adapter, adapter_rank in config.adapter_ranks.items():
            self.add_module(f"lora_{adapter}_A", nn.Linear(inputs, adapter_rank, bias=False))
            self.add_module(f"lora_{adapter}_B", nn.Linear(adapter_rank, outputs, bias=False))

    def forward(self, x: torch.Tensor, rows: Rows) -> torch.Tensor:
        y = functional.linear(x, self.weight)
        adapters = {"base": (), "web": ("web",), "write": ("sft", "dpo")}[rows.mode]
        for adapter in adapters:
            down = getattr(self, f"lora_{adapter}_A")(x)
            y = y + getattr(self, f"lora_{adapter}_B")(down)
        for begin, end in rows.spans:
            visual = self.Plora_B(self.Plora_A(x[:, begin:end]))
            if self._scale != 1.0:
                visual = visual * self._scale
            y = y + functional.pad(visual, (0, 0, begin, x.shape[1] - end))
        return y


class Attention(nn.Module):
    """Grouped-query attention; wqkv holds per KV head its query heads, its key and its value."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self._kv_heads, self._dim = config.kv_heads, config.head_dim
        self._group = config.heads // config.kv_heads
        self.wqkv = PloraLinear(config.hidden, config.qkv_rows, config, "wqkv")
        self.wo = PloraLinear(config.hidden, config.hidden, config, "wo")

    def forward(self, x: torch.Tensor, rows: Rows,
                past: KeyValue | None) -> tuple[torch.Tensor, KeyValue]:
        batch, length, _ = x.shape
        qkv = self.wqkv(x, rows)
        qkv = qkv.view(batch, length, self._kv_heads, self._group + 2, self._dim)
        query = qkv[..., :-2, :].flatten(2, 3).transpose(1, 2)                    # (B, H, T, D)
        key = qkv[..., -2, :].transpose(1, 2)                                     # (B, G, T, D)
        value = qkv[..., -1, :].transpose(1, 2)                                   # (B, G, T, D)
        query = rotate(query, rows.cos, rows.sin).to(value.dtype)
        key = rotate(key, rows.cos, rows.sin).to(value.dtype)
        if past is not None:
            key = torch.cat((past[0].expand(batch, -1, -1, -1), key), dim=2)      # (B, G, S, D)
            value = torch.cat((past[1].expand(batch, -1, -1, -1), value), dim=2)  # (B, G, S, D)
        # The group dimension is folded into the rows, so that a KV head is never repeated.
        folded = query.reshape(batch, self._kv_heads, self._group * length, self._dim)
        scores = torch.matmul(folded, key.transpose(2, 3)) / self._dim ** 0.5
        scores = scores.view(batch, self._kv_heads, self._group, length, -1)      # (B, G, Q, T, S)
        if rows.mask is not None:
            scores = scores + rows.mask.unsqueeze(2)
        weights = scores.softmax(dim=-1).to(value.dtype)
        out = torch.matmul(weights.view(batch, self._kv_heads, self._group * length, -1), value)
        out = out.view(batch, self._kv_heads * self._group, length, self._dim)
        return self.wo(out.transpose(1, 2).flatten(2), rows), (key, value)


class FeedForward(nn.Module):
    """w2(silu(w1 x) * w3 x)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.w1 = PloraLinear(config.hidden, config.intermediate, config, "w1")
        self.w2 = PloraLinear(config.intermediate, config.hidden, config, "w2")
        self.w3 = PloraLinear(config.hidden, config.intermediate, config, "w3")

    def forward(self, x: torch.Tensor, rows: Rows) -> torch.Tensor:
        return self.w2(functional.silu(self.w1(x, rows)) * self.w3(x, rows), rows)


class Layer(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.attention_norm = RmsNorm(config.hidden, config.norm_eps)
        self.attention = Attention(config)
        self.ffn_norm = RmsNorm(config.hidden, config.norm_eps)
        self.feed_forward = FeedForward(config)

    def forward(self, h: torch.Tensor, rows: Rows,
                past: KeyValue | None) -> tuple[torch.Tensor, KeyValue]:
        attended, kept = self.attention(self.attention_norm(h), rows, past)
        h = h + attended
        return h + self.feed_forward(self.ffn_norm(h), rows), kept


class Decoder(nn.Module):
    """Token embedding, layers and final norm; `output` belongs to the whole model."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.tok_embeddings = nn.Embedding(config.vocab, config.hidden)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = RmsNorm(config.hidden, config.norm_eps)

    def forward(self, h: torch.Tensor, rows: Rows, past: list[KeyValue] | None = None
                ) -> tuple[torch.Tensor, list[KeyValue]]:
        """h [B, T, hidden] -> normalised hidden states [B, T, hidden] and all keys and values."""
        kept = []
        for index, layer in enumerate(self.layers):
            h, key_value = layer(h, rows, past[index] if past is not None else None)
            kept.append(key_value)
        return self.norm(h), kept


def causal_mask(new: int, total: int, like: torch.Tensor) -> torch.Tensor | None:
    """Additive mask [1, 1, new, total] of `new` rows at the end of `total` keys."""
    if new == 1:
        return None
    mask = torch.full((new, total), float("-inf"), dtype=like.dtype, device=like.device)
    return mask.triu(total - new + 1)[None, None]
