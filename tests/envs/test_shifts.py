"""Physics shifts: they bite, by about as much as was measured, and the numbers alone rebuild them elsewhere."""

import json
import pickle
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

from langevin.envs.gymnasium_envs import environment_of
from langevin.envs.locomotion import LocomotionSimulator
from langevin.envs.robot_model import robot_model
from langevin.envs.robots import ROBOTS
from langevin.envs.shifts import NAMED_SHIFTS, PhysicsShift, shift_tables, shifts_of
from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import TASKS, get_task
from langevin.errors import UsageError

COPIES, STEPS = 64, 30


def one_step_differences(task_id: str) -> np.ndarray:
    """|next state here - next state of the source| under the same actions from the states of the source's own
    random rollouts, in standard deviations of what one step changes."""
    source = make_simulator(get_task(task_id.split("/")[0]), COPIES, threads=2)
    target = make_simulator(get_task(task_id), COPIES, threads=2)
    assert isinstance(source, LocomotionSimulator)
    assert isinstance(target, LocomotionSimulator)
    rng = np.random.default_rng(0)
    differences, changes = [], []
    source.reset(rng)
    for _ in range(STEPS):
        positions, velocities = source.physical_state()
        # As far along x as an expert gets: stiffness of rootx pulls the harder the farther it has come.
        positions[:, 0] = rng.uniform(0, 20, COPIES)
        actions = rng.uniform(-1, 1, (COPIES, source.task.action_size))
        for simulator in (source, target):
            simulator.set_physical_state(positions, velocities)
        seen = source.observe()
        ours, _, ends = source.step(actions)
        theirs, _, _ = target.step(actions)
        differences.append(np.abs(ours - theirs))
        changes.append(ours - seen)
        source.reset_rows(ends, rng)
    return np.concatenate(differences) / np.concatenate(changes).std(axis=0)


# Mean one-step difference over its standard deviation, measured under an expert's actions when the settings were
# chosen; random actions visit other states, so the order of magnitude is what can be expected here.
MEASURED = {
    "halfcheetah/total_mass": 0.170,
    "halfcheetah/torso_size": 0.217,
    "halfcheetah/control_range": 0.160,
    "walker2d/thigh_action": 0.193,
    "walker2d/foot_gear": 0.035,
    "walker2d/foot_length": 0.442,
    "hopper/foot_friction": 0.021,
    "hopper/torso_stiffness": 0.0006,
    "hopper/torso_stiffness_strong": 0.050,
    "hopper/leg_size": 0.023,
}


@pytest.fixture(scope="module")
def differences():
    return {task_id: float(one_step_differences(task_id).mean()) for task_id in NAMED_SHIFTS}


@pytest.mark.parametrize("task_id", NAMED_SHIFTS)
def test_every_setting_moves_the_system(differences, task_id):
    assert differences[task_id] > 1e-5


@pytest.mark.parametrize("task_id", MEASURED)
def test_a_setting_moves_the_system_by_about_what_was_measured(differences, task_id):
    assert MEASURED[task_id] / 4 < differences[task_id] < 4 * MEASURED[task_id]


def test_stiffness_on_rooty_alone_is_almost_no_shift(differences):
    assert differences["hopper/torso_stiffness"] < 0.1 * differences["hopper/torso_stiffness_strong"]


@pytest.mark.parametrize(
    ("robot", "shifts", "field", "name", "expected"),
    [
        ("hopper", (PhysicsShift("friction", "foot_geom", value=1.7),), "geom_friction", "foot_geom", 1.7),
        ("hopper", (PhysicsShift("friction", "foot_geom", scale=0.5),), "geom_friction", "foot_geom", 1.0),
        ("hopper", (PhysicsShift("radius", "leg_geom", scale=2),), "geom_size", "leg_geom", 0.08),
        ("walker2d", (PhysicsShift("gear", "foot*", value=70),), "actuator_gear", None, [100, 100, 70] * 2),
        ("walker2d", (PhysicsShift("gear", "thigh_joint", value=0),), "actuator_gear", None, [0] + [100] * 5),
        ("halfcheetah", (PhysicsShift("control_range", "*", value=0.5),), "actuator_ctrlrange", None, [-0.5] * 6),
        ("hopper", (PhysicsShift("stiffness", "rooty", value=3),), "jnt_stiffness", None, [0, 0, 3, 0, 0, 0]),
        ("hopper", (PhysicsShift("damping", "*_joint", scale=2),), "dof_damping", None, [0, 0, 0, 2, 2, 2]),
    ],
    ids=str,
)  # fmt: skip
def test_an_edit_lands_in_the_compiled_model(robot, shifts, field, name, expected):
    model = robot_model(ROBOTS[robot], "v5", shifts)
    values = getattr(model, field)
    found = values[model.geom(name).id] if name else values
    np.testing.assert_allclose(
        found[..., 0] if found.ndim == 2 else np.ravel(found)[: np.size(expected)], expected
    )


