"""Writes a training snapshot as a checkpoint folder in the layout of 2-vl-7b."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from demo.student import CONFIG  # noqa: E402

CODE = "modeling_internlm_xcomposer2.InternLMXComposer2ForCausalLM"
CONFIG_JSON = {
    "architectures": ["InternLMXComposer2ForCausalLM"],
    "auto_map": {
        "AutoConfig": "configuration_internlm_xcomposer2.InternLMXcomposer2Config",
        "AutoModel": CODE,
        "AutoModelForCausalLM": CODE,
    },
    "bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": CONFIG.hidden,
    "initializer_range": 0.02,
    "intermediate_size": CONFIG.intermediate,
    "max_length": CONFIG.max_length,
    "max_position_embeddings": CONFIG.max_positions,
    "model_type": "internlmxcomposer2",
    "num_attention_heads": CONFIG.heads,
    "num_hidden_layers": CONFIG.layers,
    "num_key_value_heads": CONFIG.kv_heads,
    "pad_token_id": 2,
    "rms_norm_eps": CONFIG.norm_eps,
    "rope_scaling": {"factor": 1.0, "type": "dynamic"},
    "rope_theta": int(CONFIG.rope_theta),
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.33.1",
    "use_cache": False,
    "vocab_size": CONFIG.vocab,
    "img_size": CONFIG.vision.image_size,
}
GENERATION_JSON = {
    "_from_model_config": True, "bos_token_id": 1, "eos_token_id": 2, "max_length": 1600,
    "pad_token_id": 2, "transformers_version": "4.33.1", "use_cache": False,
}
TOKENIZER_JSON = {
    "auto_map": {
        "AutoTokenizer": ["tokenization_internlm_xcomposer2.InternLMXComposer2Tokenizer", None]},
    "bos_token": "<s>", "clean_up_tokenization_spaces": False, "eos_token": "</s>",
    "model_max_length": 1000000000000000019884624838656, "pad_token": "</s>",
    "padding_side": "right", "tokenizer_class": "InternLMXComposer2Tokenizer",
    "unk_token": "<unk>",
}
SPECIAL_JSON = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>",
                "unk_token": "<unk>"}


def write(weights: dict[str, torch.Tensor], tokenizer: Path, out: Path) -> None:
    """bfloat16 weights and the five small files beside them."""
    out.mkdir(parents=True, exist_ok=True)
    stored = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in weights.items()}
    save_file(stored, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)
    for name, content in (("config", CONFIG_JSON), ("generation_config", GENERATION_JSON),
                          ("tokenizer_config", TOKENIZER_JSON),
                          ("special_tokens_map", SPECIAL_JSON)):
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (out / f"{name}.json").write_text(text, encoding="utf-8")
    shutil.copyfile(tokenizer, out / "tokenizer.model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snapshot", type=Path, required=True, help="snapshot.pt of train.py")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    arguments = parser.parse_args()
    state = torch.load(arguments.snapshot, weights_only=True)
    write(state["average"], arguments.tokenizer, arguments.out)


if __name__ == "__main__":
    main()
