"""scripts/ over stand-ins of apt, sudo, Python, CMake and CTest: what they do and what they say.

    python3 scripts_test.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Python with venv and pip: `pip install` unpacks what the wheels would leave.
PYTHON = r"""
echo "python $*" >> "$LOG"
case "$1 $2" in
  "-m venv")
    mkdir -p "$3/bin" "$3/lib/python3.11/site-packages"
    cp "$0" "$3/bin/python"
    printf '#!/moved/away/python\n' > "$3/bin/pip"
    chmod +x "$3/bin/pip" ;;
  "-m pip")
    [ ! -e "$(dirname "$0")/broken" ] || exit 1
    packages=$(dirname "$0")/../lib/python3.11/site-packages
    for word in "$@"; do
      case $word in *==*)
        name=${word%%==*}
        mkdir -p "$packages/${name//-/_}-${word##*==}.dist-info" ;;
      esac
      case $word in torch==*)
        mkdir -p "$packages/torch/lib"
        touch "$packages/torch/lib/"{libtorch_cpu,libtorch_cuda}.so
        echo libcudart.so.13 > "$packages/torch/lib/libc10_cuda.so"
        touch "$packages/${word/==/-}.dist-info/METADATA" ;;
      esac
    done ;;
esac
"""
# Configures into build/PRESET; STATE is what it says of CUDA.
CMAKE = r"""
echo "cmake $*" >> "$LOG"
case "$*" in
  "--preset "*)
    mkdir -p "build/$2"
    echo "XCOMPOSER_CUDA_STATE:INTERNAL=$STATE" > "build/$2/CMakeCache.txt"
    case "$*" in *WERROR=OFF*) echo "XCOMPOSER_WERROR:BOOL=OFF" >> "build/$2/CMakeCache.txt" ;; esac ;;
  "--build "*)
    if [ -e warning ] && ! grep -q "WERROR.*OFF" build/release/CMakeCache.txt; then
      cat warning
      exit 1
    fi ;;
esac
"""
CTEST = r"""
case "$*" in
  *--print-labels*) printf '  %s\n' engine transport workers input_text input_pictures api cli cli_parts ;;
  *) while [ "$1" != --output-junit ]; do shift; done
     printf '<testcase name="one" status="run">\n' > "$2" ;;
