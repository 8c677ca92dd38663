"""An update of TD3+BC, SAC, CQL and IQL, one seed, in Langevin and in plain PyTorch written like the usual code.

    python benchmarks/learners_vs_torch.py
    python benchmarks/learners_vs_torch.py cql --updates 10

Both: the published sizes, batch 256 drawn uniformly from data on the device. Langevin's side is the training loop's own
compiled chunk. PyTorch's Adam is timed in its default form and in its fused one.
"""

from torch_learners import LEARNERS
from versus import compare, options_of

from langevin.evaluation import workloads

OBSERVATION, ACTION = 17, 6


def main() -> None:
    """Run the comparisons."""
    options = options_of("updates per second: Langevin against PyTorch eager, one seed", list(LEARNERS))
    for name in options.names:
        print(name, flush=True)
        stage, transitions = workloads.learner_stage(name, OBSERVATION, ACTION)
        program = workloads.training_program(stage, transitions, [0], options.updates)
        compare(
            {
                "langevin": program.run,
                "torch": LEARNERS[name](transitions, fused=False).run(options.updates),
                "torch, fused Adam": LEARNERS[name](transitions, fused=True).run(options.updates),
            },
            options.updates,
            options.repeats,
            workloads.update_flops(stage, transitions),
        )


if __name__ == "__main__":
    main()
