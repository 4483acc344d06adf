"""What a person should hear about, once for each time it begins and ends.

What belongs here: the rules that find alerts, and the comparison with those already open. What
does not: where open alerts are kept, and how a message is sent.

An alert is an episode under a stable key. While its condition holds it is the same alert, so
nothing is sent again. Where the condition cannot be judged (the generator has no measured posts
now, say) an open alert neither ends nor begins: data that went missing are not good news.
"""

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

import pandas as pd
from scipy import stats

from genopt_pipeline.core.evaluation import SampleRatio
from genopt_pipeline.core.health import HealthReport
from genopt_pipeline.core.performance import account_totals

AlertKind = Literal[
    "viral", "failing", "under_used", "over_used", "stale_data", "sample_ratio", "health"
]
Severity = Literal["info", "warning", "critical"]

#: Health checks that are told before they are critical: a budget is near its end, a clock is wrong.
_TOLD_WHEN_DEGRADED: Final = frozenset({"source"})
#: Statuses of health checks that say nothing: an alert of theirs neither begins nor ends.
_NOT_JUDGED: Final = frozenset({"unknown", "no_data"})
#: Health checks whose failure means old data.
_STALE_CHECKS: Final = frozenset({"metrics", "followers", "performance", "optimization", "posts"})


@dataclass(frozen=True)
class AlertConfig:
    """When something is an alert.

    ``viral_f_per_1k`` begins a viral episode and ``viral_ends_f_per_1k`` ends it: the gap keeps a
    rate near the boundary from opening and closing one every cycle. A generator is under-used
    with a weight under ``under_weight`` of an equal share though its F/1K is surely above the
    account's, over-used with one over ``over_weight`` of it though surely below. Apart from merit,
    it is under- or over-drawn if its posts differ from what its weights called for by the factor
    ``draw_ratio`` and a two-sided Poisson test has a p-value below ``draw_significance``.
    """

    min_posts: int = 3
    viral_f_per_1k: float = 5.0
    viral_ends_f_per_1k: float = 4.0
    under_weight: float = 1.0
    over_weight: float = 1.0
    draw_ratio: float = 1.5
    draw_significance: float = 0.001
    sample_ratio_significance: float = 0.001

    def __post_init__(self) -> None:
        if not self.viral_ends_f_per_1k <= self.viral_f_per_1k:
            raise ValueError("a viral episode must end at or below the F/1K at which it begins")
        if not self.draw_ratio > 1:
            raise ValueError(f"draw_ratio is {self.draw_ratio!r}; it must be above 1")


@dataclass(frozen=True)
class Alert:
    """Something to know: a stable key, what it is about, and the numbers behind it (JSON)."""

    key: str
    kind: AlertKind
    severity: Severity
    message: str
    subject: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Findings:
    """The alerts that hold now, and the keys of which nothing can be said now."""

    alerts: tuple[Alert, ...]
    unjudged: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Transitions:
    """What changed: alerts that began, keys that ended, alerts that go on as they were.

    An alert whose severity changed has ended and begun: its state changed.
    """

    opened: tuple[Alert, ...]
    closed: tuple[str, ...]
    continuing: tuple[Alert, ...]


@dataclass(frozen=True)
class AlertChange:
    """One state change of one episode, as it is told: it began, or it is over.

    ``change_id`` is the same however often a change is sent, so that a receiver can tell a second
    delivery from a second alert.
    """

    account_id: str
    key: str
    opened_at: datetime
    over: bool
    at: datetime
    severity: str
    message: str

    @property
    def change_id(self) -> str:
        """Twelve hexadecimal digits of a hash over account, key, beginning and state."""
        opened = self.opened_at.astimezone(UTC).isoformat()
        told = "\0".join([self.account_id, self.key, opened, "over" if self.over else "open"])
        return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:12]

    @property
    def line(self) -> str:
        """The change in one line of text."""
        moment = f"{self.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        said = " ".join(self.message.split())  # a name cannot begin a line of its own
        if self.over:
            return f"[over] {said} (until {moment}, {self.change_id})"
        return f"[{self.severity}] {said} (since {moment}, {self.change_id})"


