"""Which sources programs were built from, as they say themselves: a build may be older than its tree."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from . import bounded

LOAD_S = 20.0  # LibTorch's libraries may have to come from the disk
# xcomposer::Commit(); the command line tells it only after a benchmark.
ASK = """
import ctypes, sys
commit = ctypes.CDLL(sys.argv[1])._ZN9xcomposer6CommitEv
commit.restype = ctypes.c_char_p
print(commit().decode())
"""


def of_tree(folder: Path) -> str:
    """In the form that cmake/WriteCommit.cmake gives to programs."""
    described = subprocess.run(
        ["git", "--no-optional-locks", "-C", folder, "describe", "--always", "--dirty",
         "--exclude=*", "--abbrev=12"], capture_output=True, text=True, check=False)
    return described.stdout.strip() or "unknown"


def of_library(folder: Path, env: Mapping[str, str]) -> str:
    """Of the libxcomposer.so there; empty where it cannot be loaded or does not know."""
    library = folder / "libxcomposer.so"
    if not library.is_file():
        return ""
    outcome = bounded.run([sys.executable, "-c", ASK, library], LOAD_S, env)
    return outcome.out.strip() if outcome.code == 0 else ""


def differ(one: str, other: str) -> bool:
    """Whether two descriptions are of other sources; one that is not known differs from none."""
    if not one or not other or "unknown" in (one, other):
        return False
    bare = [text.removesuffix("-dirty") for text in (one, other)]
    same = bare[0].startswith(bare[1]) or bare[1].startswith(bare[0])
    return not same or one.endswith("-dirty") != other.endswith("-dirty")
