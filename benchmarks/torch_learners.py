"""TD3+BC, SAC, CQL and IQL in plain eager PyTorch, each update written like its authors' or the usual code."""

import copy
import math
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn.functional import mse_loss, softplus

from langevin.data.sampling import Transitions

BATCH, WIDTH, DISCOUNT, TARGET_RATE = 256, 256, 0.99, 0.005


def network(inputs: int, outputs: int, depth: int = 2) -> nn.Module:
    """Hidden layers of 256 units with ReLU."""
    sizes = [inputs, *[WIDTH] * depth]
    hidden = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(WIDTH, outputs))


def follow(online: nn.Module, target: nn.Module) -> None:
    """A target network's step."""
    for parameter, moved in zip(online.parameters(), target.parameters(), strict=True):
        moved.data.copy_(TARGET_RATE * parameter.data + (1 - TARGET_RATE) * moved.data)


def descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """One gradient step."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


class TorchLearner:
    """Data on the device, batches drawn from it, twin critics."""

    depth = 2

    def __init__(self, transitions: Transitions, fused: bool):
        columns = (
            transitions.observations, transitions.actions, transitions.next_observations,
            transitions.rewards[:, None], 1 - transitions.terminations[:, None],
        )  # fmt: skip
        self.columns = [torch.tensor(np.asarray(column)) for column in columns]
        observations, actions = self.columns[:2]
        self.mean, self.std = observations.mean(0), observations.std(0) + 1e-3
        self.observation, self.action, self.fused = observations.shape[1], actions.shape[1], fused
        self.critics = nn.ModuleList(network(self.observation + self.action, 1, self.depth) for _ in range(2))
        self.target_critics = copy.deepcopy(self.critics)
        self.critic_adam = self.adam(self.critics)
        self.updates = 0

    def adam(self, module: nn.Module, learning_rate: float = 3e-4) -> torch.optim.Optimizer:
        return torch.optim.Adam(module.parameters(), lr=learning_rate, fused=self.fused)

    def run(self, updates: int):
        """A function that does that many updates."""

        def repeat() -> None:
            for _ in range(updates):
                self.update(*self.batch())
                self.updates += 1

        return repeat

    def batch(self) -> list[torch.Tensor]:
        rows = torch.randint(0, len(self.columns[0]), (BATCH,))
        observations, actions, next_observations, rewards, going_on = (
            column[rows] for column in self.columns
        )
        standard = lambda values: (values - self.mean) / self.std
        return [standard(observations), actions, standard(next_observations), rewards, going_on]

    def values(self, critics, observations, actions):
        inputs = torch.cat([observations, actions], -1)
        return [critic(inputs) for critic in critics]

    def update(self, observations, actions, next_observations, rewards, going_on) -> None:
        raise NotImplementedError


class TorchTD3BC(TorchLearner):
    """Fujimoto & Gu 2021."""

    def __init__(self, transitions: Transitions, fused: bool):
        super().__init__(transitions, fused)
        self.actor = network(self.observation, self.action)
        self.target_actor = copy.deepcopy(self.actor)
        self.actor_adam = self.adam(self.actor)

    def update(self, observations, actions, next_observations, rewards, going_on) -> None:
        with torch.no_grad():
            noise = (torch.randn_like(actions) * 0.2).clamp(-0.5, 0.5)
            next_actions = (torch.tanh(self.target_actor(next_observations)) + noise).clamp(-1, 1)
            smaller = torch.min(*self.values(self.target_critics, next_observations, next_actions))
            targets = rewards + DISCOUNT * going_on * smaller
        first, second = self.values(self.critics, observations, actions)
        descend(self.critic_adam, mse_loss(first, targets) + mse_loss(second, targets))
        if self.updates % 2:
            chosen = torch.tanh(self.actor(observations))
            values = self.critics[0](torch.cat([observations, chosen], 1))
            weight = 2.5 / values.abs().mean().detach()
            descend(self.actor_adam, -weight * values.mean() + mse_loss(chosen, actions))
            follow(self.critics, self.target_critics)
            follow(self.actor, self.target_actor)


class TorchSAC(TorchLearner):
    """Haarnoja et al. 2018, automatic temperature."""

    def __init__(self, transitions: Transitions, fused: bool):
        super().__init__(transitions, fused)
        self.actor = network(self.observation, 2 * self.action, self.depth)
        self.actor_adam = self.adam(self.actor)
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.temperature_adam = torch.optim.Adam([self.log_temperature], lr=3e-4)

    def sample(self, observations):
        """Squashed actions and their log densities."""
        mean, log_std = self.actor(observations).chunk(2, -1)
        log_std = log_std.clamp(-20, 2)
        noise = torch.randn_like(mean)
        latent = mean + log_std.exp() * noise
        gaussian = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
        slope = 2 * (math.log(2) - latent - softplus(-2 * latent))
        return torch.tanh(latent), (gaussian - slope).sum(-1, keepdim=True)

    def targets(self, next_observations, rewards, going_on):
        with torch.no_grad():
            next_actions, log_probs = self.sample(next_observations)
            smaller = torch.min(*self.values(self.target_critics, next_observations, next_actions))
            return rewards + DISCOUNT * going_on * (smaller - self.log_temperature.exp() * log_probs)

    def critic_loss(self, observations, actions, next_observations, targets):
        first, second = self.values(self.critics, observations, actions)
        return 0.5 * (mse_loss(first, targets) + mse_loss(second, targets))

    def update(self, observations, actions, next_observations, rewards, going_on) -> None:
        targets = self.targets(next_observations, rewards, going_on)
        descend(self.critic_adam, self.critic_loss(observations, actions, next_observations, targets))
        chosen, log_probs = self.sample(observations)
        smaller = torch.min(*self.values(self.critics, observations, chosen))
        descend(self.actor_adam, (self.log_temperature.exp().detach() * log_probs - smaller).mean())
        descend(self.temperature_adam, -self.log_temperature * (log_probs.detach().mean() - self.action))
        follow(self.critics, self.target_critics)


class TorchCQL(TorchSAC):
    """Kumar et al. 2020: CQL(H), 10 actions of each of three proposals, weighted by their densities."""

    depth = 3
    samples = 10

    def targets(self, next_observations, rewards, going_on):
        with torch.no_grad():
            next_actions, _ = self.sample(next_observations)
            smaller = torch.min(*self.values(self.target_critics, next_observations, next_actions))
            return rewards + DISCOUNT * going_on * smaller

    def critic_loss(self, observations, actions, next_observations, targets):
        with torch.no_grad():
            repeated = observations.repeat(self.samples, 1)
            uniform = 2 * torch.rand(len(repeated), self.action) - 1
            now, now_density = self.sample(repeated)
            after, after_density = self.sample(next_observations.repeat(self.samples, 1))
            uniform_density = torch.full_like(now_density, -self.action * math.log(2))
            proposed = torch.cat([uniform, now, after])
            densities = torch.cat([uniform_density, now_density, after_density])
        loss = super().critic_loss(observations, actions, next_observations, targets)
        logged = self.values(self.critics, observations, actions)
        everywhere = self.values(self.critics, observations.repeat(3 * self.samples, 1), proposed)
        for values, here in zip(everywhere, logged, strict=True):
            weighted = (values - densities).reshape(3 * self.samples, -1)
            loss = loss + 5.0 * (torch.logsumexp(weighted, 0) - here[:, 0]).mean()
        return loss


class TorchIQL(TorchLearner):
    """Kostrikov et al. 2022."""

    def __init__(self, transitions: Transitions, fused: bool):
        super().__init__(transitions, fused)
        self.actor, self.value = network(self.observation, self.action), network(self.observation, 1)
        self.log_std = nn.Parameter(torch.zeros(self.action))
        self.actor_adam = torch.optim.Adam(
            [*self.actor.parameters(), self.log_std], lr=3e-4, fused=self.fused
        )
        self.value_adam = self.adam(self.value)

    def update(self, observations, actions, next_observations, rewards, going_on) -> None:
        with torch.no_grad():
            target_values = torch.min(*self.values(self.target_critics, observations, actions))
        difference = target_values - self.value(observations)
        descend(self.value_adam, (torch.where(difference < 0, 0.3, 0.7) * difference**2).mean())
        with torch.no_grad():
            weights = (3.0 * (target_values - self.value(observations))).exp().clamp(max=100.0)
            targets = rewards + DISCOUNT * going_on * self.value(next_observations)
        error = (actions - torch.tanh(self.actor(observations))) / self.log_std.clamp(-5, 2).exp()
        log_probs = (-0.5 * error**2 - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1, keepdim=True)
        descend(self.actor_adam, -(weights * log_probs).mean())
        first, second = self.values(self.critics, observations, actions)
        descend(self.critic_adam, mse_loss(first, targets) + mse_loss(second, targets))
        follow(self.critics, self.target_critics)


LEARNERS = {"td3bc": TorchTD3BC, "sac": TorchSAC, "cql": TorchCQL, "iql": TorchIQL}
