import numpy as np
import pytest

from langevin.data.checks import find
from langevin.data.trajectories import Trajectories


def messages(data, level="warning"):
    return [f"{finding.field}: {finding.message}" for finding in find(data) if finding.level == level]


def test_healthy_data_give_notes_and_no_warnings(numbered):
    data = numbered([5, 5, 6])
    assert messages(data) == []
    notes = messages(data, "note")
    assert "episode_ends: 3 episodes, 5 to 6 steps, median 5" in notes
    assert "terminations: 0 of 3 episodes end in a terminal state" in notes


def spoiled(fields, **changes):
    return Trajectories(**{**fields, **changes})


def test_single_steps_are_counted(numbered):
    assert messages(numbered([1, 4, 1])) == ["episode_ends: 2 episodes are a single step long"]


def test_constant_columns_are_named(fields):
    fields["observations"][:, 1] = fields["next_observations"][:, 1] = 4
    fields["actions"][:, 0] = 0.25
    found = messages(Trajectories(**fields))
    assert "observations: constant in column 1" in found
    assert "actions: constant in column 0" in found


def test_saturated_actions_are_a_warning_above_half(fields):
    fields["actions"][:, 0] = [1, 1, -1, 1, 1, 0, 0, 0]
    fields["actions"][:, 1] = 0.5
    fields["actions"][0, 1] = -1
    assert "actions: at a bound in 62.5%, 12.5% of the rows, by column" in messages(Trajectories(**fields))


def test_repeated_transitions_are_counted_once_each(numbered):
    one = numbered([4])
    again = {
        name: np.concatenate([getattr(one, name)] * 3)
        for name in ("observations", "next_observations", "actions", "rewards", "terminations", "truncations")
    }
    data = Trajectories(
        **again, episode_ends=np.array([4, 8, 12]), action_low=one.action_low, action_high=one.action_high
    )
    assert "observations: 8 rows (66.67%) repeat an earlier transition" in messages(data)


def test_rows_that_differ_in_one_bit_do_not_count_as_repeated(numbered):
    rows = 100_000
    data = Trajectories.blank(2, 1, np.array([-1]), np.array([1]), rows)
    numbers = np.arange(rows, dtype=np.uint32).view(np.float32)
    object.__setattr__(data, "observations", np.stack([numbers, numbers[::-1]], axis=1) + np.float32(1))
    expected = rows - len(np.unique(data.observations, axis=0))
    found = [finding.message for finding in find(data) if "repeat" in finding.message]
    assert found == (
        [f"{expected} rows ({expected / rows:.2%}) repeat an earlier transition"] if expected else []
    )


def test_a_row_both_terminated_and_truncated_is_pointed_at(fields):
    fields["terminations"][2] = True
    assert any(
        "1 rows, the first 2, are both terminated and truncated" in text
        for text in messages(Trajectories(**fields))
    )


def test_a_successor_that_was_not_logged_is_pointed_at(fields):
    last = fields["episode_ends"] - 1
    fields["next_observations"][last] = fields["observations"][last]
    found = messages(Trajectories(**fields))
    assert any("3 rows, the first 2, do not move" in text for text in found)


@pytest.mark.parametrize("value", [0.0, -2.5])
def test_rewards_that_never_change_are_a_warning(value, fields):
    fields["rewards"][:] = value
    assert f"rewards: always {value:g}: nothing can be learned from them" in messages(Trajectories(**fields))
