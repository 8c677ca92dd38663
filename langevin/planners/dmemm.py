"""DMEMM, "diffusion modulation via environment mechanism modelling": a planner's loss, modulated by learned models.

Windows of high return count more (Eq. 11), and the clean trajectory that the network sees behind a noised one shall
obey the transition model (Eq. 9) and earn reward (Eq. 10). The models are fitted before, and stay as they are.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, PRNGKeyArray

from langevin.data.sampling import WindowBatch, Windows
from langevin.data.trajectories import Trajectories
from langevin.diffusion.edm import Network
from langevin.diffusion.prediction import DDPM
from langevin.errors import UsageError, require_at_least, require_between
from langevin.nets.contextual_unet import ContextualUNet
from langevin.planners.clean_estimates import EstimatorName, posterior_mean, proposition_1
from langevin.planners.mechanism import Mechanism
from langevin.planners.return_shares import ReturnsOf, return_shares
from langevin.planners.window_diffusion import (
    Chain,
    Examples,
    Scale,
    WindowState,
    WindowTraining,
)


class Noised(NamedTuple):
    """Windows at a step of the chain each, the noise they have, and what the network said of them."""

    rows: Float[Array, "batch horizon channels"]
    steps: Int[Array, " batch"]
    noises: Float[Array, "batch horizon channels"]
    outputs: Float[Array, "batch horizon channels"]


class DMEMMTraining(eqx.Module):
    """How DMEMM's diffusion model is trained. All weights at 0, and it is Diffuser on the same chain.

    windows: the diffusion of windows. return_weights: whether windows count by their returns (Eq. 11). returns_of: the
    window's own or its whole episode's, for the paper's "trajectory" may be either; short windows of one episode earn
    all about the same. least_weight: of a window that earned nothing. relative_weights: whether weights are divided by
    their mean, so that Eqs. 9 and 10 weigh no more than beside an unweighted loss. transition_weight, reward_weight:
    lambda_tr and lambda_rd (Eq. 12). estimator: of the clean trajectory, "posterior_mean" or the paper's
    "proposition_1", which is biased and costs an evaluation for each step of the chain. level_weights: whether a
    posterior mean counts by abar_k in Eqs. 9 and 10, for at high noise it is a guess; the paper has no such weight.
    judged_share: of a batch's windows, those whose estimates the models judge: a batch is drawn at random, so a part of
    it says the same of Eqs. 9 and 10 at less cost.
    """

    windows: WindowTraining = WindowTraining(process="ddpm", chain=Chain(100, predicts="noise"))
    return_weights: bool = eqx.field(static=True, default=True)
    returns_of: ReturnsOf = eqx.field(static=True, default="window")
    least_weight: float = eqx.field(static=True, default=0.05)
    relative_weights: bool = eqx.field(static=True, default=False)
    transition_weight: float = eqx.field(static=True, default=0.1)
    reward_weight: float = eqx.field(static=True, default=0.05)
    estimator: EstimatorName = eqx.field(static=True, default="posterior_mean")
    level_weights: bool = eqx.field(static=True, default=True)
    judged_share: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        require_at_least(0, transition_weight=self.transition_weight, reward_weight=self.reward_weight)
        require_between(0, 1, least_weight=self.least_weight, judged_share=self.judged_share)
        if self.windows.process != "ddpm":
            raise UsageError(
                f'process must be "ddpm", whose steps DMEMM guides, got "{self.windows.process}"'
            )
        if not self.windows.plans_actions:
            raise UsageError("plans_actions must be true: the models judge states and actions")
        if self.windows.contexts:
            raise UsageError(
                f"contexts must be 0, for DMEMM tells a network none; got {self.windows.contexts}"
            )

    @property
    def judged(self) -> int:
        """Windows of a batch that the models judge; 0 where neither of their losses counts."""
        if not (self.transition_weight or self.reward_weight):
            return 0
        return max(1, round(self.judged_share * self.windows.batch_size))

    @property
    def process(self) -> DDPM:
        """The chain that noises."""
        return self.windows.chain.ddpm()

    def weights(self, trajectories: Trajectories, windows: Windows) -> Float32[np.ndarray, " windows"]:
        """Of each window's denoising error, by its share of what could have been earned (Eq. 11)."""
        if not self.return_weights:
            return np.ones(windows.size, np.float32)
        shares = return_shares(trajectories, windows, self.returns_of)
        weights = np.maximum(shares, np.float32(self.least_weight))
        return weights / (weights.mean() or 1) if self.relative_weights else weights

    def loss(
        self,
        network: ContextualUNet,
        batch: WindowBatch,
        weights: Float[Array, " batch"],
        mechanism: Mechanism,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """L_wdiff + lambda_tr L_tr + lambda_rd L_rd (Eq. 12), and its parts.

        batch: windows of `horizon` rows, already at their stride. Each of the three sums is divided by the number of
        entries that count, so that lambda weighs what it does in the paper, and Eq. 11 without weights is the mean
        error that Diffuser minimises.
        """
        known_key, _, noise_key = jax.random.split(key, 3)  # as Diffuser's loss splits it: the same noise
        examples = self.windows.examples(mechanism.scale, batch, key=known_key)
        noised = self.noised(network, examples, key=noise_key)
        loss = self.denoising_loss(noised, weights, examples, mechanism.scale)
        parts = {"planner/denoising": loss}
        if self.judged:
            some, noised = jax.tree.map(lambda leaf: leaf[: self.judged], (examples, noised))
            estimates = self.estimates(network, some, noised)
            leveled = self.level_weights and self.estimator == "posterior_mean"
            levels = self.process.schedule.kept[noised.steps] if leveled else 1.0
            entries = jnp.maximum(some.counted.sum(), 1)
            if self.transition_weight:
                violations = transition_errors(mechanism, estimates, some)
                parts["planner/transition"] = (levels * violations).sum() / entries
                loss += self.transition_weight * parts["planner/transition"]
            if self.reward_weight:
                earned = predicted_returns(mechanism, estimates, some)
                parts["planner/reward"] = -(levels * earned).sum() / entries
                loss += self.reward_weight * parts["planner/reward"]
        return loss, parts | {"planner/loss": loss}

    def noised(self, network: ContextualUNet, examples: Examples, *, key: PRNGKeyArray) -> Noised:
        """Each window at a step drawn evenly, and the network's output for it."""

        def one(clean, constraint, condition, key):
            rows, step, noise = self.process.corrupted(clean, constraint, key=key)
            return Noised(
                rows, step, noise, self.process.output(told_nothing(network), rows, step, condition)
            )

        keys = jax.random.split(key, examples.clean.shape[0])
        return jax.vmap(one)(examples.clean, examples.constraints, examples.conditions, keys)

    def denoising_loss(
        self, noised: Noised, weights: Float[Array, " batch"], examples: Examples, scale: Scale
    ) -> Float[Array, ""]:
        """The mean error of what is neither held nor padded, each window by its weight (Eq. 11)."""
        targets = noised.noises if self.process.predicts == "noise" else examples.clean
        errors = jnp.square(noised.outputs - targets)
        entry_weights = jnp.ones(errors.shape[1:])
        entry_weights = entry_weights.at[0, scale.observation_size :].set(self.windows.first_action_weight)
        of_each = jnp.where(examples.counted, entry_weights * errors, 0.0).sum(axis=(1, 2))
        return (weights * of_each).sum() / jnp.maximum(examples.counted.sum(), 1)

    def estimates(
        self, network: ContextualUNet, examples: Examples, noised: Noised
    ) -> Float[Array, "batch horizon channels"]:
        """The clean trajectories that the network sees, with what is held of them."""

        def one(clean, constraint, condition, noised):
            if self.estimator == "posterior_mean":
                estimate = posterior_mean(self.process, noised.rows, noised.steps, noised.outputs)
            else:
                estimate = proposition_1(
                    self.process, told_nothing(network), clean, noised.steps, noised.noises, constraint,
                    condition,
                )  # fmt: skip
            return constraint.apply(estimate)

        return jax.vmap(one)(examples.clean, examples.constraints, examples.conditions, noised)

    def update(
        self,
        state: WindowState,
        batch: WindowBatch,
        weights: Float[Array, " batch"],
        mechanism: Mechanism,
        *,
        step: Int[Array, ""],
        key: PRNGKeyArray,
    ) -> tuple[WindowState, dict[str, Float[Array, ""]]]:
        """One gradient step of the network alone; the losses before it."""
        diffusion, parts = self.windows.optimizer.update_with_parts(
            state.diffusion,
            lambda network: self.loss(network, batch, weights, mechanism, key=key),
            step=step,
        )
        return WindowState(diffusion, state.scale), parts


def told_nothing(network: ContextualUNet) -> Network:
    """The network as a process calls it."""
    return network.told(jnp.zeros(0), jnp.zeros(0, bool))


def transition_errors(
    mechanism: Mechanism, estimates: Float[Array, "batch horizon channels"], examples: Examples
) -> Float[Array, " batch"]:
    """sum_t |s_{t+1} - T(s_t, a_t)|^2 of each window, over the entries of s_{t+1} that count (Eq. 9)."""
    states = jax.vmap(mechanism.states)(estimates)
    batch, horizon, channels = estimates.shape
    before = estimates[:, :-1].reshape(batch * (horizon - 1), channels)
    after, _ = mechanism.successors(before)
    errors = jnp.square(states[:, 1:] - after.reshape(batch, horizon - 1, -1))
    counted = examples.counted[:, 1:, : states.shape[-1]]
    return jnp.where(counted, errors, 0.0).sum(axis=(1, 2))


def predicted_returns(
    mechanism: Mechanism, estimates: Float[Array, "batch horizon channels"], examples: Examples
) -> Float[Array, " batch"]:
    """sum_t R(s_t, a_t) of each window's real rows (Eq. 10); held entries are constants of it."""
    batch, horizon, channels = estimates.shape
    rewards = mechanism.rewards(estimates.reshape(batch * horizon, channels)).reshape(batch, horizon)
    return jnp.where(examples.valid, rewards, 0.0).sum(axis=1)
