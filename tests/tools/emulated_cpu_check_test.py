"""tools/emulated_cpu_check with an emulator that only pretends: what the guest holds, what comes back.

    python3 emulated_cpu_check_test.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "emulated_cpu_check"

# Knows its folder by the file of its machine; writes what a guest's second serial port would.
EMULATOR = """
import pathlib, time
folder = pathlib.Path(sys.argv[3]).parent
{body}
"""
# Keeps the tree that would be the disc.
DISC = """
import pathlib, shutil
words = sys.argv
shutil.copytree(words[-1], "{kept}", dirs_exist_ok=True)
pathlib.Path(words[words.index("-o") + 1]).touch()
"""


def contents(archive: bytes) -> dict[str, bytes]:
    """The files of a cpio archive of kind newc."""
    found, at = {}, 0
    while True:
        assert archive[at:at + 6] == b"070701", at
        fields = [int(archive[i:i + 8], 16) for i in range(at + 6, at + 110, 8)]
        size, name_size = fields[6], fields[11]
        name = archive[at + 110:at + 110 + name_size - 1].decode()
        begin = (at + 110 + name_size + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found[name] = archive[begin:begin + size]
        at = (begin + size + 3) // 4 * 4


class EmulatedCpuCheck(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        for name in ("bios", "vgabios", "kernel", "isolinux", "ldlinux"):
            (self.folder / name).write_text(name)
        self.program("busybox", "")
        self.program("program", "")
        self.program("xorriso", DISC.format(kept=self.folder / "disc"))

    def program(self, name: str, body: str) -> None:
        path = self.folder / name
        path.write_text(f"#!{sys.executable}\nimport sys\n{body}\n", encoding="utf-8")
        path.chmod(0o755)

    def check(self, *more: str, body: str = "") -> subprocess.CompletedProcess:
        self.program("bochs", EMULATOR.format(body=body))
        needed = [f"--{name}={self.folder / name}"
                  for name in ("bochs", "bios", "vgabios", "kernel", "isolinux", "ldlinux",
                               "busybox", "xorriso", "program")]
        return subprocess.run([sys.executable, TOOL, *needed, *more], capture_output=True,
                              text=True, timeout=60, check=False)

    def ends_with(self, text: str, *more: str) -> subprocess.CompletedProcess:
        return self.check(*more, body=f"(folder / 'output').write_bytes({text.encode()!r})")

    def test_output_and_status_are_the_programs(self):
        for status in (0, 1, 139):
            done = self.ends_with(f"one\ntwoemulated-cpu-check: ended with {status}\n")
            self.assertEqual((done.returncode, done.stdout), (status, "one\ntwo"), done.stderr)

    def test_long_output_comes_whole(self):
        text = "".join(f"line {i}\n" for i in range(5000))
        done = self.ends_with(text + "emulated-cpu-check: ended with 0\n")
        self.assertEqual((done.returncode, done.stdout), (0, text))

    def test_what_the_guest_holds(self):
        (self.folder / "data").write_bytes(b"12345")
        done = self.ends_with("emulated-cpu-check: ended with 0\n", "--env", "NAME=a b",
                              "--file", f"{self.folder / 'data'}=/tmp/x/data", "--", "--filter=*a b*")
        self.assertEqual(done.returncode, 0, done.stderr)
        guest = contents((self.folder / "disc" / "guest").read_bytes())
        self.assertEqual(guest["tmp/x/data"], b"12345")
        self.assertEqual(guest["root/program"], (self.folder / "program").read_bytes())
        self.assertEqual(guest["bin/busybox"], (self.folder / "busybox").read_bytes())
        self.assertLess(list(guest).index("tmp/x"), list(guest).index("tmp/x/data"))
        script = guest["init"].decode()
        self.assertIn("/root/program '--filter=*a b*' ", script)
        self.assertIn("export 'NAME=a b'\n", script)
        self.assertEqual((self.folder / "disc" / "kernel").read_text(), "kernel")

    def test_shared_libraries_come_along(self):
        real = Path(sys.executable).resolve()
        done = self.ends_with("emulated-cpu-check: ended with 0\n", f"--program={real}")
        self.assertEqual(done.returncode, 0, done.stderr)
        guest = contents((self.folder / "disc" / "guest").read_bytes())
        self.assertIn("libraries/libc.so.6", guest)

    def test_the_machine(self):
        done = self.check("--cpu", "tigerlake", "--memory", "512", "--timeout", "30", body="""
text = pathlib.Path(sys.argv[3]).read_text()
right = "model=tigerlake," in text and "guest=512," in text
(folder / "output").write_text(f"emulated-cpu-check: ended with {0 if right else 1}\\n")""")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_amx_is_asked_for(self):
        for more, left_out in ((), "clearcpuid=fsrm,amx_tile "), (("--amx",), "clearcpuid=fsrm "):
            done = self.ends_with("emulated-cpu-check: ended with 0\n", *more)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(left_out, (self.folder / "disc" / "isolinux.cfg").read_text())

    def test_an_emulator_that_ends_early(self):
        done = self.check(body="print('no such model')\n(folder / 'output').write_text('begun')")
        self.assertEqual((done.returncode, done.stdout), (3, "begun"))
        self.assertIn("ended before the program", done.stderr)
        self.assertIn("no such model", done.stderr)

    def test_the_time_is_up(self):
        done = self.check("--timeout", "1", body="time.sleep(50)")
        self.assertEqual(done.returncode, 124)
        self.assertIn("the time was up", done.stderr)

    def test_what_is_missing_is_named(self):
        for name in ("bochs", "bios", "vgabios", "kernel", "program", "busybox", "xorriso",
                     "isolinux", "ldlinux"):
            done = self.check(f"--{name}={self.folder / 'absent'}")
            self.assertEqual(done.returncode, 2, name)
            self.assertIn(f"--{name}: no ", done.stderr)
            self.assertIn("absent", done.stderr)

    def test_a_busybox_with_shared_libraries(self):
        done = self.check(f"--busybox={Path(sys.executable).resolve()}")
        self.assertEqual(done.returncode, 2)
        self.assertIn("statically linked", done.stderr)


if __name__ == "__main__":
    unittest.main()
