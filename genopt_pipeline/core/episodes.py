"""Episodes: a generator goes viral or fails, and one day that is over.

What belongs here: judging every generator at a window's end, the comparison with the episodes that
are open, and the status that follows. What does not: where episodes are kept (they are events),
and what a policy does with the weight of a failing or viral generator.

An episode begins once and ends once, however many cycles see the same posts. Between the bounds
at which it begins and at which it ends, and where a generator cannot be judged, nothing changes:
data that went missing neither cure nor condemn.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import pandas as pd

from genopt_pipeline.core.generators import DRAWN_STATUSES, GeneratorStatus
from genopt_pipeline.core.policies.contract import GeneratorState, WeightProposal
from genopt_pipeline.core.tiers import ONE_FOLLOWER

EpisodeKind = Literal["viral", "failing"]
Episode = tuple[EpisodeKind, str]

#: The event that begins an episode of each kind, and the one that ends it.
BEGINS: Final[dict[EpisodeKind, str]] = {"viral": "viral_boost", "failing": "failure_detected"}
ENDS: Final[dict[EpisodeKind, str]] = {"viral": "viral_ended", "failing": "recovered"}
#: A generator in testing has shown that it can be judged and does not fail.
PROVEN: Final = "generator_enabled"


@dataclass(frozen=True)
class EpisodeConfig:
    """When an episode begins and ends.

    ``viral_f_per_1k`` begins a viral episode, ``viral_ends_f_per_1k`` ends it. ``min_posts``: posts
    below which a generator is not judged. ``recovered_probability``: a failing generator has
    recovered when the policy holds its failing for no more probable than this; the policy calls
    it failing from a much higher probability on, and the gap keeps it from going to and fro.
    """

    viral_f_per_1k: float = 5.0
    viral_ends_f_per_1k: float = 4.0
    min_posts: int = 3
    recovered_probability: float = 0.5

    def __post_init__(self) -> None:
        """Refuse an end that lies beyond the beginning."""
        if not self.viral_ends_f_per_1k <= self.viral_f_per_1k:
            raise ValueError("a viral episode must end at or below the F/1K at which it begins")


@dataclass(frozen=True)
class Judgement:
    """What a window says of a generator. True: it is; False: it is not; None: no change."""

    viral: bool | None
    failing: bool | None
    #: the numbers behind it, in words
    figures: str

    def to_dict(self) -> dict[str, Any]:
        """The judgement as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Transition:
    """An episode that begins or ends, or a generator that left testing, as the event to write."""

    event_type: str
    generator: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What a cycle found: events to write, in order, and the status of every generator."""

    transitions: tuple[Transition, ...]
    statuses: dict[str, GeneratorStatus]


def judge(
    summary: pd.DataFrame,
    proposal: WeightProposal,
    states: Mapping[str, GeneratorState],
    *,
    config: EpisodeConfig | None = None,
) -> dict[str, Judgement]:
    """Judge every drawn generator of an account at a window's end.

    Parameters
    ----------
    summary
        The table of ``performance.summarize`` over the policy's window.
    proposal
        What the policy that publishes made of the same posts; failing is what it calls failing.
    states
        The generators as they are in force.
    """
    config = config or EpisodeConfig()
    failing = set(proposal.diagnostics["failing"])
    known = proposal.diagnostics.get("generators", {})
    judged = {}
    for row in summary.to_dict("records"):
        name = str(row["generator_name"])
        if states[name].status not in DRAWN_STATUSES:
            continue
        posts = int(row["posts_measured"])
        enough = posts >= config.min_posts and bool(pd.notna(row["f_per_1k"]))
        viral: bool | None = None
        if enough:
            rate = float(row["f_per_1k"])
            if rate > config.viral_f_per_1k and int(row["viral_posts"]) > 0:
                viral = True
            elif rate <= config.viral_ends_f_per_1k:
                viral = False
        figures = (
            f"F/1K {float(row['f_per_1k']):.3g} over {posts} posts in {proposal.period_days:g} days"
            if pd.notna(row["f_per_1k"])
            else f"{posts} measured posts in {proposal.period_days:g} days"
        )
        fails: bool | None = None
        if name in failing:
            fails = True
        elif name in known and known[name]["p_failing"] is not None:
            probability = known[name]["p_failing"]
            figures += f", failing with probability {probability:.2f}"
            if known[name]["posts"] >= config.min_posts and (
                probability <= config.recovered_probability
            ):
                fails = False
        elif enough and float(row["followers_gained"]) >= ONE_FOLLOWER:
            fails = False
        judged[name] = Judgement(viral, fails, figures)
    return judged


def follow(
    states: Mapping[str, GeneratorState],
    open_episodes: Collection[Episode],
    judged: Mapping[str, Judgement],
) -> Outcome:
    """Compare what holds now with the open episodes.

    A generator that begins to fail goes to ``testing``: it stays in the draw at the weight that
    the policy leaves it, so there is evidence by which it can come back. One in testing becomes
    ``active`` when it is judged and does not fail, be it new or recovered. A locked generator
    keeps its status: a person holds it.
    """
    transitions = []
    statuses: dict[str, GeneratorStatus] = {name: state.status for name, state in states.items()}
    for name in sorted(judged):
        state, now = states[name], judged[name]
        changed = list(_changes(name, open_episodes, now))
        begun = {item.event_type for item in changed}
        if not state.locked and state.status == "active" and BEGINS["failing"] in begun:
            statuses[name] = "testing"
        elif not state.locked and state.status == "testing" and now.failing is False:
            statuses[name] = "active"
            if ENDS["failing"] not in begun:
                reason = f"{name} has been tried and does not fail: {now.figures}"
                changed.append(Transition(PROVEN, name, reason))
        transitions += changed
    return Outcome(tuple(transitions), statuses)


def _changes(name: str, open_episodes: Collection[Episode], now: Judgement) -> Iterator[Transition]:
    if now.viral is not None and now.viral != (("viral", name) in open_episodes):
        said = f"{name} went viral" if now.viral else f"{name} is viral no longer"
        kinds = BEGINS if now.viral else ENDS
        yield Transition(kinds["viral"], name, f"{said}: {now.figures}")
    if now.failing is not None and now.failing != (("failing", name) in open_episodes):
        said = f"{name} fails" if now.failing else f"{name} has recovered"
        kinds = BEGINS if now.failing else ENDS
        yield Transition(kinds["failing"], name, f"{said}: {now.figures}")
