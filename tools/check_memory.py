#!/usr/bin/env python3
"""Compares the memory that `xcomposer plan` predicts for one request with what the process takes.

    tools/check_memory.py --program build/release/bin/xcomposer --model DIR [--image FILE --image-size WxH] [--tokens 16]

The plan is asked for exactly this request on one CPU; then the request is run, and the highest resident
set of the process (mapped weights included) is compared with the plan's total. What is left when
weights, keys and values, activations, vision and workspace are taken away is the runtime's share, which
should be within 20 % of the plan's. Exits with 1 where it is not, or where the process took more than
planned.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile


def peak_of(command):
    """Runs the command; gives its output and its highest resident set in bytes."""
    with tempfile.TemporaryFile(mode="w+", encoding="utf-8") as out:
        process = subprocess.Popen(command, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            sys.exit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
        out.seek(0)
        return out.read(), usage.ru_maxrss * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--image")
    parser.add_argument("--image-size", help="its size, WxH; needed for the kinds with tiles")
    parser.add_argument("--prompt", default="Describe what you see.")
    parser.add_argument("--tokens", type=int, default=16)
    args = parser.parse_args()

    generate = [args.program, "generate", "--model", args.model, "--prompt", args.prompt, "--greedy", "--quiet",
                "--max-new-tokens", str(args.tokens), "--devices", "cpu", "--json"]
    if args.image:
        generate += ["--image", args.image]
    out, peak = peak_of(generate)
    answer = json.loads(out)
    context = answer["prompt_tokens"] + args.tokens

    plan = [args.program, "plan", "--model", args.model, "--devices", "cpu", "--context", str(context),
            "--images", "1" if args.image else "0", "--json"]
    if args.image_size:
        plan += ["--image-size", args.image_size]
    planned = json.loads(subprocess.run(plan, capture_output=True, text=True, check=True).stdout)
    device = planned["devices"][0]
    total = device["bytes"]["total"]
    runtime = device["overhead_of"]["runtime"]
    taken = peak - (total - runtime)
    print(f"rows {context}, planned {total / 1e6:.0f} MB, resident at most {peak / 1e6:.0f} MB")
    print(f"runtime: planned {runtime / 1e6:.0f} MB, taken {taken / 1e6:.0f} MB ({100 * taken / runtime:.0f} %)")
    return 0 if peak <= total and taken >= 0.8 * runtime else 1


if __name__ == "__main__":
    sys.exit(main())
