"""What halting sees of walls, counted on rollouts that can be read off."""

import jax.numpy as jnp
import pytest

from langevin.errors import UsageError
from langevin.experiments.halt_margins import HaltMargins, not_yet, share, table


def test_a_wall_is_unseen_if_a_rollout_is_inside_it_before_it_leaves_the_data():
    """The first stays outside, the second is seen one state before, the third in the wall itself, the fourth after."""
    in_wall = jnp.array([[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1], [0, 1, 0, 0]], bool)
    left = jnp.array([[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]], bool)
    assert share(in_wall) == 0.75
    assert share(left) == 1.0
    assert share(in_wall & not_yet(left)) == 0.25


def test_the_table_has_a_row_a_margin():
    row = {"margin": 2.5, "through_a_wall": 0.6, "unseen": 0.55, "oracle_halted": 1.0}
    assert table([row]).splitlines()[2] == "| 2.5 | 60% | 55% | 100% |"


def test_a_folder_without_the_variants_is_refused_with_the_command_that_makes_them(tmp_path):
    with pytest.raises(
        UsageError, match=r"holds no finished ensemble\+halt; run .*dydiff_gain with --variants base"
    ):
        HaltMargins(tmp_path).run()
