"""What some learners do to a dataset before they learn from it: keep its best episodes, rescale its rewards."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from langevin.data.trajectories import Trajectories
from langevin.errors import require_at_least


def best_episodes(trajectories: Trajectories, share: float) -> Trajectories:
    """The episodes of highest return, at least one of them, in the order they were logged. share: 0 to 1."""
    if share == 1:
        return trajectories
    count = max(round(share * trajectories.episodes), 1)
    return trajectories.select_episodes(np.sort(np.argsort(-trajectories.episode_returns())[:count]))


@dataclass(frozen=True)
class RewardScaling:
    """reward -> scale x reward + shift; scores are always of the rewards as they were."""

    return_range: float | None = None
    """Best less worst episode return after scaling (IQL in locomotion: 1000); none leaves the scale."""
    shift: float = 0.0
    """Added to every reward after scaling (-1 makes a sparse reward a cost of time)."""

    def __post_init__(self):
        if self.return_range is not None:
            require_at_least(0, return_range=self.return_range)

    def scale(self, trajectories: Trajectories) -> float:
        """The factor for these episodes; those that all return the same keep their scale."""
        returns = trajectories.episode_returns()
        spread = float(returns.max() - returns.min())
        return 1.0 if self.return_range is None or spread == 0 else self.return_range / spread

    def apply(self, trajectories: Trajectories, scale: float) -> Trajectories:
        """The data with other rewards, by the factor that these or other episodes have."""
        if scale == 1 and self.shift == 0:
            return trajectories
        return dataclasses.replace(
            trajectories, rewards=(scale * trajectories.rewards + self.shift).astype(np.float32)
        )
