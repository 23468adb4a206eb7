"""What tools/reference/check_goldens.py calls a difference."""

from __future__ import annotations

import math
import sys
import unittest
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent.parent / "tools"
sys.dont_write_bytecode = True
sys.path.insert(0, str(TOOLS))

try:
    import torch
    from reference.check_goldens import Result, compare
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)


def faults(values: list[float]) -> list[str]:
    recorded = {"tap": torch.tensor([[1.0, -2.0, 4.0]])}
    return compare({}, Result(taps={"tap": torch.tensor([values])}), recorded)


class Compare(unittest.TestCase):
    def test_a_number_that_is_far_off_is_told(self):
        self.assertEqual(faults([1.0, -2.0, 4.0]), [])
        self.assertIn("off by", faults([1.0, -2.0, 4.5])[0])

    def test_a_recorded_tap_that_was_not_computed_is_told(self):
        recorded = {name: torch.ones(1) for name in (
            "layer0.out", "layer_rows", "prefill_rows", "logits_cols", "image0.embeds_rows",
            "image0.vit_crops", "image0.vit_tokens", "image0.pixels_stats", "beam.next_scores")}
        self.assertEqual(compare({}, Result(taps={}), recorded),
                         ["layer0.out: recorded, and not computed"])

    def test_what_is_no_number_is_told(self):
        for place in range(3):
            values = [1.0, -2.0, 4.0]
            values[place] = math.nan
            self.assertEqual(len(faults(values)), 1, place)


if __name__ == "__main__":
    unittest.main()