def find_alerts(
    summary: pd.DataFrame | None,
    *,
    weights: Mapping[str, float],
    expected_posts: Mapping[str, float] | None = None,
    sample_ratio: SampleRatio | None = None,
    health: HealthReport | None = None,
    open_keys: Collection[str] = (),
    config: AlertConfig | None = None,
) -> Findings:
    """Return the alerts that hold now.

    Parameters
    ----------
    summary
        One table of ``performance.summarize``; None if it could not be made.
    weights
        The live weights. A generator of weight 0 is not drawn and not judged by its use.
    expected_posts
        How many of the summary's posts each generator should have written, the sum over those
        posts of the probability that it had; None if not known.
    sample_ratio
        The test of the draw; None if not made.
    health
        The health report; None if not made.
    open_keys
        Keys of the alerts that are open.
    """
    config = config or AlertConfig()
    alerts: list[Alert] = []
    unjudged: set[str] = set()
    if summary is None:
        prefixes = ("viral:", "failing:", "under_used:", "over_used:")
        unjudged |= {key for key in open_keys if key.startswith(prefixes)}
    else:
        account = account_totals(summary).f_per_1k
        drawn = [name for name, weight in weights.items() if weight > 0]
        for row in summary.to_dict("records"):
            name = str(row["generator_name"])
            if int(row["posts_measured"]) < config.min_posts or _unknown(row["f_per_1k"]):
                unjudged |= {f"viral:{name}", f"failing:{name}"}
                unjudged |= {f"under_used:weight:{name}", f"over_used:weight:{name}"}
            else:
                alerts += _viral(row, f"viral:{name}" in open_keys, config)
                alerts += _failing(row)
                if name in drawn and account is not None:
                    alerts += _misused(row, weights[name] * len(drawn), account, config)
            if expected_posts is None:
                unjudged |= {f"under_used:draw:{name}", f"over_used:draw:{name}"}
            else:
                alerts += _misdrawn(row, expected_posts.get(name, 0.0), config)
    if sample_ratio is None or (sample_ratio.p_value is None and not sample_ratio.impossible):
        unjudged.add("sample_ratio")
    else:
        alerts += _mismatch(sample_ratio, config)
    if health is None:
        unjudged |= {key for key in open_keys if key.startswith(("stale_data:", "health:"))}
    else:
        alerts += _health(health)
        judged = {check.name for check in health.checks if check.status not in _NOT_JUDGED}
        unjudged |= {
            key
            for key in open_keys
            if key.startswith(("stale_data:", "health:")) and key.split(":")[1] not in judged
        }
    held = {alert.key for alert in alerts}
    order: dict[Severity, int] = {"critical": 0, "warning": 1, "info": 2}
    alerts.sort(key=lambda alert: (order[alert.severity], alert.key))
    return Findings(tuple(alerts), frozenset(unjudged - held))


def transitions(previous: Mapping[str, str], current: Findings) -> Transitions:
    """Compare the alerts that hold now with those that are open.

    Parameters
    ----------
    previous
        Key and severity of each open alert.
    current
        What ``find_alerts`` found.
    """
    now = {alert.key: alert for alert in current.alerts}
    opened = tuple(a for a in current.alerts if previous.get(a.key) != a.severity)
    continuing = tuple(a for a in current.alerts if previous.get(a.key) == a.severity)
    closed = tuple(
        key
        for key, severity in sorted(previous.items())
        if (key in now and now[key].severity != severity)
        or (key not in now and key not in current.unjudged)
    )
    return Transitions(opened, closed, continuing)


def webhook_payload(account_id: str, changes: Sequence[AlertChange]) -> dict[str, str]:
    """Return the message of what changed as a Slack-compatible webhook takes it.

    The characters that Slack gives a meaning (&, <, >) are escaped, so that no generator's name
    can mention a channel.
    """
    body = "\n".join([f"genopt, account {account_id}:", *(change.line for change in changes)])
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        body = body.replace(character, entity)
    return {"text": body}


def _viral(row: Mapping[Any, Any], is_open: bool, config: AlertConfig) -> Iterable[Alert]:
    bound = config.viral_ends_f_per_1k if is_open else config.viral_f_per_1k
    viral_posts = 0 if _unknown(row["viral_posts"]) else int(row["viral_posts"])
    if float(row["f_per_1k"]) > bound and (viral_posts > 0 or is_open):
        name = str(row["generator_name"])
        yield Alert(
            f"viral:{name}",
            "viral",
            "info",
            f"{name} is viral: {_rate(row)}, {viral_posts} viral post"
            f"{'' if viral_posts == 1 else 's'}",
            name,
            _details(row),
        )


