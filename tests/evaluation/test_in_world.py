"""Predicted returns in a system that can be worked out by hand: s' = s + 0.1 a, reward s, a = gain s."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer
from langevin.dynamics.support import Support
from langevin.errors import UsageError
from langevin.evaluation.in_world import ImaginedEpisodes, predict_returns
from langevin.experiments.in_world import noise_interval, rank_correlation
from langevin.imagination.worlds import EnsembleWorld
from langevin.policies.base import Policy
from tests.known_models import linear_ensemble, linear_reward, never

STEP = 0.1
STARTS = jnp.array([[1.0], [-0.5]])
EXACT = linear_ensemble(((0.0, STEP, 0.0), (0.0, 0.0, -50.0)))
EVERYWHERE = Support(jnp.zeros((1, 1)), jnp.array(jnp.inf), GaussianNormalizer(jnp.zeros(1), jnp.ones(1)))


class Feedback(Policy):
    """a = gain s."""

    gain: jax.Array

    def start(self, batch_size):
        return None

    def act(self, observations, memory, *, key):
        return self.gain * observations, None


class Remembering(Feedback):
    """Keeps a count."""

    def start(self, batch_size):
        return jnp.zeros(batch_size)


def above_two(before, actions, after):
    return after[..., 0] > 2.0


def predict(gain, settings, *, dynamics=EXACT, termination=never, support=EVERYWHERE, seed=0):
    world = EnsembleWorld(dynamics, linear_reward(1.0, 0.0), None, termination)
    return predict_returns(
        Feedback(jnp.array(gain)), world, support, STARTS, settings, key=jax.random.key(seed)
    )


@pytest.mark.parametrize("piece", [8, 25, 40])
def test_an_episode_goes_on_from_piece_to_piece(piece):
    """Its discounted return is a geometric sum, however it is cut."""
    found = predict(-3.0, ImaginedEpisodes(25, piece, noises=2, discount=0.9))
    ratio = 0.9 * (1 - 3 * STEP)
    expected = np.asarray(STARTS)[:, 0] * (1 - ratio**25) / (1 - ratio)
    np.testing.assert_allclose(found.returns, np.tile(expected, (2, 1)), rtol=1e-4)
    np.testing.assert_array_equal(found.lengths, 25)


@pytest.mark.parametrize("piece", [1, 2, 5])
def test_a_terminal_ends_it_and_its_own_reward_counts(piece):
    """1, 1.3, 1.69 and then 2.197, which is above two: three transitions. The other start never gets there."""
    found = predict(3.0, ImaginedEpisodes(10, piece, noises=1), termination=above_two)
    np.testing.assert_array_equal(found.lengths, [[3, 10]])
    assert found.returns[0, 0] == pytest.approx(1 + 1.3 + 1.69, rel=1e-5)


def test_it_is_told_which_episodes_left_the_data():
    """Data at 0, known up to a distance of 1.5: 1 grows beyond, -0.5 x 1.3^3 does not. What happens after a terminal,
    or after the last step, is nobody's business."""
    near = Support(EVERYWHERE.states, jnp.array(1.5), EVERYWHERE.normalizer)
    settings = ImaginedEpisodes(3, 2, noises=1)
    assert predict(3.0, settings, support=near).left.tolist() == [[True, False]]
    assert predict(3.0, ImaginedEpisodes(1, 2, noises=1), support=near).left.tolist() == [[False, False]]
    ended = predict(
        3.0, settings, support=near, termination=lambda before, actions, after: after[..., 0] > 1.2
    )
    assert ended.left.tolist() == [[False, False]]


def test_the_interval_is_of_the_models_noise():
    """Members that know the same law leave nothing open; members that push one way and the other leave a spread,
    and the truth between."""
    settings = ImaginedEpisodes(30, 30, noises=20)
    low, high = noise_interval(predict(0.0, settings))
    assert low == high
    wind = [((0.0, 0.0, push), (0.0, 0.0, -50.0)) for push in (-0.2, 0.2)]
    found = predict(0.0, settings, dynamics=linear_ensemble(*wind))
    low, high = noise_interval(found)
    assert low < 30 * float(STARTS.mean()) < high
    assert high - low > 0.1


def test_a_policy_with_memory_is_refused():
    world = EnsembleWorld(EXACT, linear_reward(1.0, 0.0), None, never)
    with pytest.raises(UsageError, match="without memory"):
        predict_returns(
            Remembering(jnp.array(1.0)), world, EVERYWHERE, STARTS, ImaginedEpisodes(3), key=jax.random.key(0)
        )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"steps": 0}, "steps must be at least 1"), ({"steps": 5, "noises": 0}, "noises must be at least 1"),
     ({"steps": 5, "discount": 1.5}, "discount must lie")],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        ImaginedEpisodes(**wrong)


def test_the_rank_correlation_is_spearmans():
    """Any rising function of the truth ranks as it does; d^2 = 2 for one pair of neighbours changed of five."""
    truth = np.array([3.0, 1.0, 4.0, 1.5, 9.0])
    assert rank_correlation(np.exp(truth), truth) == pytest.approx(1)
    assert rank_correlation(-truth, truth) == pytest.approx(-1)
    assert rank_correlation(np.array([3.0, 1.5, 4.0, 1.0, 9.0]), truth) == pytest.approx(1 - 6 * 2 / (5 * 24))
    assert rank_correlation(np.ones(5), truth) is None