def test_gravity_and_masses():
    hopper, cheetah = ROBOTS["hopper"], ROBOTS["halfcheetah"]
    moon = robot_model(hopper, "v5", (PhysicsShift("gravity", value=1.62),))
    np.testing.assert_allclose(moon.opt.gravity, [0, 0, -1.62])
    half = robot_model(cheetah, "v5", (PhysicsShift("total_mass", value=7.0),))
    source = robot_model(cheetah)
    np.testing.assert_allclose(half.body_mass, source.body_mass / 2, rtol=1e-12)
    np.testing.assert_allclose(half.body_inertia, source.body_inertia / 2, rtol=1e-12)
    heavy = robot_model(hopper, "v5", (PhysicsShift("mass", "torso", scale=3),))
    np.testing.assert_allclose(heavy.body_mass, robot_model(hopper).body_mass * [1, 3, 1, 1, 1], rtol=1e-12)
    assert (heavy.dof_invweight0 != robot_model(hopper).dof_invweight0).any(), (
        "what depends on masses follows"
    )


def test_a_longer_foot_weighs_more_unless_told_otherwise():
    walker = ROBOTS["walker2d"]
    foot = lambda task_id: robot_model(walker, "v5", NAMED_SHIFTS[task_id]).body("foot").mass[0]
    source = robot_model(walker).body("foot").mass[0]
    assert foot("walker2d/foot_length_same_mass") == pytest.approx(source, rel=1e-6)
    # A capsule is a cylinder and a ball: r^2 pi (2 L) + 4/3 pi r^3.
    volume = lambda half_length: np.pi * 0.06**2 * (2 * half_length + 4 / 3 * 0.06)
    assert foot("walker2d/foot_length") / source == pytest.approx(volume(0.25) / volume(0.1), rel=1e-6)


def test_a_foot_that_grows_from_the_heel_keeps_its_heel():
    walker = ROBOTS["walker2d"]
    heel = lambda model: model.geom("foot_geom").pos[0] - model.geom("foot_geom").size[1]
    shifted = robot_model(walker, "v5", NAMED_SHIFTS["walker2d/foot_length_heel"])
    assert heel(shifted) == pytest.approx(heel(robot_model(walker)))
    centred = robot_model(walker, "v5", NAMED_SHIFTS["walker2d/foot_length"])
    assert heel(centred) == pytest.approx(heel(robot_model(walker)) - 0.15)


def test_the_cheetahs_mass_stays_when_its_torso_grows():
    model = robot_model(ROBOTS["halfcheetah"], "v5", NAMED_SHIFTS["halfcheetah/torso_size"])
    assert model.body_mass.sum() == pytest.approx(14.0)
    assert model.geom("torso").size[0] == 0.092
    assert model.geom("head").size[0] == 0.046


def test_levels_of_one_shift_differ_from_each_other():
    """Lower than the floor's 1.0, a foot's friction changes nothing: contact takes the larger of the two."""
    after = {}
    for friction in (2.0, 1.7, 1.0, 0.5):
        shifts = (PhysicsShift("friction", "foot_geom", value=friction),)
        env = gymnasium.make("langevin.envs.gymnasium_envs:langevin/hopper-v0", shifts=shift_tables(shifts))
        env.reset(seed=0)
        rng = np.random.default_rng(0)
        for _ in range(12):
            after[friction] = env.step(rng.uniform(-1, 1, 3).astype(np.float32))[0]
    assert np.abs(after[2.0] - after[1.7]).max() > 1e-4
    assert np.abs(after[1.7] - after[1.0]).max() > 1e-4
    np.testing.assert_array_equal(after[1.0], after[0.5])


