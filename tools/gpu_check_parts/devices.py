"""The one GPU that all programs take: some of them know only the first."""

from __future__ import annotations

import re
from typing import Any

FORM = re.compile(r"cpu|cuda:\d+")


def first(device: str, env: dict[str, str], cards: list[dict[str, str]]
          ) -> tuple[dict[str, str], dict[str, str]]:
    """The environment in which `device` is cuda:0, and its card of `cards`, empty if not known.

    The other GPUs stay visible behind it, for tests that want two.
    """
    if device == "cpu":
        return env, {}
    number = int(device.removeprefix("cuda:"))
    cards = [card for card in cards if card.get("index") and card.get("uuid")]
    # As nvidia-smi counts; CUDA's own order is by speed.
    env = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", **env}
    named = env.get("CUDA_VISIBLE_DEVICES")
    visible = named.split(",") if named is not None else [card["index"] for card in cards]
    if number >= len(visible) and visible:
        raise SystemExit(f"there is no {device}: the devices are {', '.join(visible)}")
    chosen = visible[number] if visible else str(number)
    if number > 0:
        others = [other for other in visible if other != chosen]
        env["CUDA_VISIBLE_DEVICES"] = ",".join([chosen, *others])
    return env, next((card for card in cards if _is(card, chosen.strip())), {})


def _is(card: dict[str, Any], name: str) -> bool:
    """CUDA_VISIBLE_DEVICES names them by number or by the beginning of their UUID."""
    return bool(name) and (name == card["index"] or
                           (name.startswith("GPU-") and card["uuid"].startswith(name)))
