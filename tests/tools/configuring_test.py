"""What a configuration takes: nvcc and LibTorch where they only pretend to be.

    python3 configuring_test.py
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NVCC = """#!/bin/sh
echo "nvcc: NVIDIA (R) Cuda compiler driver"
echo "Cuda compilation tools, release {release}, V{release}.89"
for header in {missing}; do
    case "$*" in *"pre-include=$header"*) echo "<command-line>: fatal error: $header: No such file or directory" >&2; exit 1 ;; esac
done
"""
FOLDER_PROJECT = """
cmake_minimum_required(VERSION 3.22)
project(folder NONE)
include({root}/cmake/TorchFolder.cmake)
"""
CONSUMER = """
cmake_minimum_required(VERSION 3.22)
project(consumer NONE)
set_property(GLOBAL PROPERTY TARGET_SUPPORTS_SHARED_LIBS TRUE)
find_package(xcomposer REQUIRED)
get_target_property(options xcomposer::xcomposer INTERFACE_LINK_OPTIONS)
list(JOIN options "> <" options)
message(STATUS "options: <${options}>")
"""


class Place(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name).resolve() / "with a space"
        self.folder.mkdir()
        self.env = {name: value for name, value in os.environ.items()
                    if not name.startswith(("CUDA", "XCOMPOSER_", "CMAKE_"))}
        self.env["PATH"] = "/usr/bin:/bin"

    def nvcc(self, name: str, release: str, missing: str = "") -> Path:
        path = self.folder / name / "bin" / "nvcc"
        path.parent.mkdir(parents=True)
        path.write_text(NVCC.format(release=release, missing=missing), encoding="utf-8")
        path.chmod(0o755)
        return path

    def torch(self, name: str = "torch", cuda: int | None = 13) -> Path:
        lib = self.folder / name / "lib"
        lib.mkdir(parents=True)
        for library in ("libtorch_cpu.so", "libc10.so"):
            (lib / library).touch()
        if cuda:
            (lib / "libtorch_cuda.so").touch()
            (lib / "libc10_cuda.so").write_bytes(
                f"\x7fELF\0cudaFree@libcudart.so.99\0libcudart.so.{cuda}\0".encode())
        return lib.parent

    def cmake(self, *arguments: str | Path, **env: str | Path) -> subprocess.CompletedProcess:
        done = subprocess.run(["cmake", *map(str, arguments)], capture_output=True, text=True, timeout=300,
                              env={**self.env, **{name: str(value) for name, value in env.items()}}, check=False)
        done.said = " ".join((done.stdout + done.stderr).split())  # messages are wrapped
        return done


class ChoiceOfNvcc(Place):
    def choice(self, torch: Path | str = "", usual: Path | str = "/there/is/none", **env: str | Path) -> str:
        done = self.cmake(f"-DTORCH_FOLDER={torch}", f"-DXCOMPOSER_USUAL_CUDA={usual}", "-P",
                          ROOT / "cmake" / "Nvcc.cmake", **env)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def test_none(self):
        self.assertIn("OFF nvcc was not found", self.choice(self.torch()))

    def test_the_usual_folder_needs_no_path(self):
        nvcc = self.nvcc("cuda", "13.0")
        self.assertEqual(self.choice(self.torch(), self.folder / "cuda"), f"ON {nvcc} of CUDA 13.0.89")

    def test_what_is_named_comes_first(self):
        torch = self.torch()
        usual, path, root, named = (self.nvcc(name, "13.0") for name in ("usual", "path", "root", "named"))
        env = {}
        for name, value, expected in (("", "", usual), ("PATH", f"{path.parent}:/usr/bin:/bin", path),
                                      ("CUDAToolkit_ROOT", root.parents[1], root), ("CUDACXX", named, named)):
            env.update({name: value} if name else {})
            self.assertIn(f"ON {expected} ", self.choice(torch, usual.parents[1], **env))

    def test_cudacxx_may_hold_arguments_and_a_name(self):
        nvcc = self.nvcc("cuda", "13.0")
        for words in ("nvcc -ccbin g++", "nvcc"):
            said = self.choice(self.torch(words), CUDACXX=words, PATH=f"{nvcc.parent}:/usr/bin:/bin")
            self.assertIn(f"ON {nvcc} ", said)

    def test_what_is_named_and_absent_is_not_replaced(self):
        usual = self.nvcc("usual", "13.0").parents[1]
        self.assertIn("OFF CUDACXX names '/no/nvcc'", self.choice(self.torch(), usual, CUDACXX="/no/nvcc"))

    def test_another_major_version_than_libtorchs(self):
        torch = self.torch()
        for release in ("11.8", "12.9", "14.0"):
            nvcc = self.nvcc(release, release)
            said = self.choice(torch, CUDACXX=nvcc)
            self.assertIn(f"OFF {nvcc} is of CUDA {release}.89", said)
            self.assertIn(f"LibTorch in {torch} is linked to CUDA 13", said)

    def test_the_usual_one_is_taken_where_that_on_the_path_does_not_fit(self):
        path, usual = self.nvcc("path", "11.8"), self.nvcc("usual", "13.0")
        said = self.choice(self.torch(), usual.parents[1], PATH=f"{path.parent}:/usr/bin:/bin")
        self.assertIn(f"ON {usual} ", said)

    def test_too_old_for_the_kernels(self):
        nvcc = self.nvcc("old", "11.8")
        self.assertIn("expected CUDA 12 or later", self.choice(self.torch(cuda=11), CUDACXX=nvcc))
        self.assertIn("expected CUDA 12 or later", self.choice(CUDACXX=nvcc))

    def test_a_libtorch_for_cpus(self):
        self.assertIn("has no CUDA part", self.choice(self.torch(cuda=None), CUDACXX=self.nvcc("n", "13.0")))

    def test_a_toolkit_without_the_headers_of_its_libraries(self):
        bare, whole, no_solver = (self.nvcc(name, "13.0", missing) for name, missing in (
            ("bare", "cublasLt.h"), ("whole", ""), ("no_solver", "cusolverDn.h")))
        torch = self.torch()
        self.assertIn(f"OFF {bare} of CUDA 13.0.89 finds no cublasLt.h", self.choice(torch, CUDACXX=bare))
        self.assertIn("finds no cublasLt.h", self.choice(CUDACXX=bare))
        self.assertIn("finds no cusolverDn.h", self.choice(torch, CUDACXX=no_solver))
        self.assertIn(f"ON {no_solver} ", self.choice(CUDACXX=no_solver), "only LibTorch's headers read it")
        self.assertIn(f"ON {whole} ", self.choice(torch, whole.parents[1], PATH=f"{bare.parent}:/usr/bin:/bin"))

    def test_a_program_that_is_no_nvcc(self):
        self.assertIn("does not name a release of CUDA", self.choice(self.torch(), CUDACXX="/bin/true"))


class Configuration(Place):
    def configure(self, *more: str, **env: str | Path) -> subprocess.CompletedProcess:
        return self.cmake("-G", "Unix Makefiles", "-S", ROOT, "-B", self.folder / "build", "-DXCOMPOSER_BUILD_TESTS=OFF",
                          "-DXCOMPOSER_BUILD_EXAMPLES=OFF", "-DXCOMPOSER_WITH_OPENCV=OFF",
                          "-DXCOMPOSER_WITH_SENTENCEPIECE=OFF", "-DXCOMPOSER_WITH_FREETYPE=OFF",
                          "-DXCOMPOSER_WITH_ZEROMQ=OFF", *more, **env)

    def test_a_toolkit_that_does_not_fit(self):
        nvcc, torch = self.nvcc("old", "11.8"), self.torch()
        done = self.configure(f"-DXCOMPOSER_TORCH_DIR={torch}", CUDACXX=nvcc)
        self.assertEqual(done.returncode, 0, done.stderr)
        reason = f"{nvcc} is of CUDA 11.8.89, and LibTorch in {torch} is linked to CUDA 13"
        self.assertIn(f"xcomposer: CUDA OFF: {reason}", done.said)
        cache = (self.folder / "build" / "CMakeCache.txt").read_text(encoding="utf-8")
        self.assertIn(f"XCOMPOSER_CUDA_STATE:INTERNAL=OFF, {reason}", cache)

        done = self.configure("-DXCOMPOSER_WITH_CUDA=ON", CUDACXX=nvcc)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(f"XCOMPOSER_WITH_CUDA=ON, but {reason}", done.said)

    def test_packages_keep_spaces(self):
        torch = self.torch(cuda=None)
        done = self.configure(f"-DXCOMPOSER_TORCH_DIR={torch}", "-DXCOMPOSER_WITH_CUDA=OFF")
        self.assertEqual(done.returncode, 0, done.stderr)
        package = self.folder / "build" / "package"
        (package / "xcomposerTargets.cmake").write_text("add_library(xcomposer::xcomposer SHARED IMPORTED)\n",
                                                        encoding="utf-8")
        (package / "CMakeLists.txt").write_text(CONSUMER, encoding="utf-8")
        done = self.cmake("-S", package, "-B", package / "build", f"-Dxcomposer_DIR={package}")
        self.assertIn(f"options: <-Wl,-rpath-link,{torch}/lib>", done.said)

        if not shutil.which("pkg-config"):
            self.skipTest("pkg-config was not found")
        done = subprocess.run(["pkg-config", "--libs", "xcomposer"], capture_output=True, text=True, check=True,
                              env={**self.env, "PKG_CONFIG_PATH": str(package)})
        words = shlex.split(done.stdout)
        self.assertIn(f"--for-linker=-rpath-link={torch}/lib", words)
        self.assertTrue([word for word in words if word.startswith(f"--for-linker=-rpath={package}/")], words)

    @unittest.skipUnless(shutil.which("nvcc") or Path("/usr/local/cuda/bin/nvcc").exists(), "nvcc was not found")
    def test_nvcc_that_comes_later(self):
        """And NCCL of LibTorch's package, and the architectures that are asked for."""
        real = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
        release = subprocess.run([real, "--version"], capture_output=True, text=True, check=True).stdout
        cuda = int(release.split("release ")[1].split(".")[0])
        packages = self.folder / "packages"
        torch = self.torch("packages/torch", cuda)
        nccl = packages / "nvidia" / "nccl"
        for name in ("include/nccl.h", "lib/libnccl.so.2"):
            (nccl / name).parent.mkdir(parents=True)
            (nccl / name).touch()
        done = self.configure(f"-DXCOMPOSER_TORCH_DIR={torch}", "-DCMAKE_CUDA_COMPILER=CMAKE_CUDA_COMPILER-NOTFOUND",
                              "-DXCOMPOSER_USUAL_CUDA=/there/is/none")
        self.assertIn("xcomposer: CUDA OFF: nvcc was not found", done.said)

        wrapper = self.folder / "cuda" / "bin" / "nvcc"
        wrapper.parent.mkdir(parents=True)
        wrapper.write_text(f'#!/bin/sh\nexec {real} "$@"\n', encoding="utf-8")
        wrapper.chmod(0o755)
        done = self.configure(f"-DXCOMPOSER_USUAL_CUDA={wrapper.parents[1]}",
                              "-DCMAKE_CUDA_ARCHITECTURES=90a-real")
        self.assertEqual(done.returncode, 0, done.said)
        self.assertIn("xcomposer: CUDA ON", done.said)
        self.assertIn(f"xcomposer: NCCL {nccl}/lib/libnccl.so.2", done.said)
        commands = (self.folder / "build" / "compile_commands.json").read_text(encoding="utf-8")
        self.assertIn("code=[sm_90a]", commands)
        self.assertNotIn("sm_80", commands)
        self.assertNotIn("Werror", commands)


