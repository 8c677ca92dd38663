"""An update of TD3+BC, SAC, CQL and IQL, in Langevin and in plain PyTorch written like the usual code.

    python benchmarks/learners_vs_torch.py
    python benchmarks/learners_vs_torch.py cql --updates 10 --seeds 1 8

PyTorch trains one seed; of several it would train one after another, at the same speed. Langevin trains as many as are
named, each number a side of its own, and its speed is that of all seeds' updates together.

Both: the published sizes, batch 256 drawn uniformly from data on the device. Langevin's side is the training loop's own
compiled chunk. PyTorch's Adam is timed in its default form and in its fused one.
"""

from torch_learners import LEARNERS
from versus import compare, options_of

from langevin.evaluation import workloads

OBSERVATION, ACTION = 17, 6


def main() -> None:
    """Run the comparisons."""
    options = options_of("updates per second: Langevin against PyTorch eager", list(LEARNERS), seeds=True)
    for name in options.names:
        print(name, flush=True)
        stage, transitions = workloads.learner_stage(name, OBSERVATION, ACTION)
        ours = {}
        for seeds in options.seeds:
            program = workloads.training_program(stage, transitions, list(range(seeds)), options.updates)
            words = "langevin" if seeds == 1 else f"langevin, {seeds} seeds"
            ours[words] = program.run, seeds * options.updates
        torch = LEARNERS[name]
        theirs = {
            "torch": (torch(transitions, fused=False).run(options.updates), options.updates),
            "torch, fused Adam": (torch(transitions, fused=True).run(options.updates), options.updates),
        }
        compare(ours, theirs, options.repeats, workloads.update_flops(stage, transitions))


if __name__ == "__main__":
    main()
