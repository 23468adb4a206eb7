"""What a part gives back, and what all parts are given."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

PASSED = "passed"
FAILED = "failed"
SKIPPED = "skipped"
TIMED_OUT = "timed out"


@dataclasses.dataclass
class Result:
    state: str
    reason: str = ""
    figures: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    details: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Context:
    """`programs` is a folder with the binaries, `env` what they run in."""

    programs: Path
    env: dict[str, str]
    goldens: Path | None  # folder with goldens.json, or none
    scratch: Path
    device: str = "cuda:0"
    python: str = "python3"
    goldens_fault: str = ""  # why there are none although there is a folder of them

    def program(self, name: str) -> Path:
        return self.programs / name
