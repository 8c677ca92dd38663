"""Two programs against each other: repeats taken in turn, medians, and the share of the matmul peak."""

import argparse
import json
import os
from collections.abc import Callable
from statistics import median

import jax
import torch

from langevin.evaluation.speed import machine, matmul_peak, timed


def options_of(description: str, names: list[str] | None = None) -> argparse.Namespace:
    """The options every comparison has, and which of `names` to run; gives PyTorch the cores this process may use."""
    parser = argparse.ArgumentParser(description=description)
    if names:
        parser.add_argument("names", nargs="*", default=names, help="which (default: all)")
    parser.add_argument("--repeats", type=int, default=15, help="repeats of each side, taken in turn")
    parser.add_argument("--updates", type=int, default=50, help="updates a repeat")
    options = parser.parse_args()
    if options.repeats < 1 or options.updates < 1:
        parser.error("--repeats and --updates must be at least 1")
    if names and (unknown := set(options.names) - set(names)):
        parser.error(f"{', '.join(unknown)} is none of {', '.join(names)}")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return options


def compare(
    sides: dict[str, Callable[[], object]], updates: int, repeats: int, flops: float
) -> dict[str, object]:
    """Print and return updates per second of every side, langevin's first, and langevin's ratio to each other one.

    sides: each runs `updates` updates and waits for their end. flops: of one update's matrix products, written the
    direct way, the same for all sides.
    """
    peak = matmul_peak(2.0)
    for run in sides.values():
        run()  # compile, warm up
        run()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            times[name].append(timed(run))
    peak = max(peak, matmul_peak(2.0))
    speeds = {name: updates / median(values) for name, values in times.items()}
    first, *others = speeds
    result = {
        "machine": machine() | {"torch_threads": torch.get_num_threads()},
        "versions": {"jax": jax.__version__, "torch": torch.__version__},
        "matmul_peak_gflops_per_second": peak,
        "torch_matmul_peak_gflops_per_second": torch_matmul_peak(2.0),
        "gflops_per_update": flops / 1e9,
        "updates_per_second": speeds,
        "share_of_matmul_peak": {name: speed * flops / 1e9 / peak for name, speed in speeds.items()},
        "ratio": {other: speeds[first] / speeds[other] for other in others},
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
