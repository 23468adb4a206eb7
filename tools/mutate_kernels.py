#!/usr/bin/env python3
"""Plants random faults in the CUDA kernels and asks the emulator's tests to find them.

    tools/mutate_kernels.py --build build/release [--count 40] [--seed 1] [--file norm.cuh] [--ordering]

Each fault is one change of one line - a barrier or wait that is gone, another comparison, index or
constant, a mask that always holds - in a copy of kernels/cuda; the kernels that include the file are
compiled again and linked with the objects of an existing build of test_kernels_emulated. First the
kernels as they are: where they fail nothing is planted. Prints what survived; the exit status is 1 if
more than a tenth did, or if no fault could be tried.
"""

import argparse
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
KERNELS = ROOT / "kernels" / "cuda"

# Which tests know a kernel; what is shared by all is left to all of them. tests/tools holds this
# against the kernels and the tests that there are.
SUITES = {
    "attention_decode": "*Decode*Attention*:DecodeSplits*",
    "attention_prefill": "*Prefill*",
    "attention_warpgroup": "*Prefill*:WarpgroupAttention.*",
    "decode_linear": "DecodeLinear/*",
    "elementwise": "Elementwise/*",
    "linear_few_rows": "LinearFewRows*",
    "low_rank": "LinearOf*:RowSpans.*",
    "norm": "Norm/*",
    "place_weights": "PlaceWeights*",
    "rope_kv": "Rope*",
    "sampling": "Sampling.*",
    "vision": "Vision*",
}

MOST_S = 240  # of the tests of a fault

ORDERING = re.compile(
    r"^\s*(SyncThreads|SyncWarp|SyncGroup|ThreadFence|GridDependencyWait|CommitCopies|WaitCopies<\d>|"
    r"ProductFence|WarpgroupFence|CommitProducts|WaitProducts<\d>|Barrier\w+|GiveBack|AwaitTurn|PassTurn)"
    r"\([^;]*\);")

SWAPS = [
    (r" < (?!=)", " <= "), (r" <= ", " < "), (r" >= ", " > "), (r" > (?![>:])", " >= "),
    (r" == ", " != "), (r" && ", " || "), (r" \+ (?!=)", " - "), (r" - (?!=)", " + "),
    (r" \+= ", " = "), (r" / ", " * "), (r" % ", " / "), (r" \* ", " + "),
    (r"\bMin\(", "Max("), (r"\bMax\(", "Min("),
    (r"\blow\b(?=[,;\)])", "high"),
    (r"(?<=if \()[^;{]*(?=\) (?:return|continue|Store|\w+\[))", "true"),
    (r"(?<=if \()[^;{]*(?=\) (?:return|continue|Store|\w+\[))", "false"),
    (r"(?<=[\[ (])0(?=[\],;) ])", "1"), (r"\b1(?=[\],;) ])", "2"), (r"\b2 \*", "1 *"),
    (r"\b4(?=[\],;) ])", "5"), (r"\b8(?=[\],;) ])", "7"), (r"\b16(?=[\],;) ])", "15"),
    (r"\b32(?=[\],;) ])", "31"),
]


def is_code(line):
    text = line.strip()
    return bool(text) and not text.startswith(("//", "#", "template", "static constexpr", "namespace",
                                               "using", "struct", "}", "constexpr int k"))


def mutants(path):
    lines = path.read_text().splitlines(keepends=True)
    found = []
    for number, line in enumerate(lines):
        if not is_code(line):
            continue
        if ORDERING.match(line):
            found.append((number, ORDERING.sub("", line)))
        code = line.split("//")[0]
        for pattern, replacement in SWAPS:
            for match in re.finditer(pattern, code):
                changed = code[:match.start()] + replacement + code[match.end():].rstrip("\n") + "\n"
                if changed.strip() != code.strip():
                    found.append((number, changed))
    return lines, found


def users_of(name, folder):
    """The .cu files that include `name`, by way of others too."""
    wanted = {name}
    grew = True
    while grew:
        grew = False
        for path in folder.iterdir():
            text = path.read_text() if path.is_file() else ""
            if path.name not in wanted and any(f'"kernels/cuda/{w}"' in text for w in wanted):
                wanted.add(path.name)
                grew = True
    return sorted(w for w in wanted if w.endswith(".cu") and w.removesuffix(".cu") in SUITES)


