"""A conditional variational autoencoder of the logged actions: what the data would do in a state (BCQ, BEAR)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.nets.mlp import MLP
from langevin.policies.base import SystemSpec

LOG_STD_BOUNDS = (-4.0, 15.0)
"""Of the encoder, as in BCQ's code."""
LATENT_CLIP = 0.5
"""Latents are drawn within it when actions are made: the middle of what the decoder was trained on (BCQ's code)."""


class ActionVAE(eqx.Module):
    """encoder: (observation, action) -> latent mean and log std. decoder: (observation, latent) -> action.

    Observations are z-scored; inside the networks actions are scaled to [-1, 1].
    """

    encoder: MLP
    decoder: MLP
    action_low: Float[Array, " action"]
    action_high: Float[Array, " action"]

    @property
    def latent_size(self) -> int:
        """Twice as many as action dimensions."""
        return 2 * self.action_low.size

    def encode(
        self, observation: Float[Array, " observation"], action: Float[Array, " action"]
    ) -> tuple[Float[Array, " latent"], Float[Array, " latent"]]:
        """Mean and log standard deviation of the latent."""
        mean, log_std = jnp.split(self.encoder(jnp.concatenate([observation, self._scaled(action)])), 2)
        return mean, jnp.clip(log_std, *LOG_STD_BOUNDS)

    def decode(
        self, observation: Float[Array, " observation"], latent: Float[Array, " latent"]
    ) -> Float[Array, " action"]:
        """The action of a latent, inside the bounds."""
        low, high = jax.lax.stop_gradient((self.action_low, self.action_high))
        return low + (high - low) * (jnp.tanh(self.decode_latent(observation, latent)) + 1) / 2

    def decode_latent(
        self, observation: Float[Array, " observation"], latent: Float[Array, " latent"]
    ) -> Float[Array, " action"]:
        """The action before its tanh."""
        return self.decoder(jnp.concatenate([observation, latent]))

    def loss(
        self,
        observations: Float[Array, "batch observation"],
        actions: Float[Array, "batch action"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        """mean (a - decoded)^2 over scaled actions + half the mean divergence of the latent from N(0, 1).

        Means over dimensions, as in BCQ's code, which weighs reconstruction by more than the evidence bound would.
        """
        means, log_stds = jax.vmap(self.encode)(observations, actions)
        latents = means + jnp.exp(log_stds) * jax.random.normal(key, means.shape)
        decoded = jax.vmap(self.decode)(observations, latents)
        reconstruction = jnp.mean((self._scaled(decoded) - self._scaled(actions)) ** 2)
        divergence = -0.5 * jnp.mean(1 + 2 * log_stds - means**2 - jnp.exp(2 * log_stds))
        return reconstruction + 0.5 * divergence

    def _scaled(self, actions: Float[Array, "*batch action"]) -> Float[Array, "*batch action"]:
        low, high = jax.lax.stop_gradient((self.action_low, self.action_high))
        return 2 * (actions - low) / (high - low) - 1


def make_action_vae(spec: SystemSpec, width: int, *, key: PRNGKeyArray) -> ActionVAE:
    """Encoder and decoder of two hidden layers of `width` units."""
    encoder_key, decoder_key = jax.random.split(key)
    latent = 2 * spec.action_size
    encoder = MLP(
        spec.observation_size + spec.action_size, 2 * latent, width, 2, jax.nn.relu, key=encoder_key
    )
    decoder = MLP(spec.observation_size + latent, spec.action_size, width, 2, jax.nn.relu, key=decoder_key)
    return ActionVAE(encoder, decoder, spec.action_low, spec.action_high)


def latents(vae: ActionVAE, shape: tuple[int, ...], *, key: PRNGKeyArray) -> Float[Array, "*shape latent"]:
    """Standard normal latents, clipped to where the decoder is sure."""
    drawn = jax.random.normal(key, (*shape, vae.latent_size))
    return jnp.clip(drawn, -LATENT_CLIP, LATENT_CLIP)
