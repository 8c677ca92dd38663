"""Learning rates that fall over a training's own updates, which what is trained need not know."""

import dataclasses
from typing import TypeVar

Training = TypeVar("Training")


def paced(training: Training, updates: int) -> Training:
    """The training or learner with its learning rate falling over these updates, if it names no number itself.

    One whose `decay_steps` are given keeps them (0: the rate stays), and so does one that has no such setting.
    """
    if getattr(training, "decay_steps", 0) is not None:
        return training
    return dataclasses.replace(training, decay_steps=updates)  # pyright: ignore
