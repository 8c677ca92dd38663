"""Updates per second of every offline learner at its published sizes, one seed and eight at once.

python benchmarks/learners.py
python benchmarks/learners.py td3bc iql --seeds 8
"""

import argparse
import json

from langevin.evaluation import workloads
from langevin.evaluation.speed import machine, matmul_peak, measure
from langevin.training.algorithms.registry import LEARNERS

OBSERVATION, ACTION = 17, 6
OTHERS = "rvs", "decision_transformer", "trajectory_transformer", "mopo", "combo", "morel", "mppi"


def main() -> None:
    """Print a Markdown table and, last, everything as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", default=[*LEARNERS, *OTHERS], help="which learners (default: all)"
    )
    parser.add_argument("--seeds", type=int, default=8, help="seeds at once")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to measure each")
    parser.add_argument("--updates", type=int, default=25, help="updates in one call of the compiled program")
    options = parser.parse_args()
    peak, results = matmul_peak(2.0), {}
    print(f"| learner | one seed | share of peak | {options.seeds} seeds | share of peak | seeds' gain |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for name in options.names:
        stage, data = workloads.learner_stage(name, OBSERVATION, ACTION)
        one, many = (
            measure(
                workloads.training_program(stage, data, list(range(seeds)), options.updates), options.seconds
            )
            for seeds in (1, options.seeds)
        )
        results[name] = {"one": one.units_per_second, "many": many.units_per_second}
        print(
            f"| {name} | {one.units_per_second:,.0f} /s | {one.gflops_per_second / peak:.0%} "
            f"| {many.units_per_second:,.0f} /s | {many.gflops_per_second / peak:.0%} "
            f"| {many.units_per_second / one.units_per_second:.2f} |",
            flush=True,
        )
    print(json.dumps({"machine": machine(), "matmul_peak_gflops_per_second": peak, "updates": results}))


if __name__ == "__main__":
    main()
