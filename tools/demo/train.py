"""Trains the demo checkpoint on Fashion-MNIST and drawn pictures, within a given time.

The learning rate follows the share of the time that is used up, so that training always ends
where it should, on any machine. Stop it at will: it goes on from its last snapshot.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402

from demo import pictures  # noqa: E402
from demo.batches import Batches  # noqa: E402
from demo.muon import Muon  # noqa: E402
from demo.student import Student, look_at  # noqa: E402
from reference.prompt import META  # noqa: E402
from reference.tokenizer import Tokenizer  # noqa: E402

PEAK = {"muon": 4e-3, "adam": 3e-3}
HELPER_WEIGHT = 1.0
MEMORY = 0.998  # of the moving average of the weights


def split_parameters(student: Student) -> tuple[list, list]:
    """Matrices inside layers and projector for Muon, everything else for Adam."""
    matrices, others = [], []
    for name, parameter in student.named_parameters():
        inside = ".layers." in name or "vision_proj" in name
        (matrices if inside and parameter.ndim == 2 else others).append(parameter)
    return matrices, others


def compile_layers(student: Student) -> None:
    """Fuses the element-wise work of both towers; needs a C++ compiler, saves a third."""
    vision = student.net.vit.vision_tower.vision_model
    for layer in [*vision.encoder.layers, *student.net.model.layers]:
        layer.forward = torch.compile(layer.forward, dynamic=False)


def rate(progress: float) -> float:
    """Short warm-up, then half a cosine down to 1 % of the peak."""
    warm = min(1.0, (progress + 0.002) / 0.02)
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


class Trainer:
    def __init__(self, arguments: argparse.Namespace):
        self._path = arguments.work / "snapshot.pt"
        self._seconds = arguments.minutes * 60
        self._student = Student(arguments.seed)
        matrices, others = split_parameters(self._student)
        self._muon = Muon(matrices, weight_decay=0.05)
        self._adam = torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
        dataset = pictures.fashion("train", arguments.dataset)
        look_at(self._student.net, self._student.pixels(torch.tensor(dataset[0][:1000])))
        self._average = copy.deepcopy(self._student.net)
        self.used, self.step = 0.0, 0
        if self._path.exists():
            self._load()
        if arguments.compile:
            compile_layers(self._student)
        tokenizer = Tokenizer(arguments.tokenizer)
        self._batches = Batches(tokenizer, [META, ""], (arguments.fashion, arguments.drawn),
                                arguments.seed + self.step, dataset)

    def _load(self) -> None:
        state = torch.load(self._path, weights_only=True)
        self._student.load_state_dict(state["student"])
        self._average.load_state_dict(state["average"])
        self._muon.load_state_dict(state["muon"])
        self._adam.load_state_dict(state["adam"])
        self.used, self.step = state["used"], state["step"]

    def save(self) -> None:
        """Everything needed to go on; "average" is what evaluate and export read."""
        part = self._path.with_suffix(".part")
        torch.save({"student": self._student.state_dict(), "average": self._average.state_dict(),
                    "muon": self._muon.state_dict(), "adam": self._adam.state_dict(),
                    "used": self.used, "step": self.step}, part)
        part.rename(self._path)

    def _one_step(self) -> tuple[float, float]:
        factor = rate(self.used / self._seconds)
        for optimizer, name in ((self._muon, "muon"), (self._adam, "adam")):
            for group in optimizer.param_groups:
                group["lr"] = PEAK[name] * factor
        batch = self._batches.next()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            answers, helper = self._student(batch)
        (answers + HELPER_WEIGHT * helper).backward()
        torch.nn.utils.clip_grad_norm_(self._student.parameters(), 1.0)
        for optimizer in (self._muon, self._adam):
            optimizer.step()
            optimizer.zero_grad()
        memory = min(MEMORY, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for kept, now in zip(self._average.parameters(), self._student.net.parameters()):
                kept.lerp_(now, 1 - memory)
        return answers.item(), helper.item()

    def run(self, report_every: int, save_every: float) -> None:
        last_save = time.monotonic()
        total, summed = [0.0, 0.0], 0
        while self.used < self._seconds:
            began = time.monotonic()
            losses = self._one_step()
            self.step += 1
            self.used += time.monotonic() - began
            total = [t + l for t, l in zip(total, losses)]
            summed += 1
            if self.step % report_every == 0:
                mean = [t / summed for t in total]
                print(f"step {self.step}  {self.used:.0f} of {self._seconds:.0f} s  "
                      f"answers {mean[0]:.4f}  helper {mean[1]:.4f}", flush=True)
                total, summed = [0.0, 0.0], 0
            if time.monotonic() - last_save > save_every:
                self.save()
                last_save = time.monotonic()
        self.save()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of the snapshot")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, default=pictures.DATASET)
    parser.add_argument("--minutes", type=float, default=90, help="training time over all runs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fashion", type=int, default=108, help="dataset pictures per batch")
    parser.add_argument("--drawn", type=int, default=20, help="drawn pictures per batch")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    arguments.work.mkdir(parents=True, exist_ok=True)
    Trainer(arguments).run(report_every=25, save_every=60)


if __name__ == "__main__":
    main()
