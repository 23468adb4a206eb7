"""Stand-ins of the programs that gpu_check runs, and a place for them."""

from __future__ import annotations

import os
import sys
import tempfile
import unittest
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent.parent / "tools"
sys.dont_write_bytecode = True
sys.path.insert(0, str(TOOLS))

from gpu_check_parts.result import Context  # noqa: E402

PASSING_TESTS = """
print("[ RUN      ] Norm/0.AgreesWithDouble")
print("[       OK ] Norm/0.AgreesWithDouble (3 ms)")
"""
FIGURES = """
import json
print(json.dumps({"device": "Fake H100", "compute_capability": "9.0"}))
print(json.dumps({"figure": "memory.read", "seconds": 1e-3, "least": 1e-3, "most": 1e-3, "runs": 5,
                  "bytes": 4e9}))
"""


class Place(unittest.TestCase):
    """A temporary folder with bin/, scratch/ and what a test writes there."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.bin = self.folder / "bin"
        for name in ("bin", "lib", "scratch"):
            (self.folder / name).mkdir()

    def program(self, name: str, body: str) -> Path:
        """A program of the given Python."""
        path = self.bin / name
        path.write_text(f"#!{sys.executable}\nimport sys\n{body}\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    def context(self, goldens: Path | None = None) -> Context:
        env = dict(os.environ, PATH=f"{self.bin}:/usr/bin:/bin")
        return Context(self.bin, env, goldens, self.folder / "scratch", "cuda:0", sys.executable)
