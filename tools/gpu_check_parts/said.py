"""What is said on the way: it must never cost what was measured."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO


def say(text: str, end: str = "\n", file: TextIO | None = None) -> None:
    """To the standard output, or `file`. A program's words may be no Unicode; and who reads them may
    have gone, then nothing more is said."""
    stream: Any = file or sys.stdout
    try:
        encoding = stream.encoding or "utf-8"
        print(text.encode(encoding, "backslashreplace").decode(encoding), end=end, file=stream,
              flush=True)
    except (OSError, ValueError, AttributeError):
        # What is left in its buffer would be an error again at the end of the process.
        if stream is sys.stdout:
            sys.stdout = open(os.devnull, "w", encoding="utf-8")
        elif stream is sys.stderr:
            sys.stderr = open(os.devnull, "w", encoding="utf-8")