def objects_of(build):
    commands = subprocess.run(["ninja", "-C", build, "-t", "commands", "test_kernels_emulated"],
                              capture_output=True, text=True, check=True).stdout.splitlines()
    link = next(c for c in reversed(commands) if " -o bin/test_kernels_emulated" in c)
    return [w for w in link.split() if w.endswith((".o", ".a")) or ".so" in w or w.startswith("-l")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", required=True)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--file", action="append", help="only these files of kernels/cuda")
    parser.add_argument("--ordering", action="store_true",
                        help="only barriers, fences and waits that are gone")
    options = parser.parse_args()
    build = pathlib.Path(options.build).resolve()
    objects = objects_of(build)
    names = options.file or sorted(p.name for p in KERNELS.glob("*.cuh")
                                   if not p.name.endswith("_gpu.cuh")) + sorted(
                                       f"{s}.cu" for s in SUITES)
    # Read once: the kernels may be edited while this runs.
    originals = {name: mutants(KERNELS / name) for name in names}
    everything = [(name, number, text) for name in names for number, text in originals[name][1]]
    if options.ordering:
        everything = [(name, number, text) for name, number, text in everything if not text.strip()
                      or text.strip().startswith("//")]
    random.Random(options.seed).shuffle(everything)

    caught, survived, invalid = 0, [], 0
    with tempfile.TemporaryDirectory() as scratch:
        copy = pathlib.Path(scratch) / "kernels" / "cuda"
        shutil.copytree(KERNELS, copy)
        if not unchanged_passes(names, copy, objects, build, scratch):
            return 1
        for name, number, text in everything:
            if caught + len(survived) >= options.count:
                break
            lines = list(originals[name][0])
            before = lines[number]
            lines[number] = text
            (copy / name).write_text("".join(lines))
            label = f"{name}:{number + 1}: {before.strip()}  ->  {text.strip() or '(nothing)'}"
            outcome = run(users_of(name, copy), objects, build, scratch)
            (copy / name).write_text("".join(originals[name][0]))
            if outcome == "invalid":
                invalid += 1
                continue
            if outcome == "survived":
                survived.append(label)
            else:
                caught += 1
            print(f"{outcome:8}  {label}", flush=True)
    return judge(caught, len(survived), invalid)


def unchanged_passes(names, copy, objects, build, scratch):
    """Whether the tests pass as the kernels are: else they would catch every fault, and prove nothing."""
    sources = sorted({source for name in names for source in users_of(name, copy)})
    if not sources:
        return True  # then nothing is planted, which is said at the end
    try:
        outcome = run(sources, objects, build, scratch)
    except subprocess.CalledProcessError:
        outcome = "unlinked"
    if outcome == "survived":
        return True
    what = {"invalid": "do not compile", "unlinked": "do not link with that build's objects",
            "caught": "fail their tests", "hung": f"do not end their tests in {MOST_S} s"}[outcome]
    print(f"the kernels {what} without any fault planted (is {build} as old as they are?)",
          file=sys.stderr)
    return False


def judge(caught, survived, invalid):
    total = caught + survived
    print(f"{caught} of {total} faults found; {invalid} did not compile")
    if total == 0:
        print("no fault could be tried: that proves nothing", file=sys.stderr)
    return 1 if total == 0 or survived * 10 > total else 0


def run(sources, objects, build, scratch):
    if not sources:
        return "invalid"  # nothing that the tests run includes it
    replaced = {}
    for source in sources:
        target = os.path.join(scratch, source + ".o")
        command = ["g++", "-std=c++20", "-O1", "-w", "-ffp-contract=off", "-xc++",
                   "-DXCOMPOSER_EMULATED_CUDA", f"-I{scratch}", f"-I{ROOT / 'tests'}", f"-I{ROOT}",
                   "-c", os.path.join(scratch, "kernels", "cuda", source), "-o", target]
        if subprocess.run(command, capture_output=True).returncode != 0:
            return "invalid"
        replaced[source] = target
    linked = [replaced.get(pathlib.Path(o).name.removesuffix(".o"), o) for o in objects]
    program = os.path.join(scratch, "test")
    subprocess.run(["g++", "-o", program, *linked, "-lpthread"], cwd=build, check=True)
    suites = ":".join(SUITES[s.removesuffix(".cu")] for s in sources)
    try:
        code = subprocess.run([program, f"--gtest_filter={suites}", "--gtest_fail_fast",
                               "--gtest_brief=1"], capture_output=True, timeout=MOST_S).returncode
    except subprocess.TimeoutExpired:
        return "hung"  # a found fault too, for they ended without it
    return "survived" if code == 0 else "caught"


if __name__ == "__main__":
    sys.exit(main())
