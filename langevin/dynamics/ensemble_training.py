"""How the dynamics ensemble is trained: its likelihood, its batches, early stopping and the choice of elites.

The loss is that of PETS (Chua et al. 2018, "Deep reinforcement learning in a handful of trials using
probabilistic dynamics models"), the settings are MBPO's (Janner et al. 2019, "When to trust your model").
Pure functions for one seed, ``init -> update … -> finish``; `langevin.training` maps them over seeds.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Int32, PRNGKeyArray, UInt32

from langevin.data.sampling import Transitions
from langevin.dynamics.ensemble import DynamicsModel, GaussianNetwork
from langevin.dynamics.split import Scales, SplitTransitions
from langevin.errors import UsageError
from langevin.nets.ensemble import Ensemble


def gaussian_nll(
    mean: Float[Array, "*shape"], log_variance: Float[Array, "*shape"], target: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """-log N(target; mean, exp(log_variance)), element by element, in nats.

    Gradients: (mean - target) / variance and (1 - (target - mean)^2 / variance) / 2.
    """
    squared_error = jnp.square(target - mean)
    return 0.5 * (squared_error * jnp.exp(-log_variance) + log_variance + jnp.log(2.0 * jnp.pi))


def weighted_nll(
    mean: Float[Array, "*shape"],
    log_variance: Float[Array, "*shape"],
    target: Float[Array, "*shape"],
    variance_weight: float,
) -> Float[Array, "*shape"]:
    """variance^variance_weight times the negative log-likelihood, the factor held constant in the gradient
    (Seitzer et al. 2022, "On the pitfalls of heteroscedastic uncertainty estimation", Eq. 5).

    The likelihood divides an error by its variance, so rows that are hard at first (in the mazes those beyond
    the speed limit, 2% of the data) are given a large variance and then hardly count: their mean is never
    learned. At 0.5 an error is divided by the standard deviation; at 0 this is the plain likelihood.
    """
    weight = jax.lax.stop_gradient(jnp.exp(variance_weight * log_variance))
    return weight * gaussian_nll(mean, log_variance, target)


class BestMembers(eqx.Module):
    """What early stopping remembers: each member's weights when its held-out error was lowest."""

    networks: Ensemble[GaussianNetwork]
    errors: Float[Array, " members"]
    """Mean squared error of the predicted change on the held-out rows, in standard deviations squared."""
    milestones: Float[Array, " members"]
    """The errors that progress is measured against (see `EnsembleTraining.improvement`)."""
    stalled: Int32[Array, ""]
    """Evaluations since any member last passed its milestone."""


class EnsembleState(eqx.Module):
    """Everything the training of an ensemble carries from step to step."""

    networks: Ensemble[GaussianNetwork]
    optimizer_state: optax.OptState
    best: BestMembers
    scales: Scales
    bootstraps: UInt32[Array, " members"]
    """The seed of each member's own resampling of the training rows."""


