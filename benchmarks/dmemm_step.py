"""What DMEMM's training step costs against Diffuser's: the same network, chain and batch, timed by turns in one run.

python benchmarks/dmemm_step.py
python benchmarks/dmemm_step.py --dataset hopper/medium-v0 --preset paper --shares 1.0 0.25
"""

import argparse
import dataclasses
import json
from statistics import median
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from langevin.envs.tasks import get_task
from langevin.evaluation.speed import Program, machine, matmul_flops, timed
from langevin.evaluation.workloads import noise
from langevin.training.algorithms import dmemm
from langevin.training.algorithms.registry import load_settings
from langevin.training.algorithms.system import System
from langevin.training.programs import StagePrograms

OFF = {"return_weights": False, "transition_weight": 0.0, "reward_weight": 0.0}


def main() -> None:
    """Print a Markdown table and, last, everything as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dataset", default="pointmaze/umaze-v0", help="whose preset and sizes (data are noise)"
    )
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--shares", type=float, nargs="*", default=[0.25, 0.5, 1.0])
    parser.add_argument("--repeats", type=int, default=15, help="chunks timed of each, by turns")
    parser.add_argument("--updates", type=int, default=10, help="updates in a chunk")
    options = parser.parse_args()
    config = load_settings("dmemm", None, options.preset, options.dataset, {})
    variants = {"Diffuser": OFF} | {
        f"DMEMM, judged_share {share:g}": {"judged_share": share} for share in options.shares
    }
    programs = {
        name: program(config, changes, options.dataset, options.updates) for name, changes in variants.items()
    }
    seconds = by_turns(programs, options.repeats)
    base = programs["Diffuser"]
    print("| loss | ms an update | times Diffuser's | times its matrix products |")
    print("| --- | ---: | ---: | ---: |")
    for name, each in programs.items():
        ratio = median(np.array(seconds[name]) / np.array(seconds["Diffuser"]))
        print(
            f"| {name} | {1000 * median(seconds[name]) / options.updates:.1f} | {ratio:.2f} "
            f"| {each.flops / base.flops:.2f} |"
        )
    print(json.dumps({"machine": machine(), "options": vars(options), "seconds": seconds}))


def by_turns(programs: dict[str, Program], repeats: int) -> dict[str, list[float]]:
    """Seconds of each repeat, the programs by turns: what else the machine does slows all of them."""
    for each in programs.values():
        each.run()
        each.run()
    rounds = [{name: timed(each.run) for name, each in programs.items()} for _ in range(repeats)]
    return {name: [times[name] for times in rounds] for name in programs}


def program(config: dmemm.DMEMMConfig, changes: dict[str, Any], dataset: str, updates: int) -> Program:
    """A chunk of the planner's updates as the training loop runs it, beside models with their initial weights."""
    config = dataclasses.replace(config, planner=dataclasses.replace(config.planner, **changes))
    task = get_task(dataset.rsplit("-v", 1)[0]) if "maze" in dataset else get_task(dataset.split("/")[0])
    system = System(task, task.observation_size, task.action_size, task.action_low, task.action_high)
    data = dmemm.prepare(config, noise(task.observation_size, task.action_size))
    results: dict[str, Any] = {}
    *models, planner = dmemm.stages(config, system)
    for stage in models:
        fresh = stage.init(data, results, key=jax.random.key(0))
        results[stage.name] = stage.finish(fresh, data, results) if stage.finish else fresh

    one_seed = jax.tree.map(lambda leaf: leaf[None] if eqx.is_array(leaf) else leaf, results)
    programs = StagePrograms(planner, 0, data, one_seed, [0])
    state = programs.init()

    def run() -> None:
        nonlocal state
        state, _, _ = programs.advance(state, np.ones(1, bool), 0, updates)
        jax.block_until_ready(jax.tree.leaves(eqx.filter(state, eqx.is_array)))

    key = jax.random.key(1)
    like = eqx.filter_eval_shape(planner.init, data, results, key=key)
    return Program(
        run, updates, matmul_flops(planner.update, like, data, results, step=jnp.int32(0), key=key)
    )


if __name__ == "__main__":
    main()
