"""Exported policies act as the ones they came from, in a process that has neither Langevin nor (for NumPy) JAX."""

import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.errors import UsageError
from langevin.policies.base import Policy
from langevin.policies.bc import BC
from langevin.policies.bcq import BCQ
from langevin.policies.export import numpy_act, to_numpy, to_stablehlo
from langevin.policies.iql import IQL
from langevin.policies.sac import SAC
from langevin.policies.td3bc import TD3BC
from tests.policies import by_hand

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "deploy.md"
NETWORKS = {
    "bc": BC(width=8, depth=2),
    "gaussian bc": BC(width=8, depth=1, gaussian=True),
    "td3bc": TD3BC(width=8, depth=1),
    "sac": SAC(width=8, depth=1),
    "iql": IQL(width=8, depth=1),
}
OBSERVATIONS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def policy_of(learner) -> Policy:
    return learner.policy(learner.init(by_hand.make_spec(), key=jax.random.key(0)))


def listing(title: str) -> str:
    found = re.search(rf'```python title="{title}"\n(.*?)```', PAGE.read_text("utf-8"), re.DOTALL)
    assert found
    return found[1]


def run_alone(code: str, *arguments: str, without: tuple[str, ...], folder: Path) -> np.ndarray:
    """What the code prints as JSON, in a process where the named packages cannot be imported."""
    blocked = "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in without)
    command = [sys.executable, "-c", blocked + code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_numpy_form_acts_as_the_policys_mode(name):
    policy = policy_of(NETWORKS[name])
    expected, _ = policy.greedy().act(jnp.asarray(OBSERVATIONS), None, key=jax.random.key(0))
    with np.load(io.BytesIO(to_numpy(policy)), allow_pickle=False) as file:
        np.testing.assert_allclose(numpy_act(dict(file), OBSERVATIONS), expected, atol=1e-6)


def test_the_lines_on_the_page_act_with_numpy_alone(tmp_path):
    policy = policy_of(NETWORKS["td3bc"])
    (tmp_path / "policy.npz").write_bytes(to_numpy(policy))
    code = listing("act.py") + (
        "import json\n"
        f"actions = act(dict(np.load('policy.npz')), np.array({OBSERVATIONS.tolist()}))\n"
        "print(json.dumps(actions.tolist()))\n"
    )
    found = run_alone(code, without=("langevin", "jax", "equinox"), folder=tmp_path)
    expected, _ = policy.act(jnp.asarray(OBSERVATIONS), None, key=jax.random.key(0))
    np.testing.assert_allclose(found, expected, atol=1e-6)


class Counting(Policy):
    """Acts by how often it was asked and what it earned, with noise: a policy with memory that heeds rewards."""

    gain: jax.Array

    def start(self, batch_size):
        return {"steps": jnp.zeros(batch_size, jnp.int32), "earned": jnp.zeros(batch_size)}

    def act(self, observations, memory, *, key):
        noise = jax.random.normal(key, (observations.shape[0], 1))
        actions = (
            self.gain * memory["steps"][:, None] + memory["earned"][:, None] + observations[:, :1] + noise
        )
        return actions, memory | {"steps": memory["steps"] + 1}

    def observe(self, memory, rewards):
        return memory | {"earned": memory["earned"] + rewards}


def test_the_lines_on_the_page_run_the_compiled_form_with_its_memory_and_without_langevin(tmp_path):
    policy = Counting(jnp.array(2.0))
    (tmp_path / "policy.zip").write_bytes(to_stablehlo(policy, 3, 4))
    code = listing("planner.py") + (
        "policy = ExportedPolicy('policy.zip')\n"
        f"observations = {OBSERVATIONS.tolist()}\n"
        "acted = []\n"
        "for seed in (0, 1, 2):\n"
        "    acted.append(policy.act(observations, seed).tolist())\n"
        "    policy.observe([1.0, 2.0, 3.0, 4.0])\n"
        "print(json.dumps(acted))\n"
    )
    found = run_alone(code, without=("langevin", "equinox"), folder=tmp_path)
    memory, expected = policy.start(4), []
    for seed in range(3):
        actions, memory = policy.act(jnp.asarray(OBSERVATIONS), memory, key=jax.random.key(seed))
        expected.append(actions)
        memory = policy.observe(memory, jnp.arange(1.0, 5.0))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_policy_of_several_networks_has_no_numpy_form_and_a_compiled_one():
    policy = policy_of(BCQ(width=8, depth=1, vae_width=8, act_candidates=4))
    with pytest.raises(UsageError, match=r"BCQPolicy is more than one network.*--format stablehlo"):
        to_numpy(policy)
    with zipfile.ZipFile(io.BytesIO(to_stablehlo(policy, 3, 4))) as file:
        program = jax.export.deserialize(bytearray(file.read("act.stablehlo")))
        assert json.loads(file.read("metadata.json"))["observation_size"] == 3
    found, memory = program.call(jnp.asarray(OBSERVATIONS), np.uint32(5), [])
    expected, _ = policy.act(jnp.asarray(OBSERVATIONS), None, key=jax.random.key(5))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert memory == []


def test_the_numpy_form_does_not_hide_another_activation():
    policy = policy_of(BC(width=8, depth=1))
    other = eqx.tree_at(lambda p: p.actor.network, policy, replace_fn=lambda n: _with_activation(n))
    with pytest.raises(UsageError, match="stablehlo"):
        to_numpy(other)


def _with_activation(network):
    changed = object.__new__(type(network))
    object.__setattr__(changed, "layers", network.layers)
    object.__setattr__(changed, "activation", jax.nn.tanh)
    return changed
