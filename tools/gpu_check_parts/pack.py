"""What travels to a machine that has nothing: a folder, compressed, checked when unpacked."""

from __future__ import annotations

import hashlib
import json
import lzma
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

from . import golden_requests

FORMAT = 1

MOST_BYTES = 40 << 20
PROGRAMS = ("test_kernels_cuda", "test_ops_cuda", "bench_gpu_limits", "bench_gpu_model", "xcomposer")
OPTIONAL = ("test_transport_torch",)  # a build with neither NCCL nor ZeroMQ has none
LIBRARIES = ("libxcomposer.so*",)
# Shared libraries that such a machine may lack; those of CUDA and LibTorch are its own.
FROM_THE_SYSTEM = ("libspdlog", "libfmt", "libfreetype", "libpng16", "libbrotli", "libzmq",
                   "libsodium", "libbsd", "libmd", "libpgm", "libnorm", "libz.")
TOOLS = ("gpu_check", "gpu_check_parts", "make_random_checkpoint.py", "checkpoint_layout.py")


def write(out: Path, build: Path, goldens: Path, tools: Path, version: str,
          python: str | None = None, decoder: Path | None = None,
          commit: str = "") -> dict[str, Any]:
    """Writes the pack and returns its manifest. `goldens` may be missing: then it has none.

    `python` has torch, for the budgets of the goldens; without it, or where that fails, there are
    none. `decoder` is an xcomposer that decodes pictures, for those that were not recorded.
    `version` is of the tools, `commit` what the programs say that they were built from.
    """
    _require_programs(build)
    if out.exists():
        if any(out.iterdir()) and not (out / "pack.json").is_file():
            raise SystemExit(f"{out} is not empty and holds no pack: it is left alone")
        shutil.rmtree(out)
    (out / "data").mkdir(parents=True)
    staging = out / "staging"
    _stage_programs(build, staging)
    budgets = False
    if any(goldens.glob("*/cases.json")):
        golden_requests.write(goldens, staging / "goldens", decoder=decoder)
        budgets = python is not None and _write_budgets(goldens, staging / "goldens", tools, python)
    all_files = sorted(file for file in staging.rglob("*") if file.is_file())
    programs = [file for file in all_files if file.relative_to(staging).parts[0] in ("bin", "lib")]
    files = _store_together(staging, programs, out / "data")
    files += [_store(staging, file, out / "data") for file in all_files if file not in programs]
    shutil.rmtree(staging)
    for tool in TOOLS:
        _copy(tools / tool, out / tool)
    manifest = {"format": FORMAT, "version": version, "commit": commit, "files": files,
                "left_out": [name for name in OPTIONAL if not (build / "bin" / name).is_file()],
                "goldens": any(f["path"].startswith("goldens/") for f in files),
                "budgets": budgets}
    (out / "pack.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return manifest


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def largest(manifest: dict[str, Any], count: int = 12) -> list[str]:
    files = sorted(manifest["files"], key=lambda f: -f["stored_bytes"])[:count]
    return [f"{f['stored_bytes'] / 2**20:6.1f} MiB  {f['path']} ({f['bytes'] / 2**20:.1f} MiB)"
            for f in files]


def read_manifest(pack: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((pack / "pack.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"{pack} is no pack: {error}") from None
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise SystemExit(f"{pack} is a pack of format {found}; this gpu_check reads {FORMAT}")
    return manifest


def unpack(pack: Path, to: Path) -> dict[str, Any]:
    """Every file must have the bytes that were packed. Returns the manifest."""
    whole: dict[str, bytes] = {}  # what several files lie in, by its name
    manifest = read_manifest(pack)
    for entry in manifest["files"]:
        target = to / entry["path"]
        if not target.resolve().is_relative_to(to.resolve()):
            raise SystemExit(f"{pack}: {entry['path']} would be written outside")
        target.parent.mkdir(parents=True, exist_ok=True)
        if "link" in entry:
            target.symlink_to(entry["link"])
            continue
        try:
            if entry["form"] == "together":
                if entry["stored"] not in whole:
                    whole[entry["stored"]] = lzma.decompress(
                        (pack / "data" / entry["stored"]).read_bytes())
                data = whole[entry["stored"]][entry["offset"]:][:entry["bytes"]]
            else:
                data = _expand((pack / "data" / entry["stored"]).read_bytes(), entry)
        except (OSError, ValueError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise SystemExit(f"{pack}: {entry['path']} is damaged: {error}") from None
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise SystemExit(f"{pack}: {entry['path']} is damaged")
        target.write_bytes(data)
        target.chmod(entry["mode"])
    return manifest


def _write_budgets(goldens: Path, staged: Path, tools: Path, python: str) -> bool:
    """Takes minutes: the reference model runs every case that is packed."""
    command = [python, tools / "gpu_check_parts" / "half_error.py", "--shared",
               goldens.parent.parent, "--goldens", staged]
    try:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no budgets for the goldens: {error}", file=sys.stderr)
        return False
    return True


def _require_programs(build: Path) -> None:
    missing = [name for name in PROGRAMS if not (build / "bin" / name).is_file()]
    if missing:
        raise SystemExit(f"{build}/bin lacks {', '.join(missing)}; build them first: cmake --build "
                         f"{build} --target {' '.join(_targets(missing))}")


def _stage_programs(build: Path, staging: Path) -> None:
    (staging / "bin").mkdir(parents=True)
    (staging / "lib").mkdir()
    for name in [*PROGRAMS, *(n for n in OPTIONAL if (build / "bin" / n).is_file())]:
        shutil.copy(build / "bin" / name, staging / "bin" / name)
    for pattern in LIBRARIES:
        for file in sorted((build / "lib").glob(pattern)):
            shutil.copy(file, staging / "lib" / file.name, follow_symlinks=False)
    for name, path in sorted(_system_libraries(staging, build).items()):
        shutil.copy(path, staging / "lib" / name)
    for file in [*(staging / "bin").iterdir(), *(staging / "lib").iterdir()]:
        if not file.is_symlink():
            subprocess.run(["strip", "--strip-unneeded", file], check=True)


def _targets(programs: list[str]) -> list[str]:
    return ["xcomposer_cli" if name == "xcomposer" else name for name in programs]


def _system_libraries(staging: Path, build: Path) -> dict[str, Path]:
    found = {}
    for program in sorted((staging / "bin").iterdir()):
        text = subprocess.run(["ldd", build / "bin" / program.name], capture_output=True, text=True,
                              check=False).stdout
        for line in text.splitlines():
            name, _, rest = line.strip().partition(" => ")
            if rest and name.startswith(FROM_THE_SYSTEM) and rest.startswith("/"):
                found[name] = Path(rest.split(" (")[0])
    return found


def _describe(staging: Path, file: Path, content: bytes) -> dict[str, Any]:
    return {"path": file.relative_to(staging).as_posix(), "bytes": len(content),
            "mode": file.stat().st_mode & 0o777, "sha256": hashlib.sha256(content).hexdigest()}


def _link(staging: Path, file: Path) -> dict[str, Any]:
    return {"path": file.relative_to(staging).as_posix(), "link": str(file.readlink()), "bytes": 0,
            "stored_bytes": 0}


def _store_together(staging: Path, programs: list[Path], data: Path) -> list[dict[str, Any]]:
    """Programs hold the same kernels: compressed as one they take a third."""
    files = [_link(staging, file) for file in programs if file.is_symlink()]
    content = b""
    kept = []
    for file in programs:
        if file.is_symlink():
            continue
        own = file.read_bytes()
        kept.append({**_describe(staging, file, own), "form": "together", "offset": len(content)})
        content += own
    reach = {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 26}
    stored = lzma.compress(content, filters=[reach])
    name = hashlib.sha256(content).hexdigest()[:24]
    (data / name).write_bytes(stored)
    for entry in kept:
        share = entry["bytes"] / max(1, len(content))
        entry.update(stored=name, stored_bytes=round(share * len(stored)))
    return files + kept


def _store(staging: Path, file: Path, data: Path) -> dict[str, Any]:
    path = file.relative_to(staging).as_posix()
    if file.is_symlink():
        return _link(staging, file)
    content = file.read_bytes()
    entry = _describe(staging, file, content)
    stored = _shrink(content, path, entry)
    entry["stored"] = f"{entry['sha256'][:24]}"
    (data / entry["stored"]).write_bytes(stored)
    entry["stored_bytes"] = len(stored)
    return entry


def _shrink(content: bytes, path: str, entry: dict[str, Any]) -> bytes:
    """Weights and tensors have their bytes sorted by place: the upper ones say little."""
    width = 4 if "/taps/" in path else 2 if "/model/" in path and not path.endswith(".json") else 1
    entry["form"] = "planes"
    planes = [_deflated(content[place::width]) for place in range(width)]
    entry["planes"] = [len(plane) for plane in planes]
    return b"".join(planes)


def _deflated(plane: bytes) -> bytes:
    """Random numbers repeat nothing: then letters of unequal length alone do better."""
    alone = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY)
    return min(zlib.compress(plane, 9), alone.compress(plane) + alone.flush(), key=len)


def _expand(stored: bytes, entry: dict[str, Any]) -> bytes:
    content = bytearray(entry["bytes"])
    width = len(entry["planes"])
    at = 0
    for place, size in enumerate(entry["planes"]):
        content[place::width] = zlib.decompress(stored[at:at + size])
        at += size
    return bytes(content)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)