@pytest.mark.parametrize(
    "task_id", ["hopper/leg_size", "walker2d-d4rl/foot_length_heel", "halfcheetah/total_mass"]
)
def test_gymnasium_rebuilds_a_shifted_task_and_it_steps_as_ours_does(task_id):
    task = get_task(task_id)
    env = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(environment_of(task).spec.to_json()))
    env.reset(seed=0)
    assert env.unwrapped.shifts == task.shifts
    ours = make_simulator(task, 1)
    ours.reset(np.random.default_rng(0))
    positions, velocities = ours.physical_state()
    env.unwrapped.set_state(positions[0], velocities[0])
    rng = np.random.default_rng(1)
    for _ in range(50):
        actions = rng.uniform(-1, 1, (1, task.action_size)).astype(np.float32)
        observations, rewards, ends = ours.step(actions)
        # Unclipped, as a policy of the source would act in a target with a smaller control range.
        seen, reward, ended, _, _ = env.unwrapped.step(actions[0].astype(np.float64))
        np.testing.assert_array_equal(observations[0], seen.astype(np.float32))
        assert rewards[0] == np.float32(reward)
        assert ends[0] == ended
        if ended:
            break


def test_another_process_rebuilds_it_from_json_alone():
    spec = environment_of(get_task("hopper/leg_size")).spec.to_json()
    program = (
        "import sys, gymnasium; from gymnasium.envs.registration import EnvSpec\n"
        "env = gymnasium.make(EnvSpec.from_json(sys.stdin.read()))\n"
        "print(env.unwrapped.model.geom('leg_geom').size[0])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], input=spec, capture_output=True, text=True, check=True
    )
    assert float(found.stdout.split()[-1]) == pytest.approx(0.04 * 4 / 3)


def test_a_shifted_environment_survives_pickling():
    env = environment_of(get_task("walker2d/foot_gear")).unwrapped
    again = pickle.loads(pickle.dumps(env))
    assert again.shifts == env.shifts
    np.testing.assert_array_equal(again.model.actuator_gear, env.model.actuator_gear)


@pytest.mark.parametrize("shifts", NAMED_SHIFTS.values(), ids=NAMED_SHIFTS)
def test_shifts_survive_json(shifts):
    assert shifts_of(json.loads(json.dumps(shift_tables(shifts)))) == shifts


def test_no_model_is_asked_for_by_a_file_or_leaves_one(tmp_path, monkeypatch):
    """MuJoCo writes MUJOCO_LOG.TXT where a deprecated setting is compiled."""
    monkeypatch.chdir(tmp_path)
    robot_model.__wrapped__(ROBOTS["halfcheetah"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"field": "colour", "value": 1.0}, "field must be one of mass, radius"),
        ({"field": "gravity"}, "needs either a value or a scale"),
        ({"field": "gravity", "value": 1.0, "scale": 2.0}, "needs either a value or a scale"),
        ({"field": "friction", "value": 1.0}, "friction needs the name of a geom"),
        ({"field": "gravity", "name": "torso", "value": 1.0}, "gravity belongs to the whole model"),
        ({"field": "mass", "name": "torso", "value": 0.0}, "mass must stay above 0, got 0"),
        ({"field": "gear", "name": "x", "scale": float("nan")}, "must be a finite number, got nan"),
        ({"field": "stiffness", "name": "x", "value": -1.0}, "stiffness must not be negative"),
        ({"field": "gear", "name": "x", "value": 1.0, "keep_mass": True}, "go with radius and half_length"),
    ],
)
def test_shifts_that_make_no_sense_are_refused(arguments, words):
    with pytest.raises(UsageError, match=words):
        PhysicsShift(**arguments)


@pytest.mark.parametrize(
    ("shift", "words"),
    [
        (PhysicsShift("friction", "feet", value=1.0), "no geom named 'feet'; it has floor, torso_geom"),
        (PhysicsShift("gear", "elbow", value=1.0), "no actuator named 'elbow'; it has thigh_joint"),
        (PhysicsShift("mass", "wing", value=1.0), "no body named 'wing'; it has torso, thigh"),
        (PhysicsShift("radius", "floor", value=1.0), "only a capsule's radius can be shifted; geom 'floor'"),
    ],
)
def test_names_the_model_does_not_have_are_refused(shift, words):
    with pytest.raises(UsageError, match=words):
        robot_model(ROBOTS["hopper"], "v5", (shift,))


def test_every_setting_of_the_paper_is_a_task():
    assert len([name for name in TASKS if "/" in name and name.split("/")[0] in ROBOTS]) == len(NAMED_SHIFTS)
