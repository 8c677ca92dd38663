"""Which of two systems a transition came from: the evidence of how their dynamics differ.

The off-dynamics planner scores transitions by it (Eq. 5); DARA's reward (Liu et al. 2022) is made of two of them.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions, sample_transitions
from langevin.nets.mlp import MLP
from langevin.policies.optimization import apply_gradient, init_optimizer


class DomainClassifier(eqx.Module):
    """(s, a) or (s, a, s') -> log odds of the target system. The network sees z-scored inputs and the step s' - s."""

    network: MLP
    normalizer: GaussianNormalizer
    sees_next: bool = eqx.field(static=True)

    def logit(self, transitions: Transitions) -> Float[Array, " rows"]:
        """log p(target | x) - log p(source | x)."""
        inputs = self.normalizer.normalize(classifier_inputs(transitions, self.sees_next))
        return jax.vmap(self.network)(inputs)[:, 0]

    def probability(self, transitions: Transitions) -> Float[Array, " rows"]:
        """p(target | x)."""
        return jax.nn.sigmoid(self.logit(transitions))


class DynamicsClassifier(eqx.Module):
    """What s' says of the system beyond what (s, a) says already: the difference of two classifiers' log odds.

    The log odds of (s, a, s') are those of the dynamics plus those of who acted (DARA, Eq. 11).
    Where the two datasets were collected by different policies, the second part hides the first.
    """

    transition: DomainClassifier
    behaviour: DomainClassifier

    def logit(self, transitions: Transitions) -> Float[Array, " rows"]:
        """log p(s' | s, a, target) - log p(s' | s, a, source)."""
        return self.transition.logit(transitions) - self.behaviour.logit(transitions)

    def probability(self, transitions: Transitions) -> Float[Array, " rows"]:
        """Of the target, had both systems' data the same states and actions."""
        return jax.nn.sigmoid(self.logit(transitions))


class DomainState(eqx.Module):
    """A classifier in training."""

    classifier: DomainClassifier
    optimizer_state: optax.OptState


class DomainTraining(eqx.Module):
    """Binary cross-entropy (off-dynamics planner, Eq. 5) on batches of which half come from each system.

    Without equal halves, 2 million source rows against 10 thousand of the target drive every probability to 0.
    width, depth: of the ReLU network. batch_size: rows, both systems together. input_noise: standard deviation added
    to z-scored inputs in training, which keeps the odds finite where the two systems never overlap (DARA, appendix).
    """

    width: int = eqx.field(static=True, default=32)
    depth: int = eqx.field(static=True, default=2)
    batch_size: int = eqx.field(static=True, default=256)
    learning_rate: float = eqx.field(static=True, default=3e-4)
    input_noise: float = eqx.field(static=True, default=0.0)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam."""
        return optax.adam(self.learning_rate)

    def init(
        self, source: Transitions, target: Transitions, sees_next: bool, *, key: PRNGKeyArray
    ) -> DomainState:
        """A fresh network; inputs are scaled by both systems' data, each counted half."""
        both = [GaussianNormalizer.fit(classifier_inputs(rows, sees_next)) for rows in (source, target)]
        mean = (both[0].mean + both[1].mean) / 2
        variance = sum((part.std**2 + (part.mean - mean) ** 2) / 2 for part in both)
        network = MLP(mean.size, 1, self.width, self.depth, jax.nn.relu, key=key)
        classifier = DomainClassifier(network, GaussianNormalizer(mean, jnp.sqrt(variance)), sees_next)
        return DomainState(classifier, init_optimizer(self.optimizer, network))

    def loss(
        self,
        network: MLP,
        classifier: DomainClassifier,
        source: Transitions,
        target: Transitions,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """-mean log p(target | target rows) - mean log p(source | source rows), halved; beside it the accuracy."""

        def logits(rows: Transitions, key: PRNGKeyArray) -> Float[Array, " rows"]:
            inputs = classifier.normalizer.normalize(classifier_inputs(rows, classifier.sees_next))
            noisy = inputs + self.input_noise * jax.random.normal(key, inputs.shape)
            return jax.vmap(network)(noisy)[:, 0]

        source_key, target_key = jax.random.split(key)
        of_source, of_target = logits(source, source_key), logits(target, target_key)
        entropy = jax.nn.softplus(of_source).mean() + jax.nn.softplus(-of_target).mean()  # Eq. 5 on logits
        return entropy / 2, ((of_source < 0).mean() + (of_target > 0).mean()) / 2

    def update(
        self,
        state: DomainState,
        source: Transitions,
        target: Transitions,
        *,
        step: Int[Array, ""],
        key: PRNGKeyArray,
    ) -> tuple[DomainState, dict[str, Float[Array, ""]]]:
        """Draw half a batch from each system and take one gradient step."""
        source_key, target_key, noise_key = jax.random.split(key, 3)
        half = self.batch_size // 2
        rows = (
            sample_transitions(source, half, key=source_key),
            sample_transitions(target, half, key=target_key),
        )
        (loss, accuracy), gradient = eqx.filter_value_and_grad(self.loss, has_aux=True)(
            state.classifier.network, state.classifier, *rows, key=noise_key
        )
        network, optimizer_state = apply_gradient(
            self.optimizer, state.classifier.network, gradient, state.optimizer_state
        )
        classifier = eqx.tree_at(lambda c: c.network, state.classifier, network)
        return DomainState(classifier, optimizer_state), {"domain/loss": loss, "domain/accuracy": accuracy}


def classifier_inputs(transitions: Transitions, sees_next: bool) -> Float[Array, "rows inputs"]:
    """[s, a] or [s, a, s' - s]: a step is small against a state, and the dynamics are in it."""
    parts = [transitions.observations, transitions.actions]
    if sees_next:
        parts.append(transitions.next_observations - transitions.observations)
    return jnp.concatenate(parts, axis=-1)
