"""An update of TD3+BC, one seed, in Langevin and in plain PyTorch written like the official code.

    python benchmarks/td3bc_vs_torch.py

Both: 2 x 256 units, batch 256 drawn uniformly from data on the device, twin critics, an actor step every second
update. Langevin's side is the training loop's own compiled chunk. PyTorch's Adam is timed in its default form and
in its fused one.
"""

import copy

import numpy as np
import torch
from torch import nn
from torch.nn.functional import mse_loss
from versus import arguments, compare

from langevin.data.sampling import Transitions
from langevin.evaluation import workloads

OBSERVATION, ACTION, BATCH, WIDTH = 17, 6, 256, 256


def main() -> None:
    """Run the comparison."""
    options = arguments("TD3+BC updates per second: Langevin against PyTorch eager, one seed")
    stage, transitions = workloads.td3bc_stage(OBSERVATION, ACTION)
    program = workloads.training_program(stage, transitions, [0], options.updates)
    compare(
        {
            "langevin": program.run,
            "torch": TorchTD3BC(transitions, fused=False).run(options.updates),
            "torch, fused Adam": TorchTD3BC(transitions, fused=True).run(options.updates),
        },
        options.updates,
        options.repeats,
        workloads.update_flops(stage, transitions),
    )


def network(inputs: int, outputs: int) -> nn.Module:
    """Two hidden layers, as in the official code."""
    return nn.Sequential(
        nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, outputs)
    )


class TorchTD3BC:
    """The official update (Fujimoto & Gu 2021), eager."""

    def __init__(self, transitions: Transitions, fused: bool):
        observations, actions, next_observations, rewards, terminations = (
            torch.tensor(np.asarray(column))
            for column in (
                transitions.observations,
                transitions.actions,
                transitions.next_observations,
                transitions.rewards[:, None],
                transitions.terminations[:, None],
            )
        )
        self.columns = [observations, actions, next_observations, rewards, 1 - terminations]
        self.mean, self.std = observations.mean(0), observations.std(0) + 1e-3
        self.actor = network(OBSERVATION, ACTION)
        self.critics = nn.ModuleList(network(OBSERVATION + ACTION, 1) for _ in range(2))
        self.target_actor, self.target_critics = copy.deepcopy(self.actor), copy.deepcopy(self.critics)
        self.actor_adam = torch.optim.Adam(self.actor.parameters(), lr=3e-4, fused=fused)
        self.critic_adam = torch.optim.Adam(self.critics.parameters(), lr=3e-4, fused=fused)
        self.updates = 0

    def run(self, updates: int):
        """A function that does that many updates."""

        def repeat() -> None:
            for _ in range(updates):
                self.update()

        return repeat

    def update(self) -> None:
        """Critics, and every second time the actor and the targets."""
        rows = torch.randint(0, len(self.columns[0]), (BATCH,))
        observations, actions, next_observations, rewards, not_terminal = (
            column[rows] for column in self.columns
        )
        observations = (observations - self.mean) / self.std
        next_observations = (next_observations - self.mean) / self.std
        with torch.no_grad():
            noise = (torch.randn_like(actions) * 0.2).clamp(-0.5, 0.5)
            next_actions = (torch.tanh(self.target_actor(next_observations)) + noise).clamp(-1, 1)
            inputs = torch.cat([next_observations, next_actions], 1)
            first, second = (critic(inputs) for critic in self.target_critics)
            targets = rewards + 0.99 * not_terminal * torch.min(first, second)
        inputs = torch.cat([observations, actions], 1)
        first, second = (critic(inputs) for critic in self.critics)
        loss = mse_loss(first, targets) + mse_loss(second, targets)
        self.critic_adam.zero_grad()
        loss.backward()
        self.critic_adam.step()
        self.updates += 1
        if self.updates % 2 == 0:
            self.improve(observations, actions)

    def improve(self, observations: torch.Tensor, actions: torch.Tensor) -> None:
        """The actor's step, then the targets'."""
        chosen = torch.tanh(self.actor(observations))
        values = self.critics[0](torch.cat([observations, chosen], 1))
        weight = 2.5 / values.abs().mean().detach()
        loss = -weight * values.mean() + mse_loss(chosen, actions)
        self.actor_adam.zero_grad()
        loss.backward()
        self.actor_adam.step()
        for online, target in ((self.critics, self.target_critics), (self.actor, self.target_actor)):
            for parameter, moved in zip(online.parameters(), target.parameters(), strict=True):
                moved.data.copy_(0.005 * parameter.data + 0.995 * moved.data)


if __name__ == "__main__":
    main()
