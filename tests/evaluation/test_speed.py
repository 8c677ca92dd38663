"""Counting work and timing it; how long anything takes is never asserted."""

import jax
import jax.numpy as jnp
import pytest

from langevin.evaluation import workloads
from langevin.evaluation.speed import FEWEST_REPEATS, Program, machine, matmul_flops, matmul_peak, measure
from langevin.evaluation.workloads import (
    WORKLOADS,
    learner_stage,
    noise,
    training_program,
    update_flops,
)
from langevin.nets.convolution import convolve
from langevin.policies.td3bc import TD3BC
from langevin.training.algorithms import offline

ROWS, INNER, COLUMNS = 3, 5, 7
LEFT, RIGHT = jnp.ones((ROWS, INNER)), jnp.ones((INNER, COLUMNS))
PRODUCT = 2 * ROWS * INNER * COLUMNS


def test_a_product_costs_two_operations_a_term():
    assert matmul_flops(jnp.matmul, LEFT, RIGHT) == PRODUCT
    assert matmul_flops(jax.jit(jnp.matmul), LEFT, RIGHT) == PRODUCT
    assert matmul_flops(lambda a, b: jnp.exp(a) @ b + 1, LEFT, RIGHT) == PRODUCT


def test_its_gradients_cost_one_product_each():
    loss = lambda a, b: jnp.sum((a @ b) ** 2)
    assert matmul_flops(jax.grad(loss), LEFT, RIGHT) == 2 * PRODUCT
    assert matmul_flops(jax.grad(loss, (0, 1)), LEFT, RIGHT) == 3 * PRODUCT


def test_a_batch_costs_its_members():
    batch = jnp.ones((4, ROWS, INNER))
    assert matmul_flops(jax.vmap(jnp.matmul, (0, None)), batch, RIGHT) == 4 * PRODUCT
    assert matmul_flops(jax.vmap(jnp.matmul), batch, jnp.ones((4, INNER, COLUMNS))) == 4 * PRODUCT


def test_a_scan_costs_its_length_and_a_branch_its_mean():
    def scanned(a, b):
        return jax.lax.scan(lambda carry, _: (carry, carry @ b), a, length=6)

    assert matmul_flops(scanned, LEFT, RIGHT) == 6 * PRODUCT

    def branching(step, a, b):
        return jax.lax.cond(step == 0, lambda: a @ b, lambda: jnp.zeros((ROWS, COLUMNS)))

    assert matmul_flops(branching, jnp.int32(0), LEFT, RIGHT) == PRODUCT / 2


def test_a_product_in_a_loop_of_unknown_length_is_refused_and_other_loops_cost_nothing():
    def loop(body):
        return lambda a: jax.lax.while_loop(lambda a: a.sum() < 9, body, a)

    square = jnp.ones((3, 3))
    assert matmul_flops(loop(lambda a: a + 1), square) == 0
    with pytest.raises(ValueError, match="while_loop cannot be counted"):
        matmul_flops(loop(lambda a: a @ a), square)


def test_a_convolution_costs_what_its_products_would():
    x, kernel = jnp.ones((2, 10, 3)), jnp.ones((5, 3, 4))
    convolved = lambda x, kernel: jax.lax.conv_general_dilated(
        x, kernel, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
    )
    assert matmul_flops(convolved, x, kernel) == 2 * (2 * 6 * 4) * (5 * 3)


def test_shapes_are_enough():
    shape = lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype)
    assert matmul_flops(jnp.matmul, shape(LEFT), shape(RIGHT)) == PRODUCT


def test_an_update_of_td3bc_costs_the_papers_networks():
    """Weights of the three layers times batch times 2, forwards; backwards as much again for the weights, and for
    the inputs of every layer whose inputs depend on what is trained."""
    observation, action, width, batch = 17, 6, 256, 256
    hidden, actor_in, critic_in = width * width, observation * width, (observation + action) * width
    actor, critic = actor_in + hidden + width * action, critic_in + hidden + width
    targets = actor + 2 * critic
    critics = 2 * (2 * critic + hidden + width)
    # The actor's loss: forwards through actor and first critic, through that critic back to the action, through
    # the actor back to its weights.
    improvement = actor + critic + critic + actor + hidden + width * action
    expected = 2 * batch * (targets + critics + improvement / 2)
    assert update_flops(*learner_stage("td3bc", observation, action)) == expected


def test_the_policy_of_a_learner_that_imagines_is_what_is_timed():
    """MOPO teaches the SAC of the published size, and its ensemble costs an update of the policy nothing."""
    stage, data = learner_stage("mopo")
    assert stage.name == "policy"
    assert update_flops(stage, data) == update_flops(*learner_stage("sac"))
    assert learner_stage("mppi")[0].name == "dynamics"


def test_the_fast_convolution_costs_two_products_an_output_where_the_direct_one_costs_five():
    steps, taps, points, channels = 100, 5, 8, 16
    x, weight = jnp.ones((steps, channels)), jnp.ones((taps, channels, channels))
    cost = lambda form: matmul_flops(lambda x, weight: convolve(x, weight, padding=2, form=form), x, weight)
    assert cost("matmul") == 2 * steps * taps * channels**2
    assert cost("native") == 2 * steps * taps * channels**2
    kernels_at_points = 2 * points * taps * channels**2
    assert cost("fast") == 2 * steps * 2 * channels**2 + kernels_at_points


def test_a_training_program_goes_on_from_where_it_stands_for_all_seeds(monkeypatch):
    config = offline.with_learner(offline.OfflineConfig, TD3BC)(steps=1, batch_size=4)
    system = workloads.world_model_settings()[1]
    stage, transitions = offline.stages(config, system)[0], offline.prepare(config, noise(4, 2, rows=500))
    steps = []

    class Watched:
        """Takes the place of the compiled programs."""

        def __init__(self, *arguments):
            pass

        def init(self):
            return "state"

        def advance(self, state, alive, step, length):
            steps.append((alive.tolist(), step, length))
            return state, alive, {}

    monkeypatch.setattr(workloads, "StagePrograms", Watched)
    program = training_program(stage, transitions, [0, 1], chunk_steps=3)
    program.run()
    program.run()
    assert steps == [([True, True], 0, 3), ([True, True], 3, 3)]
    assert program.units == 6
    assert program.flops == 6 * update_flops(stage, transitions)


def test_noise_is_a_dataset_of_whole_episodes():
    data = noise(3, 2, rows=1500)
    assert data.episode_lengths().tolist() == [500, 500, 500]
    assert data.observations.shape == (1500, 3)


def test_a_measurement_counts_repeats_after_compiling_and_warming_up():
    runs = []
    measured = measure(Program(lambda: runs.append(None), units=4, flops=8e9), seconds=1e-9)
    assert measured.repeats == FEWEST_REPEATS
    assert len(runs) == FEWEST_REPEATS + 2
    assert measured.flops_per_unit == 2e9
    assert measured.gflops_per_second == pytest.approx(2 * measured.units_per_second)


def test_the_peak_and_the_machine_are_described():
    assert matmul_peak(1e-9, size=16) > 0
    assert machine()["backend"] == jax.default_backend()


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_runs_and_has_work_to_do(name):
    program = WORKLOADS[name].build(2)
    program.run()
    assert program.units > 0
    assert program.flops > 0