class FolderOfTorch(Place):
    def setUp(self) -> None:
        super().setUp()
        (self.folder / "CMakeLists.txt").write_text(FOLDER_PROJECT.format(root=ROOT), encoding="utf-8")

    def python(self, version: str) -> Path:
        return self.torch(f".deps/venv/lib/python{version}/site-packages/torch")

    def found(self, *arguments: str, **env: str | Path) -> str:
        done = self.cmake("-S", self.folder, "-B", self.folder / "build", *arguments, **env)
        for word in done.stdout.splitlines():
            if "LibTorch in " in word:
                return word.split("LibTorch in ")[1]
        return done.said

    def test_an_environment_that_was_made_again(self):
        first = self.python("3.11")
        self.assertEqual(self.found(), str(first))
        shutil.rmtree(self.folder / ".deps")
        self.assertIn("Run scripts/setup.sh", self.found())
        second = self.python("3.13")
        self.assertEqual(self.found(), str(second))

    def test_what_earlier_versions_kept_is_looked_for_again(self):
        lost = self.folder / ".deps/venv/lib/python3.11/site-packages/torch"
        second = self.python("3.13")
        self.assertEqual(self.found(f"-DXCOMPOSER_TORCH_DIR={lost}"), str(second))

    def test_the_environment_is_kept_and_can_change(self):
        searched, one, two = self.python("3.11"), self.torch("one"), self.torch("two")
        self.assertEqual(self.found(XCOMPOSER_TORCH_DIR=one), str(one))
        self.assertEqual(self.found(), str(one))
        self.assertEqual(self.found(XCOMPOSER_TORCH_DIR=two), str(two))
        shutil.rmtree(two)
        self.assertEqual(self.found(), str(searched))
        self.assertIn("there is no lib/libtorch_cpu.so in it", self.found(XCOMPOSER_TORCH_DIR=two))

    def test_the_command_line_comes_first(self):
        self.python("3.11")
        one, two = self.torch("one"), self.torch("two")
        self.assertEqual(self.found(f"-DXCOMPOSER_TORCH_DIR={one}", XCOMPOSER_TORCH_DIR=two), str(one))
        self.assertEqual(self.found(XCOMPOSER_TORCH_DIR=two), str(one))
        self.assertEqual(self.found("-DXCOMPOSER_TORCH_DIR=", XCOMPOSER_TORCH_DIR=two), str(two))
        self.assertIn("there is no lib/libtorch_cpu.so in it",
                      self.found(f"-DXCOMPOSER_TORCH_DIR={self.folder / 'three'}"))


if __name__ == "__main__":
    unittest.main()
