"""The planar robots of offline reinforcement learning's benchmarks: what they see, earn and survive.

The constants are those of gymnasium's Hopper-v5, Walker2d-v5 and HalfCheetah-v5.
"""

from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Bool, Float

Physics = Literal["v5", "d4rl"]
"""v5: gymnasium's models as they are. d4rl: the body masses, friction and last reward that D4RL's data came from."""


@dataclass(frozen=True)
class Robot:
    """A robot that runs along x. Its observation is its joint positions without x, then its joint velocities.

    Lengths in metres, angles in radians, velocities per second.
    """

    name: str
    gymnasium_id: str
    xml_file: str
    d4rl_xml_file: str
    frame_skip: int
    """Simulation steps an environment step; an action is held for all of them."""
    positions: int
    """Joint positions, x among them; there are as many velocities."""
    actions: int
    control_cost: float
    """Taken from the reward, times the action's square."""
    healthy_reward: float
    """Paid for every step that ends in a healthy state."""
    height_range: tuple[float, float]
    angle_range: tuple[float, float]
    state_limit: float
    """Bound of every entry but height; beyond it the simulation has come apart."""
    reset_noise: float
    """Half-width of the uniform noise on the first positions; of the velocities too, unless `normal_velocities`."""
    normal_velocities: bool
    """Whether the first velocities are normal with standard deviation `reset_noise` instead."""
    velocity_clip: float
    """Bound at which velocities are shown (not simulated)."""

    @property
    def observation_size(self) -> int:
        return 2 * self.positions - 1

    def healthy(self, observations: Float[Any, "*batch observation"]) -> Bool[Any, "*batch"]:
        """Whether states go on; NumPy or JAX, so it works inside jit. A velocity beyond `state_limit` does not show
        in an observation that is clipped; the simulator looks at the state itself."""
        height, angle = observations[..., 0], observations[..., 1]
        inside = (self.height_range[0] < height) & (height < self.height_range[1])
        upright = (self.angle_range[0] < angle) & (angle < self.angle_range[1])
        whole = (abs(observations[..., 1:]) < self.state_limit).all(axis=-1)
        return inside & upright & whole


@dataclass(frozen=True)
class Falls:
    """Termination rule: the robot is no longer healthy."""

    robot: Robot

    def __call__(
        self,
        observations: Float[Any, "*batch observation"],
        actions: Float[Any, "*batch action"],
        next_observations: Float[Any, "*batch observation"],
    ) -> Bool[Any, "*batch"]:
        return ~self.robot.healthy(next_observations)


INFINITY = float("inf")
EVERYTHING = (-INFINITY, INFINITY)

HOPPER = Robot(
    "hopper", "Hopper-v5", "hopper.xml", "hopper.xml", frame_skip=4, positions=6, actions=3, control_cost=1e-3,
    healthy_reward=1.0, height_range=(0.7, INFINITY), angle_range=(-0.2, 0.2), state_limit=100.0,
    reset_noise=5e-3, normal_velocities=False, velocity_clip=10.0,
)  # fmt: skip
WALKER2D = Robot(
    "walker2d", "Walker2d-v5", "walker2d_v5.xml", "walker2d.xml", frame_skip=4, positions=9, actions=6,
    control_cost=1e-3, healthy_reward=1.0, height_range=(0.8, 2.0), angle_range=(-1.0, 1.0), state_limit=INFINITY,
    reset_noise=5e-3, normal_velocities=False, velocity_clip=10.0,
)  # fmt: skip
HALFCHEETAH = Robot(
    "halfcheetah", "HalfCheetah-v5", "half_cheetah.xml", "half_cheetah.xml", frame_skip=5, positions=9, actions=6,
    control_cost=0.1, healthy_reward=0.0, height_range=EVERYTHING, angle_range=EVERYTHING, state_limit=INFINITY,
    reset_noise=0.1, normal_velocities=True, velocity_clip=INFINITY,
)  # fmt: skip

ROBOTS = {robot.name: robot for robot in (HOPPER, WALKER2D, HALFCHEETAH)}
