"""Two programs against each other: repeats taken in turn, medians, and the share of the matmul peak."""

import argparse
import json
import os
from collections.abc import Callable
from statistics import median

import jax
import torch

from langevin.evaluation.speed import machine, matmul_peak, timed

Run = Callable[[], object]


def options_of(
    description: str, names: list[str] | None = None, *, seeds: bool = False
) -> argparse.Namespace:
    """The options every comparison has, and which of `names` to run; gives PyTorch the cores this process may use."""
    parser = argparse.ArgumentParser(description=description)
    if names:
        parser.add_argument("names", nargs="*", default=names, help="which (default: all)")
    parser.add_argument("--repeats", type=int, default=15, help="repeats of each side, taken in turn")
    parser.add_argument("--updates", type=int, default=50, help="updates a repeat")
    if seeds:
        parser.add_argument(
            "--seeds", type=int, nargs="+", default=[1], help="seeds that Langevin trains at once"
        )
    options = parser.parse_args()
    if seeds and min(options.seeds) < 1:
        parser.error("--seeds must be at least 1")
    if options.repeats < 1 or options.updates < 1:
        parser.error("--repeats and --updates must be at least 1")
    if names and (unknown := set(options.names) - set(names)):
        parser.error(f"{', '.join(unknown)} is none of {', '.join(names)}")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return options


def compare(
    ours: dict[str, tuple[Run, int]], theirs: dict[str, tuple[Run, int]], repeats: int, flops: float
) -> dict[str, object]:
    """Print and return updates per second of every side, and the ratio of each of ours to each of theirs.

    ours, theirs: programs that wait for their end, and the updates that each makes. flops: of one update's matrix
    products, written the direct way, the same for all sides.
    """
    sides = {name: run for name, (run, _) in (ours | theirs).items()}
    updates = {name: count for name, (_, count) in (ours | theirs).items()}
    peak = matmul_peak(2.0)
    for run in sides.values():
        run()  # compile, warm up
        run()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            times[name].append(timed(run))
    peak = max(peak, matmul_peak(2.0))
    speeds = {name: updates[name] / median(values) for name, values in times.items()}
    result = {
        "machine": machine() | {"torch_threads": torch.get_num_threads()},
        "versions": {"jax": jax.__version__, "torch": torch.__version__},
        "matmul_peak_gflops_per_second": peak,
        "torch_matmul_peak_gflops_per_second": torch_matmul_peak(2.0),
        "gflops_per_update": flops / 1e9,
        "updates_per_second": speeds,
        "share_of_matmul_peak": {name: speed * flops / 1e9 / peak for name, speed in speeds.items()},
        "ratio": {our: {other: speeds[our] / speeds[other] for other in theirs} for our in ours},
    }
    print(json.dumps(result, indent=2))
    return result


def torch_matmul_peak(seconds: float, size: int = 2048) -> float:
    """GFLOP/s of PyTorch's fastest float32 product of two square matrices."""
    left, right = torch.randn(2, size, size)
    times = [timed(lambda: left @ right) for _ in range(3)]
    while sum(times) < seconds:
        times.append(timed(lambda: left @ right))
    return 2 * size**3 / min(times) / 1e9
