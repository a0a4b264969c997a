"""How much longer `import ddpm_core` takes than the `import torch` inside it, each in a fresh interpreter."""

import statistics
import subprocess
import sys

REPEATS, TARGET = 7, 0.5
MEASURE = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"


def main() -> None:
    seconds("torch"), seconds("ddpm_core")  # the first ones read from the disk
    pairs = [(seconds("torch"), seconds("ddpm_core")) for _ in range(REPEATS)]
    torch_seconds, course_seconds = (statistics.median(column) for column in zip(*pairs, strict=True))
    added = statistics.median(course - torch for torch, course in pairs)
    print(f"fresh interpreters, median of {REPEATS}")
    print(f"  import torch      {torch_seconds:.2f} s")
    print(f"  import ddpm_core  {course_seconds:.2f} s")
    print(f"  ratio             {course_seconds / torch_seconds:.2f}")
    print(f"  added             {added:.2f} s    (target: below {TARGET} s)")


def seconds(module: str) -> float:
    command = [sys.executable, "-c", MEASURE.format(module)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