esac
"""
NVCC = 'echo "Cuda compilation tools, release {release}, V{release}.89"'


class Place(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name).resolve() / "a clone"
        self.bin = Path(folder.name).resolve() / "bin"
        self.bin.mkdir()
        shutil.copytree(ROOT / "scripts", self.folder / "scripts")
        shutil.copytree(ROOT / "cmake", self.folder / "cmake")
        self.log = self.bin.parent / "log"
        self.env = {"PATH": f"{self.bin}:/usr/bin:/bin", "LOG": str(self.log), "HOME": str(self.bin.parent)}
        self.program("dpkg-query", 'printf "installed"')
        self.program("ldd", "")

    def program(self, name: str, body: str) -> Path:
        path = self.bin / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    def script(self, name: str, **env: str) -> subprocess.CompletedProcess:
        done = subprocess.run([self.folder / "scripts" / name], capture_output=True, text=True, timeout=60,
                              env={**self.env, **env}, check=False)
        done.log = self.log.read_text(encoding="utf-8") if self.log.exists() else ""
        self.log.unlink(missing_ok=True)
        return done


class Setup(Place):
    def setUp(self) -> None:
        super().setUp()
        self.program("python3", PYTHON)
        # No nvcc of this machine, unless a test names one.
        self.env["CUDACXX"] = "/there/is/none"

    def test_who_may_not_install_is_told_the_command(self):
        self.program("id", "echo 1000")
        self.program("sudo", "echo 'sudo: a password is required' >&2; exit 1")
        self.program("dpkg-query", 'case "$*" in *libtiff-dev|*cppzmq-dev) exit 1 ;; *) printf installed ;; esac')
        done = self.script("setup.sh")
        self.assertEqual(done.returncode, 1)
        self.assertIn("sudo apt-get update && sudo apt-get install -y --no-install-recommends libtiff-dev cppzmq-dev",
                      done.stderr)
        self.assertEqual(done.log, "")

    def test_a_second_run_does_nothing(self):
        done = self.script("setup.sh")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("torch==", done.log)
        self.assertEqual(self.script("setup.sh").log, "")

    def test_a_clone_that_was_moved(self):
        self.assertEqual(self.script("setup.sh").returncode, 0)
        moved = self.folder.with_name("moved")
        self.folder.rename(moved)
        self.folder = moved
        for wheel in moved.glob(".deps/venv/lib/*/*/nvidia_cuda_cupti-*"):
            wheel.rmdir()
        done = self.script("setup.sh")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("cupti", done.log)
        self.assertNotIn("-m venv", done.log)

    def test_an_environment_without_its_python_is_made_anew(self):
        self.assertEqual(self.script("setup.sh").returncode, 0)
        (self.folder / ".deps/venv/bin/broken").touch()
        self.assertEqual(self.script("setup.sh").log, "")  # what is needed is there all the same
        for wheel in self.folder.glob(".deps/venv/lib/*/*/nvidia_cuda_cupti-*"):
            wheel.rmdir()
        done = self.script("setup.sh")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("making it anew", done.stdout)
        self.assertIn("-m venv", done.log)
        self.assertIn("torch==", done.log)

    def test_wheels_for_cuda_come_where_a_build_would_take_it(self):
        nvcc = self.program("cuda/nvcc", NVCC.format(release="13.0"))
        self.assertIn("cusparselt", self.script("setup.sh", CUDACXX=str(nvcc)).log)

    def test_wheels_for_cuda_stay_away_where_nvcc_does_not_fit(self):
        nvcc = self.program("cuda/nvcc", NVCC.format(release="11.8"))
        done = self.script("setup.sh", CUDACXX=str(nvcc))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("cusparselt", done.log)
        self.assertIn(f"builds are for CPUs only: {nvcc} is of CUDA 11.8.89", done.stdout)


class Tests(Place):
    def said(self, state: str) -> str:
        self.program("cmake", CMAKE)
        self.program("ctest", CTEST)
        self.program("nvcc", NVCC.format(release="13.0"))
        self.program("nvidia-smi", "exit 1")
        self.program("shellcheck", "")
        for name in ("scripts/setup.sh", "tests/consumer/run.sh"):
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("#!/bin/sh\n", encoding="utf-8")
            path.chmod(0o755)
        return self.script("test.sh", STATE=state).stdout

    def test_what_was_built_is_told_not_what_is_there(self):
        said = self.said("OFF, that nvcc is too old")
        self.assertIn("the CUDA build (that nvcc is too old)", said)
        self.assertNotIn("was linked", said)

    def test_a_build_with_cuda(self):
        self.assertIn("the CUDA build was linked, with nvcc 13.0.88", self.said("ON, nvcc 13.0.88"))


class Quickstart(Place):
    def setUp(self) -> None:
        super().setUp()
        self.program("cmake", CMAKE)
        (self.folder / "scripts/setup.sh").write_text("#!/bin/sh\n", encoding="utf-8")
        for name in ("xcomposer", "xcomposer_contact_sheet"):
            program = self.folder / "build/release/bin" / name
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_text("#!/bin/sh\n", encoding="utf-8")
            program.chmod(0o755)

    def test_a_new_warning_of_the_compiler_is_no_end(self):
        (self.folder / "warning").write_text("a.cpp:1: error: unused [-Werror=unused]\n", encoding="utf-8")
        done = self.script("quickstart.sh", STATE="")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.log.count("--build"), 2)
        done = self.script("quickstart.sh", STATE="")  # and the next run begins so
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.log.count("--build"), 1)

    def test_another_failure_is_told(self):
        (self.folder / "warning").write_text("c++ -Werror a.cpp\na.cpp:1: error: no such file\n", encoding="utf-8")
        done = self.script("quickstart.sh", STATE="")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no such file", done.stderr)
        self.assertEqual(done.log.count("--build"), 1)


if __name__ == "__main__":
    unittest.main()
