"""A simulated account: its content engine's schedule and draws, and how its posts are identified.

Here: which posts go live when, which arm and generator each is drawn for (through the same
``core.selection`` as a real engine), and the translation between the store's identifiers and times
and the world's numbers. Not here: what posts earn (``posts``, ``ledger``), and the weights in
force, which the caller supplies.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.core.observations import ObservedPost, TrackedPost
from genopt_pipeline.core.selection import arm_weights, draw, draw_arm
from genopt_pipeline.sandbox.posts import Posts, describe_posts
from genopt_pipeline.sandbox.randomness import (
    FloatArray,
    IntArray,
    Stream,
    normal_pair,
    uniform,
    uniform_pair,
)
from genopt_pipeline.sandbox.world import (
    HOURS_PER_DAY,
    HOURS_PER_WEEK,
    World,
    path_at,
    posts_between,
    rate_path,
)

#: Milliseconds since the epoch at which tweet identifiers begin to count.
SNOWFLAKE_EPOCH_MS: Final = 1_288_834_974_657
_SNOWFLAKE_SHIFT: Final = 22
_A_MONDAY: Final = datetime(1970, 1, 5, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_HOUR: Final = timedelta(hours=1)

#: The weights in force at a time, with their version.
WeightsAt = Callable[[datetime], tuple[Mapping[str, float], int]]


def snowflake(posted_at: datetime, counter: int) -> str:
    """The tweet identifier of a time: its milliseconds since 2010-11-04, then 22 counting bits."""
    milliseconds = (posted_at - datetime.fromtimestamp(0, UTC)) // _MILLISECOND
    low = counter % (1 << _SNOWFLAKE_SHIFT)
    return str(((milliseconds - SNOWFLAKE_EPOCH_MS) << _SNOWFLAKE_SHIFT) | low)


def _number_of(text: str) -> int:
    """A number of 62 bits that depends on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 2


