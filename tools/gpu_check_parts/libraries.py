"""Where the shared libraries of CUDA and LibTorch lie on a machine."""

from __future__ import annotations

import glob
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

PLACES = ("/usr/local/cuda/lib64", "/usr/local/cuda/lib",
          "/usr/local/cuda/targets/x86_64-linux/lib")


def folders(python: str, own: Iterable[Path]) -> list[Path]:
    """`own` first, then LibTorch's and the packages beside it, then the toolkit's."""
    torch = _torch_folder(python)
    found = list(own)
    if torch is not None:
        found.append(torch / "lib")
        found += [Path(p) for p in sorted(glob.glob(str(torch.parent / "nvidia" / "*" / "lib")))]
    found += [Path(place) for place in PLACES]
    return [folder for folder in found if folder.is_dir()]


def environment(python: str, own: Iterable[Path]) -> dict[str, str]:
    """This process's own, with the library path in front of what it has."""
    env = dict(os.environ)
    path = [str(folder) for folder in folders(python, own)]
    if env.get("LD_LIBRARY_PATH"):
        path.append(env["LD_LIBRARY_PATH"])
    env["LD_LIBRARY_PATH"] = ":".join(path)
    return env


def _torch_folder(python: str) -> Path | None:
    """XCOMPOSER_TORCH_DIR, or where `python` would import torch from; it is not imported."""
    named = os.environ.get("XCOMPOSER_TORCH_DIR")
    if named:
        return Path(named)
    code = "import importlib.util as u; s = u.find_spec('torch'); print(s.origin if s else '')"
    try:
        origin = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=30,
                                check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return Path(origin).parent if origin else None
