"""Which GPU programs take, and which sources they say that they are of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unittest

from fakes import FIGURES, TOOLS, Place
from gpu_check_parts import devices, result, sources

CARDS = [{"name": f"card {i}", "index": str(i), "uuid": f"GPU-{i}{i}{i}"} for i in range(3)]


class First(unittest.TestCase):
    def first(self, device: str, cards: list[dict], **env: str) -> tuple[str | None, str]:
        found, card = devices.first(device, env, cards)
        return found.get("CUDA_VISIBLE_DEVICES"), card.get("name", "")

    def test_the_chosen_one_comes_first_and_the_others_stay(self):
        self.assertEqual(self.first("cuda:0", CARDS), (None, "card 0"))
        self.assertEqual(self.first("cuda:1", CARDS), ("1,0,2", "card 1"))
        self.assertEqual(devices.first("cuda:1", {}, CARDS)[0]["CUDA_DEVICE_ORDER"], "PCI_BUS_ID")

    def test_numbers_are_those_of_what_is_visible(self):
        self.assertEqual(self.first("cuda:0", CARDS, CUDA_VISIBLE_DEVICES="2,1"), ("2,1", "card 2"))
        self.assertEqual(self.first("cuda:1", CARDS, CUDA_VISIBLE_DEVICES="2,1"), ("1,2", "card 1"))
        self.assertEqual(self.first("cuda:1", CARDS, CUDA_VISIBLE_DEVICES="GPU-00,GPU-22"),
                         ("GPU-22,GPU-00", "card 2"))
        self.assertEqual(self.first("cuda:0", CARDS, CUDA_VISIBLE_DEVICES="-1"), ("-1", ""))

    def test_without_nvidia_smi(self):
        self.assertEqual(self.first("cuda:0", []), (None, ""))
        self.assertEqual(self.first("cuda:1", []), ("1", ""))
        self.assertEqual(self.first("cuda:0", [{"name": "strange words"}]), (None, ""))

    def test_cpu(self):
        self.assertEqual(devices.first("cpu", {}, CARDS), ({}, {}))

    def test_one_that_is_not_there(self):
        with self.assertRaises(SystemExit) as raised:
            self.first("cuda:3", CARDS)
        self.assertIn("there is no cuda:3", str(raised.exception))


class Runs(Place):
    def check(self, *arguments: str) -> tuple[dict, str, str]:
        out = self.folder / "out"
        env = dict(os.environ, PATH=f"{self.bin}:/usr/bin:/bin")
        env.pop("CUDA_VISIBLE_DEVICES", None)
        done = subprocess.run(
            [sys.executable, TOOLS / "gpu_check", "--build", self.folder, "--out", out, "--shared",
             self.folder / "nowhere", *arguments], capture_output=True, text=True, env=env,
            check=False)
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
        return report, (out / "report.md").read_text(encoding="utf-8"), done.stderr

    def test_every_program_is_given_the_same_device(self):
        self.program("nvidia-smi", """
fields = next(a for a in sys.argv if a.startswith("--query-gpu=")).split("=")[1].split(",")
for i in range(2):
    print(", ".join({"name": f"Card {i}", "index": str(i), "uuid": f"GPU-{i}"}.get(f, "1") for f in fields))
""")
        show = "import os; visible = os.environ.get('CUDA_VISIBLE_DEVICES')\n"
        self.program("bench_gpu_limits", show + "if visible != '1,0': sys.exit(9)\n" + FIGURES)
        self.program("xcomposer", show + """
if visible != '1,0': sys.exit(9)
if "devices" in sys.argv: print('{"nodes": [{"devices": [{"name": "cuda:0"}]}]}'); sys.exit()
print("devices", sys.argv[sys.argv.index("--devices") + 1], file=sys.stderr); sys.exit(1)""")
        report, text, _ = self.check("--device", "cuda:1", "--only", "limits")
        self.assertEqual(report["parts"][0]["state"], result.PASSED, report)
        self.assertEqual((report["device"], report["card"]["name"]), ("cuda:1", "Card 1"))
        self.assertIn("* card: Card 1, 1, 1, 1 (cuda:1, nvidia-smi's 1 of 2)", text)

    def test_the_sources_of_the_programs_are_asked_of_them(self):
        source = self.folder / "commit.cpp"
        source.write_text('namespace xcomposer { const char* Commit() { return "0123456789ab"; } }\n',
                          encoding="utf-8")
        try:
            subprocess.run(["c++", "-shared", "-fPIC", "-o", self.folder / "lib" / "libxcomposer.so",
                            source], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            self.skipTest(f"no library could be built: {error}")
        self.program("bench_gpu_limits", FIGURES)
        report, text, said = self.check("--only", "limits")
        self.assertEqual(report["commit"], "0123456789ab")
        if report["version"] != "unknown":
            self.assertIn("warning: the programs were built from 0123456789ab", said)
            self.assertIn("built from 0123456789ab: **other sources than", text)


class Sources(Place):
    def test_what_differs(self):
        same = [("0123456", "0123456789ab"), ("0123456789ab", "0123456"), ("", "a"), ("a", ""),
                ("unknown", "a"), ("a-dirty", "a-dirty")]
        other = [("0123456", "0123457"), ("a-dirty", "a"), ("a", "a-dirty")]
        for pair in same + other:
            self.assertEqual(sources.differ(*pair), pair in other, pair)

    def test_a_library_that_cannot_be_asked_says_nothing(self):
        self.assertEqual(sources.of_library(self.folder / "lib", dict(os.environ)), "")
        (self.folder / "lib" / "libxcomposer.so").write_bytes(b"no library")
        self.assertEqual(sources.of_library(self.folder / "lib", dict(os.environ)), "")


if __name__ == "__main__":
    unittest.main()