@dataclass(frozen=True)
class SandboxAccount:
    """One simulated account; the same arguments give the same account for ever.

    Parameters
    ----------
    seed
        Below 2**64.
    start
        When the account and its schedule begin, with a time zone.
    world
        Its ``start_hour_of_week`` is set from ``start``.
    generators
        The names that the world's rates belong to, in this order. Other names are generators as
        well, added later: their rate depends on the seed and the name alone.
    holdout_share
        Share of the posts drawn in the arm ``holdout``.
    """

    seed: int
    start: datetime
    world: World
    generators: tuple[str, ...] = tuple(DEFAULT_WEIGHTS)
    holdout_share: float = 0.0
    _position: dict[str, int] = field(init=False, repr=False, compare=False)
    _paths: dict[int, FloatArray] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        if self.start.tzinfo is None:
            raise ValueError("the start of a simulated account needs a time zone (UTC)")
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"the seed must be from 0 to 2**64 - 1, not {self.seed}")
        if not self.generators or len(set(self.generators)) != len(self.generators):
            raise ValueError("a simulated account needs generators with different names")
        hour_of_week = ((self.start - _A_MONDAY) / _HOUR) % HOURS_PER_WEEK
        object.__setattr__(self, "start", self.start.astimezone(UTC))
        object.__setattr__(self, "generators", tuple(self.generators))
        object.__setattr__(self, "world", replace(self.world, start_hour_of_week=hour_of_week))
        object.__setattr__(self, "_position", {g: k for k, g in enumerate(self.generators)})

    def hours(self, at: datetime) -> float:
        """Hours from the account's start to ``at``; negative before it."""
        return (at - self.start) / _HOUR

    def time(self, hours: float) -> datetime:
        """The time ``hours`` after the start, cut to whole milliseconds as X reports it."""
        exact = self.start + timedelta(hours=hours)
        return exact - timedelta(microseconds=exact.microsecond % 1000)

    def decision_id(self, index: int) -> str:
        """The identifier of the engine's decision to write post ``index``."""
        return f"sandbox-{self.seed:x}-{index:07d}"

    def index_of(self, decision_id: str) -> int:
        """The number of a post in the world: the engine's own index, else one from the text.

        Posts that somebody recorded by hand have numbers below zero, so they earn like all others
        and never share the luck of a scheduled post.
        """
        prefix, _, number = decision_id.rpartition("-")
        if prefix == f"sandbox-{self.seed:x}" and number.isascii() and number.isdigit():
            return int(number)
        return -1 - _number_of(decision_id)

    def engine_posts(
        self, window_start: datetime, window_end: datetime, weights_at: WeightsAt
    ) -> list[ObservedPost]:
        """The posts that the content engine publishes in ``[window_start, window_end)``, in order.

        For each, ``weights_at(posted_at)`` gives the learned weights in force and their version;
        the arm and the generator are drawn with uniforms that depend on the seed and the post
        alone. ``selection_probability`` is that of the generator in the arm,
        ``generator_confidence`` its learned weight.
        """
        index, posted_hours = posts_between(
            self.world, self.seed, self.hours(window_start), self.hours(window_end) + 1.0
        )
        arm_u, generator_u = uniform_pair(self.seed, Stream.SELECTION, index)
        quality = uniform(self.seed, Stream.QUALITY, index)
        posts: list[ObservedPost] = []
        for row, number in enumerate(index.tolist()):
            posted_at = self.time(float(posted_hours[row]))
            if not window_start <= posted_at < window_end:
                continue
            weights, version = weights_at(posted_at)
            arm = draw_arm(float(arm_u[row]), self.holdout_share)
            name, probability = draw(arm_weights(weights, arm), float(generator_u[row]))
            posts.append(
                ObservedPost(
                    decision_id=self.decision_id(number),
                    tweet_id=snowflake(posted_at, number),
                    posted_at=posted_at,
                    generator_name=name,
                    generator_confidence=weights[name],
                    selection_probability=probability,
                    experiment_arm=arm,
                    weights_version=version,
                    quality_score=round(0.5 + 0.45 * float(quality[row]), 4),
                )
            )
        return posts

    def describe(self, posts: Sequence[TrackedPost]) -> Posts:
        """What the posts will earn, from their decision, time and generator alone."""
        index = np.array([self.index_of(post.decision_id) for post in posts], dtype=np.int64)
        hours = np.array([self.hours(post.posted_at) for post in posts], dtype=np.float64)
        names = [post.generator_name for post in posts]
        generator = np.array([self._generator(name) for name in names], dtype=np.int64)
        return describe_posts(
            self.world, self.seed, index, generator, hours, self._log_rates(generator, hours)
        )

    def _generator(self, name: str | None) -> int:
        if name is None:
            return -1
        position = self._position.get(name)
        return len(self.generators) + _number_of(name) if position is None else position

    def _log_rates(self, generator: IntArray, hours: FloatArray) -> FloatArray:
        """Log F/1K of the posts' generators; that of a post without a generator is the median."""
        world, n = self.world, len(self.generators)
        z, _ = normal_pair(self.seed, Stream.RATE, generator)
        rates = math.log(world.median_f_per_1k) + world.rate_spread * z
        rates[generator < 0] = math.log(world.median_f_per_1k)
        known = (generator >= 0) & (generator < n)
        since_start = np.maximum(hours[known], 0.0)
        path = self._path(math.floor(float(since_start.max(initial=0.0)) / HOURS_PER_DAY) + 1)
        account = np.zeros(len(since_start), dtype=np.int64)
        rates[known] = path_at(world, path, account, since_start, generator[known])
        return np.asarray(rates, dtype=np.float64)

    def _path(self, days: int) -> FloatArray:
        """The rates of at least so many days, kept: a longer path begins with the shorter one."""
        kept = self._paths.get(0)
        if kept is None or kept.shape[1] <= days:
            kept = rate_path(self.world, self.seed, max(2 * days, 64), len(self.generators))
            self._paths[0] = kept
        return kept

    def true_f_per_1k(self, at: datetime) -> dict[str, float]:
        """The true expected F/1K of the account's generators at a time, shocks left out."""
        day = max(self.hours(at), 0.0)
        n = np.arange(len(self.generators))
        path = self._path(math.floor(day / HOURS_PER_DAY) + 1)
        rates = path_at(self.world, path, np.zeros_like(n), np.full(len(n), day), n)
        return dict(zip(self.generators, np.exp(rates).tolist(), strict=True))
