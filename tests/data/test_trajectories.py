import numpy as np
import pytest

from langevin.data.trajectories import Trajectories
from langevin.errors import DatasetError


def test_sizes_starts_and_lengths_follow_the_ends(numbered):
    data = numbered([3, 1, 4])
    assert (data.transitions, data.episodes, data.observation_size, data.action_size) == (8, 3, 3, 2)
    assert data.episode_starts.tolist() == [0, 3, 4]
    assert data.episode_lengths().tolist() == [3, 1, 4]


def test_a_return_counts_every_row_of_its_episode_and_no_other(numbered):
    assert numbered([3, 1, 4]).episode_returns().tolist() == [0 + 1 + 2, 3, 4 + 5 + 6 + 7]


def test_returns_do_not_lose_small_rewards_in_long_episodes(fields):
    rows = 1_000_000
    data = Trajectories.blank(1, 1, np.array([-1.0]), np.array([1.0]), rows)
    object.__setattr__(data, "rewards", np.full(rows, 0.1, np.float32))
    assert data.episode_returns()[0] == pytest.approx(100_000, rel=1e-6)


def test_lists_and_wider_numbers_are_converted(fields):
    fields["rewards"] = list(range(8))
    fields["terminations"] = [0] * 7 + [1]
    fields["observations"] = fields["observations"].astype(np.float64)
    data = Trajectories(**fields)
    assert data.rewards.dtype == np.float32
    assert data.terminations.tolist() == [False] * 7 + [True]
    assert data.observations.dtype == np.float32


def test_blank_is_one_truncated_episode_whose_actions_are_allowed():
    data = Trajectories.blank(4, 2, np.array([0.5, -1]), np.array([1, -0.5]), rows=6)
    assert data.episode_ends.tolist() == [6]
    assert data.truncations.tolist() == [False] * 5 + [True]
    assert data.actions[0].tolist() == [0.5, -0.5]


def test_an_action_at_its_bound_may_be_off_by_rounding(fields):
    fields["actions"][2, 1] = np.nextafter(np.float32(1), np.float32(2))
    assert Trajectories(**fields).transitions == 8


def spoil(name, row, value):
    """Put one value into a field."""

    def change(fields):
        fields[name][row] = value

    return change


def replace(name, change):
    """Put a changed copy in a field's place."""
    return lambda fields: fields.update({name: change(fields[name])})


BAD_VALUES = [
    (spoil("observations", (2, 1), np.nan), r"observations row 2, column 1 is nan"),
    (spoil("next_observations", (7, 0), np.inf), r"next_observations row 7, column 0 is inf"),
    (spoil("actions", (5, 0), np.nan), r"actions row 5, column 0 is nan"),
    (spoil("rewards", 3, np.nan), r"rewards row 3 is nan"),
    (replace("rewards", lambda rewards: rewards + np.float64(1e300)), r"rewards row 0 is inf"),
    (spoil("action_high", 1, np.inf), r"action_high row 1 is inf"),
    (spoil("action_low", 0, 2), r"action_low row 0 is 2\.0, not below action_high 1\.0"),
    (spoil("actions", (6, 1), 1.01), r"actions row 6, column 1 is 1\.0.*, outside \[-1\.0, 1\.0\]"),
    (spoil("actions", (0, 0), -3), r"actions row 0, column 0 is -3\.0"),
]

BAD_SHAPES = [
    (replace("observations", lambda rows: rows[:-1]), r"observations must have shape \(8, 3\)"),
    (replace("observations", np.ravel), r"observations must have shape \(transitions, size\)"),
    (replace("observations", lambda rows: rows[:, :0]), r"observations must have shape .* got \(8, 0\)"),
    (replace("next_observations", lambda rows: rows[:, :2]), r"next_observations must .* got \(8, 2\)"),
    (replace("rewards", lambda rows: rows[:, None]), r"rewards must have shape \(8,\)"),
    (replace("action_low", lambda low: low[:1]), r"action_low must have shape \(2,\)"),
    (replace("rewards", lambda rows: [[1], [1, 2]]), r"rewards is ragged"),
]

BAD_TYPES = [
    (replace("rewards", lambda rows: ["good"] * 8), r"rewards must hold numbers"),
    (replace("truncations", lambda rows: [0.5] * 8), r"truncations must be 0 or 1, got 0\.5"),
    (replace("terminations", lambda rows: [np.nan] * 8), r"terminations must be 0 or 1, got nan in row 0"),
    (replace("episode_ends", lambda ends: ends + 0.5), r"episode_ends must hold row numbers"),
]

BAD_EPISODES = [
    (replace("episode_ends", lambda ends: ends[:0]), r"episode_ends is empty"),
    (replace("episode_ends", lambda ends: [3, 3, 8]), r"episode_ends row 1: episode 1 is empty"),
    (replace("episode_ends", lambda ends: [4, 3, 8]), r"episode_ends row 1: episode 1 is empty"),
    (replace("episode_ends", lambda ends: ends[:-1]), r"episode_ends must end at 8.*got 4"),
    (replace("episode_ends", lambda ends: [3, 4, 9]), r"episode_ends must end at 8.*got 9"),
    (spoil("truncations", 3, False), r"truncations row 3: episode 1 ends there with neither"),
    (spoil("terminations", 5, True), r"terminations row 5 is true before its episode's end"),
    (spoil("truncations", 1, True), r"truncations row 1 is true before its episode's end"),
    (
        spoil("next_observations", (1, slice(None)), 0),
        r"next_observations row 1 differs from observations row 2 of the same episode",
    ),
]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(change, message, id=message)
        for change, message in BAD_VALUES + BAD_SHAPES + BAD_TYPES + BAD_EPISODES
    ],
)
def test_malformed_data_are_refused_by_field_and_row(change, message, fields):
    change(fields)
    with pytest.raises(DatasetError, match=message) as refusal:
        Trajectories(**fields)
    assert "\n" not in str(refusal.value)


def test_a_dataset_of_no_rows_is_refused(fields):
    fields = {name: value[:0] if len(value) == 8 else value for name, value in fields.items()}
    with pytest.raises(DatasetError, match="at least one episode"):
        Trajectories(**fields)
