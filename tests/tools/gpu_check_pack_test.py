"""Packing and unpacking: the same bytes, or a refusal that says what is wrong."""

from __future__ import annotations

import array
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

from fakes import TOOLS, Place
from gpu_check_parts import golden_requests, main, pack, tensors


def write_goldens(folder: Path) -> Path:
    """One kind with a case of a picture and one of text, in the form of the recorded ones."""
    kind = folder / "goldens" / "2-vl-7b"
    (kind / "model").mkdir(parents=True)
    (kind / "taps").mkdir()
    (kind / "model" / "config.json").write_text("{}", encoding="utf-8")
    (kind / "model" / "weights.bin").write_bytes(bytes(range(251)) * 41)
    pixels = bytes(range(36)) * 2  # 4 x 6 x 3
    digest = golden_requests.hashlib.sha256(pixels).hexdigest()
    logits = array.array("f", [1, 5, 3, 0, -1, -8, -2, -3]).tobytes()
    for name, more in (("picture", {"image0.rgb": ("U8", [4, 6, 3], pixels)}), ("text", {})):
        tensors.write(kind / "taps" / f"{name}.safetensors",
                      {"logits": ("F32", [2, 4], logits), **more})
    generate = {"max_new_tokens": 2, "num_beams": 1, "do_sample": False, "repetition_penalty": 2.0,
                "eos_token_id": [2]}
    base = {"output_ids": [2, 0], "history": [], "call": "chat"}
    cases = [
        {**base, "name": "picture", "images": ["a.webp"], "input_ids": [1, -1, -1, -1, 7],
         "image0.rgb_sha256": digest, "taps": "taps/picture.safetensors",
         "generate": {**generate, "use_cache": True}},
        {**base, "name": "beams", "images": [], "input_ids": [1], "taps": "taps/text.safetensors",
         "generate": {**generate, "num_beams": 3, "use_cache": False}},
        {**base, "name": "unknown picture", "images": ["b.webp"], "input_ids": [1, -1],
         "image0.rgb_sha256": "0", "taps": "taps/text.safetensors",
         "generate": {**generate, "use_cache": True}},
        {**base, "name": "text", "images": [], "input_ids": [1, 3], "taps": "taps/text.safetensors",
         "generate": {**generate, "use_cache": False}}]
    (kind / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    return folder / "goldens"


class Requests(Place):
    def test_cases_become_ids_and_pixels(self):
        out = self.folder / "out"
        out.mkdir()
        made = golden_requests.write(write_goldens(self.folder), out)
        [kind] = made["kinds"]
        self.assertEqual([case["name"] for case in kind["cases"]], ["picture", "text"])
        picture, text = [json.loads((out / case["request"]).read_text(encoding="utf-8"))
                         for case in kind["cases"]]
        self.assertEqual(picture["token_ids"], [1, -1, 7])
        [image] = picture["images"]
        self.assertEqual((image["width"], image["height"]), (6, 4))
        self.assertEqual((out / "2-vl-7b" / image["rgb"]).read_bytes(), bytes(range(36)) * 2)
        self.assertEqual((text["token_ids"], text["images"]), ([1, 3], None))
        self.assertEqual(text["generate"]["eos_token_id"], [2])
        self.assertTrue((out / kind["model"] / "weights.bin").is_file())
        with tensors.Tensors(out / kind["cases"][0]["taps"]) as taps:
            self.assertEqual(taps.names(), ["logits"])

    def test_pictures_that_were_not_recorded_are_decoded(self):
        goldens = write_goldens(self.folder)
        file = goldens / "2-vl-7b" / "cases.json"
        cases = json.loads(file.read_text(encoding="utf-8"))
        pixels = bytes(range(12))
        traced = self.folder / "pixels.safetensors"
        tensors.write(traced, {"image0.rgb": ("U8", [2, 2, 3], pixels)})
        decoder = self.program("decoder", f"""
import shutil
shutil.copy({str(traced)!r}, sys.argv[sys.argv.index("--out") + 1])""")
        for digest, names in ((golden_requests.hashlib.sha256(pixels).hexdigest(),
                               ["picture", "unknown picture", "text"]),
                              ("0" * 64, ["picture", "text"])):
            cases[2]["image0.rgb_sha256"] = digest
            file.write_text(json.dumps(cases), encoding="utf-8")
            out = self.folder / digest
            out.mkdir()
            made = golden_requests.write(goldens, out, decoder=decoder)
            self.assertEqual([case["name"] for case in made["kinds"][0]["cases"]], names)

    def test_margins_are_taken_after_the_penalty(self):
        out = self.folder / "out"
        out.mkdir()
        made = golden_requests.write(write_goldens(self.folder), out)
        picture, text = made["kinds"][0]["cases"]
        # Penalised are 1 (the dummy BOS, or in the prompt), in the text 3 too, then the answer's 2.
        self.assertEqual(picture["margins"], [3 - 2.5, 3 - 1])
        self.assertEqual(text["margins"], [3 - 2.5, 4 - 1])

    def test_pictures_that_touch_are_told_apart(self):
        record = {"images": ["a", "b"], "image0.rows": 2, "image1.rows": 1,
                  "input_ids": [1, -1, -1, -1, 5]}
        self.assertEqual(golden_requests._collapsed(record), [1, -1, -1, 5])


class Packs(Place):
    def setUp(self) -> None:
        super().setUp()
        if shutil.which("strip") is None:
            self.skipTest("strip is not installed")
        for name in [*pack.PROGRAMS, *pack.OPTIONAL]:
            shutil.copy(os.path.realpath("/bin/true"), self.bin / name)
        shutil.copy(os.path.realpath("/bin/true"), self.folder / "lib" / "libxcomposer.so.1")
        (self.folder / "lib" / "libxcomposer.so").symlink_to("libxcomposer.so.1")
        self.pack = self.folder / "pack"

    def write(self) -> dict:
        goldens = self.folder / "goldens"
        if not goldens.exists():
            write_goldens(self.folder)
        return pack.write(self.pack, self.folder, goldens, TOOLS, "v1")

    def refusal(self, run) -> str:
        with self.assertRaises(SystemExit) as raised:
            run()
        return str(raised.exception)

    def test_what_was_packed_is_unpacked(self):
        manifest = self.write()
        self.assertTrue(manifest["goldens"])
        out = self.folder / "unpacked"
        pack.unpack(self.pack, out)
        self.assertEqual((out / "goldens/2-vl-7b/model/weights.bin").read_bytes(),
                         bytes(range(251)) * 41)
        self.assertEqual(subprocess.run([out / "bin" / "xcomposer"], check=False).returncode, 0)
        self.assertTrue((out / "lib" / "libxcomposer.so").is_symlink())
        for name in pack.TOOLS:
            self.assertTrue((self.pack / name).exists(), name)
        self.assertEqual(list(self.pack.rglob("__pycache__")), [])

    def test_weights_are_stored_smaller(self):
        self.write()
        entry = next(f for f in pack.read_manifest(self.pack)["files"]
                     if f["path"].endswith("weights.bin"))
        self.assertEqual(len(entry["planes"]), 2)
        self.assertLess(entry["stored_bytes"], entry["bytes"])

    def test_a_pack_runs_by_itself(self):
        self.write()
        elsewhere = self.folder / "elsewhere"
        elsewhere.mkdir()
        done = subprocess.run([sys.executable, self.pack / "gpu_check", "--only", "kernels"],
                              capture_output=True, text=True, cwd=elsewhere, check=False)
        report = json.loads((elsewhere / "gpu_check" / "report.json").read_text(encoding="utf-8"))
        self.assertEqual(done.returncode, 1)
        self.assertEqual(report["parts"][0]["reason"], "the program ran no test")
        self.assertEqual(report["version"], "v1")

    def test_damage_is_refused(self):
        def other_sum(entry, stored):
            entry["sha256"] = "0" * 64
        def cut(entry, stored):
            stored.write_bytes(stored.read_bytes()[:-9])
        def gone(entry, stored):
            stored.unlink()
        for form in ("planes", "together"):
            for damage in (other_sum, cut, gone):
                manifest = self.write()
                entry = next(f for f in manifest["files"] if f.get("form") == form)
                damage(entry, self.pack / "data" / entry["stored"])
                (self.pack / "pack.json").write_text(json.dumps(manifest), encoding="utf-8")
                refusal = self.refusal(lambda: pack.unpack(self.pack, self.folder / "u"))
                self.assertIn("is damaged", refusal)
                shutil.rmtree(self.folder / "u")

    def test_paths_that_lead_outside_are_refused(self):
        manifest = self.write()
        manifest["files"][0]["path"] = "../outside"
        (self.pack / "pack.json").write_text(json.dumps(manifest), encoding="utf-8")
        self.assertIn("outside", self.refusal(lambda: pack.unpack(self.pack, self.folder / "u")))
        self.assertFalse((self.folder / "outside").exists())

    def test_a_missing_program_is_named_with_its_target(self):
        self.write()
        (self.bin / "xcomposer").unlink()
        self.assertIn("xcomposer_cli", self.refusal(self.write))
        self.assertTrue((self.pack / "pack.json").is_file(), "the older pack is lost")

    def test_a_build_without_nccl_and_zeromq_is_packed_without_their_test(self):
        self.assertEqual(self.write()["left_out"], [])
        (self.bin / "test_transport_torch").unlink()
        self.assertEqual(self.write()["left_out"], ["test_transport_torch"])
        pack.unpack(self.pack, self.folder / "u")
        self.assertTrue((self.folder / "u" / "bin" / "xcomposer").is_file())
        self.assertFalse((self.folder / "u" / "bin" / "test_transport_torch").exists())

    def test_targets_are_those_that_the_build_offers(self):
        ninja = "edit_cache: phony\ntest_ops_cuda: phony\ntest_transport_torch: phony\n"
        make = "The following are some of the valid targets:\n... all\n... test_transport_torch\n"
        for offered in (ninja, make):
            self.assertIn("test_transport_torch", main._targets(offered))
        self.assertEqual(main._targets("test_transport_torch_other: phony"), list(main.TARGETS))

    def test_a_pack_of_another_format_is_refused(self):
        manifest = self.write()
        for said, shown in (({**manifest, "format": 2}, "format 2"), ({}, "format None"),
                            ([], "format None")):
            (self.pack / "pack.json").write_text(json.dumps(said), encoding="utf-8")
            self.assertIn(shown, self.refusal(lambda: pack.unpack(self.pack, self.folder / "u")))

    def test_a_pack_of_other_sources_says_so(self):
        write_goldens(self.folder)
        pack.write(self.pack, self.folder, self.folder / "goldens", TOOLS, "0123456",
                   commit="0123457aaaaa")
        out = self.folder / "out"
        done = subprocess.run([sys.executable, self.pack / "gpu_check", "--only", "kernels", "--out",
                               out], capture_output=True, text=True, check=False)
        self.assertIn("built from 0123457aaaaa, the tools are of 0123456", done.stderr)
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
        self.assertEqual((report["version"], report["commit"]), ("0123456", "0123457aaaaa"))
        self.assertIn("built from 0123457aaaaa: **other sources than 0123456**",
                      (out / "report.md").read_text(encoding="utf-8"))

    def test_a_folder_with_other_things_is_left_alone(self):
        self.pack.mkdir()
        (self.pack / "thesis.tex").write_text("years of work", encoding="utf-8")
        self.assertIn("left alone", self.refusal(self.write))
        self.assertTrue((self.pack / "thesis.tex").is_file())
        (self.pack / "thesis.tex").unlink()
        self.write()
        self.write()  # an older pack is replaced

    def test_what_is_too_large_is_said(self):
        write_goldens(self.folder / "data")
        said = io.StringIO()
        most, pack.MOST_BYTES = pack.MOST_BYTES, 1000
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                code = main.main(["--pack", str(self.pack), "--build", str(self.folder), "--shared",
                                  str(self.folder), "--no-budgets"])
        finally:
            pack.MOST_BYTES = most
        self.assertEqual(code, 1)
        self.assertIn("bin/xcomposer", said.getvalue())

    def test_budgets_are_what_python_works_out(self):
        goldens = write_goldens(self.folder)
        works = self.program("works", """
import json, pathlib
file = pathlib.Path(sys.argv[sys.argv.index("--goldens") + 1]) / "goldens.json"
content = json.loads(file.read_text())
content["kinds"][0]["cases"][0]["budgets"] = {"logits": 0.5}
file.write_text(json.dumps(content))""")
        manifest = pack.write(self.pack, self.folder, goldens, TOOLS, "v1", str(works))
        self.assertTrue(manifest["budgets"])
        pack.unpack(self.pack, self.folder / "u")
        listed = json.loads((self.folder / "u/goldens/goldens.json").read_text(encoding="utf-8"))
        self.assertEqual(listed["kinds"][0]["cases"][0]["budgets"], {"logits": 0.5})
        fails = self.program("fails", "sys.exit(1)")
        with contextlib.redirect_stderr(io.StringIO()) as said:
            manifest = pack.write(self.pack, self.folder, goldens, TOOLS, "v1", str(fails))
        self.assertFalse(manifest["budgets"])
        self.assertIn("no budgets", said.getvalue())

    def test_no_pack(self):
        self.assertIn("is no pack", self.refusal(lambda: pack.unpack(self.folder, self.folder)))


if __name__ == "__main__":
    unittest.main()