class EnsembleTraining(eqx.Module):
    """MBPO's ensemble and its training.

    members: networks trained, each from weights and on data of its own. elites: networks used, those of
    lowest held-out error. width, depth: units and number of hidden layers. learning_rate: Adam's.
    decay_steps: updates over which it falls to 0 along a half cosine; None: over a stage of so many; 0: it stays, as
    MBPO's does, which leaves a noise in the weights that shows in long rollouts. batch_size: rows for each member in an
    update. variance_weight: see `weighted_nll`; MBPO's loss is 0. weight_decay: of the first and of the last
    layer's weights, linear in between (MBPO's 2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4 lie about this line).
    bounds_weight: pressure on the bounds of the log-variance to close in. evaluate_every: updates between two
    measurements of the held-out error. patience: measurements in a row without progress after which training
    is done. improvement: progress is a member's error falling below (1 - improvement) times that at its last
    progress.
    """

    members: int = eqx.field(static=True, default=7)
    elites: int = eqx.field(static=True, default=5)
    width: int = eqx.field(static=True, default=200)
    depth: int = eqx.field(static=True, default=4)
    learning_rate: float = eqx.field(static=True, default=1e-3)
    decay_steps: int | None = eqx.field(static=True, default=None)
    batch_size: int = eqx.field(static=True, default=256)
    variance_weight: float = eqx.field(static=True, default=0.5)
    weight_decay: tuple[float, float] = eqx.field(static=True, default=(2.5e-5, 1e-4))
    bounds_weight: float = eqx.field(static=True, default=0.01)
    evaluate_every: int = eqx.field(static=True, default=500)
    patience: int = eqx.field(static=True, default=10)
    improvement: float = eqx.field(static=True, default=0.01)

    def __check_init__(self):
        if not 1 <= self.elites <= self.members:
            raise UsageError(f"elites must lie in 1 … members ({self.members}), got {self.elites}")

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam; its steps are element by element, so members stay independent of one another."""
        if not self.decay_steps:
            return optax.adam(self.learning_rate)
        return optax.adam(optax.cosine_decay_schedule(self.learning_rate, self.decay_steps))

    def init(self, data: SplitTransitions, *, key: PRNGKeyArray) -> EnsembleState:
        """Fresh members and their held-out error."""
        network_key, bootstrap_key = jax.random.split(key)
        observation_size, action_size = data.training.observations.shape[1], data.training.actions.shape[1]
        networks = Ensemble(
            lambda key: GaussianNetwork(
                observation_size + action_size, observation_size, self.width, self.depth, key=key
            ),
            self.members,
            key=network_key,
        )
        errors = held_out_errors(networks, data)
        # Copies, because a state's buffers are given away to the next state and may stand in it only once.
        best = BestMembers(jax.tree.map(jnp.copy, networks), errors, jnp.copy(errors), jnp.int32(0))
        bootstraps = jax.random.bits(bootstrap_key, (self.members,), jnp.uint32)
        optimizer_state = self.optimizer.init(eqx.filter(networks, eqx.is_inexact_array))
        return EnsembleState(networks, optimizer_state, best, data.scales, bootstraps)

    def update(
        self, state: EnsembleState, data: SplitTransitions, *, step: Int[Array, ""] | int, key: PRNGKeyArray
    ) -> tuple[EnsembleState, dict[str, Float[Array, ""]]]:
        """One step of Adam for every member, each on a batch of its own; every `evaluate_every` updates the
        held-out errors are measured and the best weights kept."""
        batch = self.batches(state, data.training, key=key)
        inputs, targets = data.scales.inputs(batch.observations, batch.actions), data.scales.targets(batch)
        loss_and_gradient = eqx.filter_value_and_grad(self.loss, has_aux=True)
        (_, metrics), gradient = loss_and_gradient(state.networks, inputs, targets)
        updates, optimizer_state = self.optimizer.update(gradient, state.optimizer_state)
        networks = eqx.apply_updates(state.networks, updates)
        best = jax.lax.cond(
            (jnp.asarray(step) + 1) % self.evaluate_every == 0,
            lambda: self.keep_best(state.best, networks, held_out_errors(networks, data)),
            lambda: state.best,
        )
        metrics["dynamics/held_out_error"] = jnp.sort(best.errors)[: self.elites].mean()
        metrics["dynamics/stalled_evaluations"] = best.stalled.astype(jnp.float32)
        return EnsembleState(networks, optimizer_state, best, state.scales, state.bootstraps), metrics

    def done(self, state: EnsembleState) -> Bool[Array, ""]:
        """No member made progress in the last `patience` measurements."""
        return state.best.stalled >= self.patience

    def finish(self, state: EnsembleState) -> DynamicsModel:
        """The best weights of every member, and which members are the elites."""
        elites = jnp.argsort(state.best.errors)[: self.elites].astype(jnp.int32)
        return DynamicsModel(state.best.networks, elites, state.scales)

    def batches(self, state: EnsembleState, training: Transitions, *, key: PRNGKeyArray) -> Transitions:
        """A batch for each member, fields (members, batch_size, …), from that member's bootstrap of the rows.

        A bootstrap is as many rows as there are, drawn with replacement once and for all. It is never stored:
        its n-th row is a hash of the member's seed and n (the remainder of a 32-bit number, so that a row's
        chance is off by a share of rows / 2^32 at most).
        """

        def bootstrap_row(seed: Array, position: Array) -> Array:
            member_key = jax.random.key(seed, impl="threefry2x32")
            hashed = jax.random.key_data(jax.random.fold_in(member_key, position))[0]
            return hashed % training.size

        positions = jax.random.randint(key, (self.members, self.batch_size), 0, training.size)
        rows = jax.vmap(jax.vmap(bootstrap_row, (None, 0)))(state.bootstraps, positions)
        return jax.tree.map(lambda field: field[rows], training)

    def loss(
        self,
        networks: Ensemble[GaussianNetwork],
        inputs: Float[Array, "members batch input"],
        targets: Float[Array, "members batch observation"],
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Sum over members of the negative log-likelihood, the pressure on the bounds of the log-variance and
        the weight decay (PETS, appendix A.1; MBPO)."""
        means, log_variances = networks.each(inputs)
        likelihood = weighted_nll(means, log_variances, targets, self.variance_weight).mean((1, 2))
        bounds = networks.networks.highest_log_variance - networks.networks.lowest_log_variance
        layers = networks.networks.network.layers
        decays = jnp.linspace(*self.weight_decay, len(layers))
        decay = sum(
            0.5 * rate * jnp.sum(jnp.square(layer.weight)) for rate, layer in zip(decays, layers, strict=True)
        )
        # MBPO leaves out the Gaussian's factor 1/2, and its two other weights are set against that scale.
        loss = jnp.sum(2.0 * likelihood) + self.bounds_weight * jnp.sum(bounds) + decay
        return loss, {
            "dynamics/loss": loss,
            "dynamics/negative_log_likelihood": gaussian_nll(means, log_variances, targets).mean(),
            "dynamics/error": jnp.square(means - targets).mean(),
        }

    def keep_best(
        self, best: BestMembers, networks: Ensemble[GaussianNetwork], errors: Float[Array, " members"]
    ) -> BestMembers:
        """Take over the weights of each member whose held-out error has never been lower.

        Once patience has run out nothing changes any more: how long other seeds go on is of no consequence.
        """
        running = best.stalled < self.patience
        lower = running & (errors < best.errors)
        progress = running & (errors < (1.0 - self.improvement) * best.milestones)
        take = lambda new, old: jnp.where(lower.reshape(-1, *[1] * (new.ndim - 1)), new, old)
        return BestMembers(
            networks=jax.tree.map(take, networks, best.networks),
            errors=jnp.where(lower, errors, best.errors),
            milestones=jnp.where(progress, errors, best.milestones),
            stalled=jnp.where(jnp.any(progress), 0, best.stalled + running).astype(jnp.int32),
        )


def held_out_errors(networks: Ensemble[GaussianNetwork], data: SplitTransitions) -> Float[Array, " members"]:
    """Each member's mean squared error of the predicted mean change, in standard deviations squared."""
    held_out = data.held_out
    means, _ = networks(data.scales.inputs(held_out.observations, held_out.actions))
    return jnp.square(means - data.scales.targets(held_out)).mean((1, 2))
