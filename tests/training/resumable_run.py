"""Trains the toy stages into the folder named on the command line, going on from what is there."""

import sys

from toy_stages import evaluate, toy_data, toy_stages

from langevin.training.loop import train

if __name__ == "__main__":
    train(
        toy_stages(steps=int(sys.argv[2])),
        toy_data(),
        [0, 3],
        sys.argv[1],
        chunk_steps=10,
        evaluate=evaluate,
        evaluate_every=20,
        resume=True,
        checkpoint_seconds=0.0,
    )
