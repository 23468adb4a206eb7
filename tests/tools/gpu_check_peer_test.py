"""torch_peer.py with a torch that only pretends: what fails costs its own case only."""

from __future__ import annotations

import contextlib
import io
import json
import unittest
from unittest import mock

import fakes
from gpu_check_parts import torch_peer


class Cases(unittest.TestCase):
    def setUp(self) -> None:
        self.torch = mock.MagicMock()
        self.torch.cuda.Event.return_value.elapsed_time.return_value = 1.0
        self.functional = self.torch.nn.functional

    def lines(self, run) -> tuple[list[str], dict[str, str]]:
        """The names of the figures, and what failed with its reason."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            run(torch_peer.Bench(self.torch, "cuda"))
        lines = [json.loads(line) for line in said.getvalue().splitlines()]
        return ([line["figure"] for line in lines if "figure" in line],
                {line["failed"]: line["reason"] for line in lines if "failed" in line})

    def attention(self, bench: torch_peer.Bench) -> None:
        torch_peer.attention(bench, 4, 2, 16, (33,), ((2, 40),), ((2, 17, ""),))

    def products(self, bench: torch_peer.Bench) -> None:
        torch_peer.products(bench, 64, 96, 128, 2)

    def test_all_is_well(self):
        figures, failed = self.lines(self.attention)
        self.assertEqual(figures, ["peer.torch.sdpa.prompt_33", "peer.torch.sdpa.step_2x40",
                                   "peer.torch.sdpa.views_2x17"])
        figures, more = self.lines(self.products)
        self.assertEqual((len(figures), failed, more), (16, {}, {}))

    def test_an_argument_that_this_torch_has_not(self):
        def sdpa(*_tensors, **named):
            if "enable_gqa" in named:
                raise TypeError("unexpected keyword argument 'enable_gqa'")
        self.functional.scaled_dot_product_attention.side_effect = sdpa
        figures, failed = self.lines(self.attention)
        self.assertEqual(figures, ["peer.torch.sdpa.views_2x17"])
        self.assertEqual(set(failed), {"peer.torch.sdpa.prompt_33", "peer.torch.sdpa.step_2x40"})
        self.assertIn("enable_gqa", failed["peer.torch.sdpa.step_2x40"])

    def test_a_capture_that_fails(self):
        self.torch.cuda.graph.side_effect = RuntimeError("capture")
        figures, failed = self.lines(self.products)
        self.assertEqual(len(figures), 4)  # prompts, which are not captured
        self.assertEqual(len(failed), 12)

    def test_tensors_for_which_there_is_no_memory(self):
        def randn(shape, **_):
            if shape == (192, 64):
                raise MemoryError("w1 and w3")
            return mock.MagicMock()
        self.torch.randn.side_effect = randn
        figures, failed = self.lines(self.products)
        self.assertEqual(list(failed), ["peer.torch.w1_w3"])
        self.assertEqual(len(figures), 12)


if __name__ == "__main__":
    assert fakes
    unittest.main()
