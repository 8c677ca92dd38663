"""Seconds an epoch of ADEPT and DyDiff by part, and transitions imagined a second; one seed, data made of noise.

python benchmarks/imagination.py
python benchmarks/imagination.py adept --base sac --preset paper --seconds 60
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from langevin.envs.tasks import get_task
from langevin.evaluation.speed import Program, machine, matmul_flops, matmul_peak, measure
from langevin.evaluation.workloads import DATASET, TASK, noise
from langevin.training.algorithms.adept import adept_of
from langevin.training.algorithms.registry import ALGORITHMS, label_of, load_settings
from langevin.training.algorithms.system import System

CHUNK = 50
KEY = jax.random.key(0)


def parts(name: str, base: str | None, preset: str) -> tuple[dict[str, tuple[Program, int]], int]:
    """Each part's program and how many of its units an epoch has; and the transitions that an epoch imagines.

    Networks are as initialised: what they say has no influence on how long they take.
    """
    task = get_task(TASK)
    system = System(task, task.observation_size, task.action_size, task.action_low, task.action_high)
    config = load_settings(name, base, preset, DATASET, {})
    data = ALGORITHMS[name].prepare(config, noise(task.observation_size, task.action_size))
    *models, policy = ALGORITHMS[name].stages(config, system)
    results: dict[str, Any] = {}
    for stage in models:
        state = eqx.filter_jit(stage.init)(data, results, key=KEY)
        results[stage.name] = state if stage.finish is None else stage.finish(state, data, results)
    state = eqx.filter_jit(policy.init)(data, results, key=KEY)

    def updates(state: Any, data: Any, results: Any, key: Any) -> Any:
        def update(state: Any, step: Any) -> Any:
            return policy.update(state, data, results, step=step, key=jax.random.fold_in(key, step))[0], None

        return jax.lax.scan(update, state, jnp.arange(CHUNK))[0]

    found = {"policy": (program(updates, CHUNK, state, data, results), config.epoch_steps)}
    if name == "adept":
        adept, transitions = adept_of(config), config.rollouts * config.rollout_steps
        imagine = lambda state, data, key: adept.imagine(state, data.transitions, key=key)
        found["rollout"] = program(imagine, transitions, state, data), transitions
        if config.refit_steps:
            refit = lambda state, data, results, key: adept.refit(
                state, data.split.training, results.get("behaviour"), jnp.array(True), key=key
            )
            found["model"] = program(refit, config.refit_steps, state, data, results), config.refit_steps
    else:
        begin = policy.begin_epoch
        assert begin is not None
        transitions = config.rollouts * (config.horizon - 1)
        imagine = lambda state, data, results, key: begin(state, data, results, step=jnp.int32(0), key=key)
        found["rollout"] = program(imagine, transitions, state, data, results), transitions
    return found, transitions


def program(function: Callable, units: int, *arguments: Any) -> Program:
    """A compiled function of arguments and a key; a repeat gets `units` done."""
    compiled = eqx.filter_jit(function)
    run = lambda: jax.block_until_ready(eqx.filter(compiled(*arguments, KEY), eqx.is_array))
    return Program(run, units, matmul_flops(function, *arguments, KEY))


def main() -> None:
    """Print a Markdown table and, last, everything as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=["adept", "dydiff"], help="which add-ons (default: both)")
    parser.add_argument("--base", help="the learner they stand on (default: each one's own)")
    parser.add_argument("--preset", default="cpu", help="whose sizes")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to measure each part")
    options = parser.parse_args()
    peak, results = matmul_peak(2.0), {}
    print("| method | part | seconds an epoch | share of peak | imagined a second |")
    print("| --- | --- | ---: | ---: | ---: |", flush=True)
    for name in options.names:
        label, results[name] = label_of(name, options.base), {}
        programs, transitions = parts(name, options.base, options.preset)
        for part, (work, units) in programs.items():
            measured = measure(work, options.seconds)
            seconds = units / measured.units_per_second
            results[name][part] = {"seconds": seconds, "compile_seconds": measured.compile_seconds}
            imagined = f"{transitions / seconds:,.0f}" if part == "rollout" else ""
            share = measured.gflops_per_second / peak
            print(f"| {label} | {part} | {seconds:.2f} | {share:.0%} | {imagined} |", flush=True)
        results[name]["imagined_per_second"] = transitions / results[name]["rollout"]["seconds"]
    print(json.dumps({"machine": machine(), "matmul_peak_gflops_per_second": peak, "epoch": results}))


if __name__ == "__main__":
    main()
