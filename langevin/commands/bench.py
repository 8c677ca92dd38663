"""`langevin bench`: how fast this machine trains and imagines."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from langevin.errors import UsageError, nearest
from langevin.evaluation.speed import machine, matmul_peak, measure
from langevin.evaluation.workloads import WORKLOADS
from langevin.progress import AbstractProgress, BarProgress


@dataclass(frozen=True)
class Bench:
    """Measure updates and rollouts per second on this machine, and the share of its matmul peak they reach.

    Examples:
    langevin bench
    langevin bench --only td3bc unet --seconds 10

    The first time, compiling takes longer than measuring; compiled programs are kept. Neither compiling nor warming
    up is part of the speed. Let nothing else run meanwhile.
    """

    only: tuple[str, ...] = ()
    """What to measure: td3bc, td3bc-seeds, unet, ensemble, refinement (default: all)."""
    seconds: float = 5.0
    """How long to measure each, once it is warm."""
    seeds: int = 3
    """Seeds of td3bc-seeds, trained at once."""
    json: bool = False
    """Print the result as one JSON object."""

    def run(self) -> dict[str, Any]:
        """Measure the peak, then one workload after another; print a table."""
        names = self._checked_names()
        result = _measured(names, self.seconds, self.seeds, BarProgress())
        if self.json:
            print(json.dumps(result))
        else:
            _print(result, Console())
        return result

    def _checked_names(self) -> tuple[str, ...]:
        for name in self.only:
            if name not in WORKLOADS:
                raise UsageError(f"--only {name} is nothing that can be measured; {nearest(name, WORKLOADS)}")
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise UsageError(f"--seconds must be a positive number, got {self.seconds}")
        if self.seeds < 1:
            raise UsageError(f"--seeds must be at least 1, got {self.seeds}")
        return tuple(dict.fromkeys(self.only)) or tuple(WORKLOADS)


def _measured(
    names: tuple[str, ...], seconds: float, seeds: int, progress: AbstractProgress
) -> dict[str, Any]:
    """The machine, its peak and a measurement for each name, ready for JSON."""
    with progress.track(1 + len(names), "bench") as advance:
        advance(0, "matmul peak")
        peak = matmul_peak(seconds)
        advance(1)
        measurements = {}
        for name in names:
            workload = WORKLOADS[name]
            advance(0, workload.label)
            measured = measure(workload.build(seeds), seconds)
            measurements[name] = {
                "label": workload.label,
                "unit": workload.unit,
                **asdict(measured),
                "share_of_peak": measured.gflops_per_second / peak,
            }
            advance(1)
    return {
        "machine": machine(),
        "matmul_peak_gflops_per_second": peak,
        "seeds": seeds,
        "measurements": measurements,
    }


def _print(result: dict[str, Any], console: Console) -> None:
    table = Table("", "per second", "GFLOP/s", "of peak", "compiling", "warm-up")
    for measured in result["measurements"].values():
        table.add_row(
            measured["label"],
            f"{measured['units_per_second']:,.1f} {measured['unit']}",
            f"{measured['gflops_per_second']:.0f}",
            f"{measured['share_of_peak']:.0%}",
            f"{measured['compile_seconds']:.1f} s",
            f"{measured['warm_up_seconds']:.2f} s",
        )
    console.print(table)
    cores = result["machine"]["cores"]
    console.print(
        f"Peak: {result['matmul_peak_gflops_per_second']:.0f} GFLOP/s, a large float32 matrix product "
        f"({result['machine']['backend']}, {cores} {'core' if cores == 1 else 'cores'}). "
        "GFLOP/s count matrix products as executed.",
        highlight=False,
    )