def _failing(row: Mapping[Any, Any]) -> Iterable[Alert]:
    if "failing" in {row["tier"], row["relative_tier"]}:
        name = str(row["generator_name"])
        yield Alert(
            f"failing:{name}",
            "failing",
            "warning",
            f"{name} is failing: {_rate(row)}",
            name,
            _details(row),
        )


def _misused(
    row: Mapping[Any, Any], of_equal_share: float, account: float, config: AlertConfig
) -> Iterable[Alert]:
    name = str(row["generator_name"])
    details = _details(row) | {"account_f_per_1k": account, "weight_of_equal_share": of_equal_share}
    if float(row["f_per_1k_low"]) > account and of_equal_share < config.under_weight:
        yield Alert(
            f"under_used:weight:{name}",
            "under_used",
            "info",
            f"{name} is under-used: {_rate(row)} against {account:.3g} of the account, with "
            f"{of_equal_share:.0%} of an equal share of the weight",
            name,
            details,
        )
    if float(row["f_per_1k_high"]) < account and of_equal_share > config.over_weight:
        yield Alert(
            f"over_used:weight:{name}",
            "over_used",
            "info",
            f"{name} is over-used: {_rate(row)} against {account:.3g} of the account, with "
            f"{of_equal_share:.0%} of an equal share of the weight",
            name,
            details,
        )


def _misdrawn(row: Mapping[Any, Any], expected: float, config: AlertConfig) -> Iterable[Alert]:
    name, count = str(row["generator_name"]), int(row["posts_count"])
    fewer = float(stats.poisson.cdf(count, expected))
    more = float(stats.poisson.sf(count - 1, expected))
    if 2.0 * min(fewer, more) >= config.draw_significance:
        return
    details = {"posts_count": count, "expected_posts": expected}
    if count * config.draw_ratio < expected:
        yield Alert(
            f"under_used:draw:{name}",
            "under_used",
            "warning",
            f"{name} wrote {count} posts where its weight called for {expected:.1f}",
            name,
            details,
        )
    if count > expected * config.draw_ratio:
        yield Alert(
            f"over_used:draw:{name}",
            "over_used",
            "warning",
            f"{name} wrote {count} posts where its weight called for {expected:.1f}",
            name,
            details,
        )


def _mismatch(ratio: SampleRatio, config: AlertConfig) -> Iterable[Alert]:
    if not ratio.is_mismatch(config.sample_ratio_significance):
        return
    reason = (
        f"posts by {', '.join(ratio.impossible)}, which had no weight"
        if ratio.impossible
        else f"p = {ratio.p_value:.2g} over {ratio.posts} posts"
    )
    yield Alert(
        "sample_ratio",
        "sample_ratio",
        "warning",
        f"the content engine does not draw by the weights: {reason}",
        None,
        {"p_value": ratio.p_value, "posts": ratio.posts, "impossible": list(ratio.impossible)},
    )


def _health(report: HealthReport) -> Iterable[Alert]:
    for check in report.checks:
        if check.status == "healthy" or check.status in _NOT_JUDGED:
            continue
        stale = check.name in _STALE_CHECKS
        severity: Severity = "critical" if check.status == "critical" else "warning"
        if not stale and severity != "critical" and check.name not in _TOLD_WHEN_DEGRADED:
            continue
        yield Alert(
            f"{'stale_data' if stale else 'health'}:{check.name}",
            "stale_data" if stale else "health",
            severity,
            f"{check.reason}. {check.action}".strip(),
            check.name,
        )


def _rate(row: Mapping[Any, Any]) -> str:
    return f"F/1K {float(row['f_per_1k']):.3g} over {int(row['posts_measured'])} posts"


def _details(row: Mapping[Any, Any]) -> dict[str, Any]:
    names = ("f_per_1k", "f_per_1k_low", "f_per_1k_high", "followers_gained")
    numbers = {name: None if _unknown(row[name]) else float(row[name]) for name in names}
    return numbers | {
        "posts_measured": int(row["posts_measured"]),
        "tier": row["tier"],
        "relative_tier": row["relative_tier"],
    }


def _unknown(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
