"""Stochastic actors with a density: a Gaussian squashed by tanh into the action bounds, and one with a bounded mean."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.data.normalize import GaussianNormalizer
from langevin.nets.mlp import MLP
from langevin.policies.base import Policy, SystemSpec

LOG_STD_BOUNDS = (-20.0, 2.0)
"""Of the Gaussian before the tanh, clipped as in SAC's code."""
BOUNDED_LOG_STD = (-5.0, 2.0)
"""Of the Gaussian with a bounded mean, as in IQL's code."""
EDGE = 1e-6
"""How near to its bound a logged action is taken when its density is asked for: at the bound itself it is infinite."""


class SquashedGaussianActor(eqx.Module):
    """z-scored observation -> distribution of actions inside the bounds (SAC, appendix C)."""

    network: MLP
    action_low: Float[Array, " action"]
    action_high: Float[Array, " action"]

    def gaussian(
        self, observation: Float[Array, " observation"]
    ) -> tuple[Float[Array, " action"], Float[Array, " action"]]:
        """Mean and log standard deviation before the tanh."""
        mean, log_std = jnp.split(self.network(observation), 2)
        return mean, jnp.clip(log_std, *LOG_STD_BOUNDS)

    def mode(self, observation: Float[Array, " observation"]) -> Float[Array, " action"]:
        """The action at the Gaussian's mean."""
        return self._squash(self.gaussian(observation)[0])

    def sample(
        self, observation: Float[Array, " observation"], noise: Float[Array, " action"]
    ) -> tuple[Float[Array, " action"], Float[Array, ""]]:
        """The action that standard normal noise picks, and its log density; both differentiable in the parameters."""
        mean, log_std = self.gaussian(observation)
        latent = mean + jnp.exp(log_std) * noise
        return self._squash(latent), self._log_density(latent, mean, log_std)

    def log_prob(
        self, observation: Float[Array, " observation"], action: Float[Array, " action"]
    ) -> Float[Array, ""]:
        """Log density of an action, which may lie at its bounds."""
        low, high = jax.lax.stop_gradient((self.action_low, self.action_high))
        inside = jnp.clip(2 * (action - low) / (high - low) - 1, -1 + EDGE, 1 - EDGE)
        return self._log_density(jnp.arctanh(inside), *self.gaussian(observation))

    def _squash(self, latent: Float[Array, " action"]) -> Float[Array, " action"]:
        low, high = jax.lax.stop_gradient((self.action_low, self.action_high))
        return low + (high - low) * (jnp.tanh(latent) + 1) / 2

    def _log_density(
        self, latent: Float[Array, " action"], mean: Float[Array, " action"], log_std: Float[Array, " action"]
    ) -> Float[Array, ""]:
        """Of the squashed action: the Gaussian's, less the log slope of the squashing (SAC, Eq. 21)."""
        low, high = jax.lax.stop_gradient((self.action_low, self.action_high))
        standard = (latent - mean) * jnp.exp(-log_std)
        gaussian = -0.5 * standard**2 - log_std - 0.5 * math.log(2 * math.pi)
        # log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u)): no difference of nearly equal numbers.
        log_slope = 2 * (math.log(2) - latent - jax.nn.softplus(-2 * latent)) + jnp.log((high - low) / 2)
        return (gaussian - log_slope).sum()


def make_gaussian_actor(
    spec: SystemSpec, width: int, depth: int, *, key: PRNGKeyArray
) -> SquashedGaussianActor:
    """A ReLU network of `depth` hidden layers of `width` units that gives mean and log standard deviation."""
    network = MLP(spec.observation_size, 2 * spec.action_size, width, depth, jax.nn.relu, key=key)
    return SquashedGaussianActor(network, spec.action_low, spec.action_high)


class BoundedMeanActor(eqx.Module):
    """z-scored observation -> Gaussian whose mean lies inside the bounds and whose spread is the same everywhere (IQL).

    Its density is finite on logged actions at their bounds, where a squashed Gaussian's is not; a sample is clipped.
    """

    network: MLP
    log_std: Float[Array, " action"]
    """Logarithm of the standard deviation, which is a share of the action's half-range."""
    action_low: Float[Array, " action"]
    action_high: Float[Array, " action"]

    def mode(self, observation: Float[Array, " observation"]) -> Float[Array, " action"]:
        """The mean."""
        low, high = jax.lax.stop_gradient((self.action_low, self.action_high))
        return low + (high - low) * (jnp.tanh(self.network(observation)) + 1) / 2

    def std(self) -> Float[Array, " action"]:
        """Standard deviation in the action's units."""
        low, high = jax.lax.stop_gradient((self.action_low, self.action_high))
        return jnp.exp(jnp.clip(self.log_std, *BOUNDED_LOG_STD)) * (high - low) / 2

    def sample(
        self, observation: Float[Array, " observation"], noise: Float[Array, " action"]
    ) -> tuple[Float[Array, " action"], Float[Array, ""]]:
        """The action that standard normal noise picks, clipped to the bounds, and its log density before that."""
        latent = self.mode(observation) + self.std() * noise
        return jnp.clip(latent, self.action_low, self.action_high), self.log_prob(observation, latent)

    def log_prob(
        self, observation: Float[Array, " observation"], action: Float[Array, " action"]
    ) -> Float[Array, ""]:
        """Log density of an action."""
        return jax.scipy.stats.norm.logpdf(action, self.mode(observation), self.std()).sum()


def make_bounded_mean_actor(
    spec: SystemSpec, width: int, depth: int, *, key: PRNGKeyArray
) -> BoundedMeanActor:
    """A ReLU network of `depth` hidden layers of `width` units; the spread starts at the half-range."""
    network = MLP(spec.observation_size, spec.action_size, width, depth, jax.nn.relu, key=key)
    return BoundedMeanActor(network, jnp.zeros(spec.action_size), spec.action_low, spec.action_high)


StochasticActor = SquashedGaussianActor | BoundedMeanActor


class GaussianPolicy(Policy):
    """Acts by a stochastic actor: a sample, or its mode."""

    actor: StochasticActor
    normalizer: GaussianNormalizer
    deterministic: bool = eqx.field(static=True, default=False)

    def greedy(self) -> "GaussianPolicy":
        """The policy that acts by the mode."""
        return GaussianPolicy(self.actor, self.normalizer, deterministic=True)

    def start(self, batch_size: int) -> None:
        """Nothing to remember."""

    def act(
        self, observations: Float[Array, "batch observation"], memory: None, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "batch action"], None]:
        """A sample for every observation, or the mode (then the key is not used)."""
        observations = self.normalizer.normalize(observations)
        if self.deterministic:
            return jax.vmap(self.actor.mode)(observations), None
        return sample_actions(self.actor, observations, key=key)[0], None

    def log_prob(
        self, observations: Float[Array, "batch observation"], actions: Float[Array, "batch action"]
    ) -> Float[Array, " batch"]:
        """Log density of actions in raw units."""
        return jax.vmap(self.actor.log_prob)(self.normalizer.normalize(observations), actions)


def sample_actions(
    actor: StochasticActor, observations: Float[Array, "batch observation"], *, key: PRNGKeyArray
) -> tuple[Float[Array, "batch action"], Float[Array, " batch"]]:
    """An action for every z-scored observation, and its log density."""
    noise = jax.random.normal(key, (observations.shape[0], actor.action_low.size))
    return jax.vmap(actor.sample)(observations, noise)
