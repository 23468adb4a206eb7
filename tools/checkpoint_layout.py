"""Names, shapes and config.json of the five kinds (model specification 1 and 2.1). Standard
library only."""

from __future__ import annotations

import dataclasses
import math

LINEARS = ("attention.wqkv", "attention.wo", "feed_forward.w1", "feed_forward.w3",
           "feed_forward.w2")
VISION = "vit.vision_tower.vision_model."


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Widths and counts of one checkpoint. `adapters` maps the extra adapters to their rank."""

    kind: str
    hidden: int = 4096
    layers: int = 32
    heads: int = 32
    kv_heads: int = 8
    intermediate: int = 14336
    vocab: int = 92544
    rank: int = 256
    rank_wqkv: int = 256
    vit_width: int = 1024
    vit_layers: int = 24
    vit_mlp: int = 4096
    grid: int = 35
    max_positions: int = 32768
    max_length: int = 4096
    ntk_factor: float | None = 1.0
    rope_theta: int = 1000000
    adapters: tuple[tuple[str, int], ...] = ()

    @property
    def tiled(self) -> bool:
        return self.kind in ("2-4khd-7b", "2.5-7b")


KINDS = {
    "2-7b": Sizes("2-7b", grid=16),
    "2-vl-7b": Sizes("2-vl-7b"),
    "2-4khd-7b": Sizes("2-4khd-7b", grid=24, rank_wqkv=8, max_length=16384, ntk_factor=None),
    "2.5-7b": Sizes("2.5-7b", grid=40, max_length=16384, max_positions=24576, ntk_factor=2.0,
                    adapters=(("sft", 256), ("dpo", 256), ("web", 512))),
    "2-vl-1.8b": Sizes("2-vl-1.8b", hidden=2048, layers=24, heads=16, intermediate=8192,
                       ntk_factor=2.0),
}

Shape = tuple[int, ...]


def _linear_shapes(sizes: Sizes) -> dict[str, Shape]:
    qkv = (sizes.heads + 2 * sizes.kv_heads) * (sizes.hidden // sizes.heads)
    return {"attention.wqkv": (qkv, sizes.hidden),
            "attention.wo": (sizes.hidden, sizes.hidden),
            "feed_forward.w1": (sizes.intermediate, sizes.hidden),
            "feed_forward.w3": (sizes.intermediate, sizes.hidden),
            "feed_forward.w2": (sizes.hidden, sizes.intermediate)}


def _decoder(sizes: Sizes) -> dict[str, Shape]:
    table: dict[str, Shape] = {"model.tok_embeddings.weight": (sizes.vocab, sizes.hidden)}
    for layer in range(sizes.layers):
        prefix = f"model.layers.{layer}."
        table[prefix + "attention_norm.weight"] = (sizes.hidden,)
        table[prefix + "ffn_norm.weight"] = (sizes.hidden,)
        for linear, (outputs, inputs) in _linear_shapes(sizes).items():
            rank = sizes.rank_wqkv if linear == "attention.wqkv" else sizes.rank
            table[f"{prefix}{linear}.weight"] = (outputs, inputs)
            pairs = [("Plora", rank)] + [(f"lora_{name}", r) for name, r in sizes.adapters]
            for name, inner in pairs:
                table[f"{prefix}{linear}.{name}_A.weight"] = (inner, inputs)
                table[f"{prefix}{linear}.{name}_B.weight"] = (outputs, inner)
    table["model.norm.weight"] = (sizes.hidden,)
    table["output.weight"] = (sizes.vocab, sizes.hidden)
    return table


def _vision(sizes: Sizes) -> dict[str, Shape]:
    width, mlp = sizes.vit_width, sizes.vit_mlp
    table: dict[str, Shape] = {
        VISION + "embeddings.class_embedding": (width,),
        VISION + "embeddings.patch_embedding.weight": (width, 3, 14, 14),
        VISION + "embeddings.position_embedding.weight": (sizes.grid ** 2 + 1, width),
        VISION + "pre_layrnorm.weight": (width,),
        VISION + "pre_layrnorm.bias": (width,),
    }
    parts: list[tuple[str, Shape]] = [("layer_norm1", (width,)), ("layer_norm2", (width,))]
    parts += [(f"self_attn.{p}_proj", (width, width)) for p in ("q", "k", "v", "out")]
    parts += [("mlp.fc1", (mlp, width)), ("mlp.fc2", (width, mlp))]
    for layer in range(sizes.vit_layers):
        for name, shape in parts:
            table[f"{VISION}encoder.layers.{layer}.{name}.weight"] = shape
            table[f"{VISION}encoder.layers.{layer}.{name}.bias"] = shape[:1]
    return table


def tensor_table(sizes: Sizes) -> dict[str, Shape]:
    """Every tensor of the checkpoint, in the order of the model."""
    merged = sizes.vit_width * (4 if sizes.tiled else 1)
    table = _decoder(sizes)
    if sizes.tiled:
        table["plora_glb_GN"] = (1, 1, merged)
        table["plora_sub_GN"] = (1, 1, 1, merged)
    table.update(_vision(sizes))
    for index, inputs in ((0, merged), (2, sizes.hidden)):
        table[f"vision_proj.{index}.weight"] = (sizes.hidden, inputs)
        table[f"vision_proj.{index}.bias"] = (sizes.hidden,)
    return table


def parameter_count(table: dict[str, Shape]) -> int:
    return sum(math.prod(shape) for shape in table.values())


def config_json(sizes: Sizes) -> dict:
    """config.json as shipped, with the given sizes."""
    code = "modeling_internlm_xcomposer2.InternLMXComposer2ForCausalLM"
    config: dict = {
        "architectures": ["InternLM2ForCausalLM" if sizes.kind == "2-4khd-7b"
                          else "InternLMXComposer2ForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_internlm_xcomposer2.InternLMXcomposer2Config",
            "AutoModel": code, "AutoModelForCausalLM": code},
        "bias": False, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "hidden_size": sizes.hidden, "initializer_range": 0.02,
        "intermediate_size": sizes.intermediate, "max_length": sizes.max_length,
        "max_position_embeddings": sizes.max_positions,
        "model_type": "internlm2" if sizes.kind == "2.5-7b" else "internlmxcomposer2",
        "num_attention_heads": sizes.heads, "num_hidden_layers": sizes.layers,
        "num_key_value_heads": sizes.kv_heads, "pad_token_id": 2, "rms_norm_eps": 1e-05,
        "rope_scaling": None if sizes.ntk_factor is None else {
            "factor": sizes.ntk_factor, "type": "dynamic"},
        "rope_theta": sizes.rope_theta, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "transformers_version": "4.33.1", "use_cache": False, "vocab_size": sizes.vocab,
    }
    if sizes.tiled:
        config["attn_implementation"] = "flash_attention_2"
    else:
        config["img_size"] = 14 * sizes.grid
        if sizes.kind == "2-7b":
            config["attn_implementation"] = "eager"
    return config


def small_files(sizes: Sizes) -> dict[str, dict]:
    """The JSON files beside the weights, by file name."""
    prompt_limit = {"2-4khd-7b": 4480, "2.5-7b": 16384}.get(sizes.kind, 1600)
    name = "InternLM2Tokenizer" if sizes.tiled else "InternLMXComposer2Tokenizer"
    module = "tokenization_internlm2" if sizes.tiled else "tokenization_internlm_xcomposer2"
    specials = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    return {
        "config.json": config_json(sizes),
        "generation_config.json": {
            "_from_model_config": True, "bos_token_id": 1, "eos_token_id": 2,
            "max_length": prompt_limit, "pad_token_id": 2, "transformers_version": "4.33.1",
            "use_cache": False},
        "tokenizer_config.json": {
            "auto_map": {"AutoTokenizer": [f"{module}.{name}", None]},
            "clean_up_tokenization_spaces": False,
            "model_max_length": 1000000000000000019884624838656, "padding_side": "right",
            "tokenizer_class": name, **specials},
        "special_tokens_map.json": specials,
    }
