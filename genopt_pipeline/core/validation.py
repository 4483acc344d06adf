"""Is the set-up right, before the first post? What is judged of it, each with what to do.

What belongs here: the judgements. What does not: asking the database, the file system or Dagster.
A thing that could not be looked at, because what it depends on is not there, is *skipped*: neither
right nor wrong.
"""

import difflib
import stat
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal

import numpy as np

from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.core.guards import GuardConfig, GuardError, feasible_set

Verdict = Literal["ok", "skipped", "warning", "error"]

#: Partitions of ten minutes that Dagster advises an asset to have at most.
ADVISED_PARTITIONS: Final = 100_000
#: The daemon writes a heartbeat every 30 seconds; after this time it is taken for dead.
HEARTBEAT: Final = timedelta(minutes=5)
#: Clocks further apart than this make fresh data look old, or old data fresh.
CLOCK_SKEW: Final = timedelta(seconds=60)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: the verdict, what was seen, and what to do (empty if ok)."""

    check: str
    verdict: Verdict
    message: str
    action: str = ""


@dataclass(frozen=True)
class Validation:
    """All findings, in the order in which things depend on each other."""

    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What must be put right."""
        return tuple(item for item in self.findings if item.verdict == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What should be looked at."""
        return tuple(item for item in self.findings if item.verdict == "warning")

    def as_dict(self) -> dict[str, Any]:
        """The findings as JSON takes them."""
        return {
            "valid": not self.errors,
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "findings": [asdict(item) for item in self.findings],
        }


def skipped(check: str, because: str) -> Finding:
    """A thing that could not be looked at."""
    return Finding(check, "skipped", f"not looked at: {because}")


def judge_weights(weights: Mapping[str, Decimal]) -> Finding:
    """Stored weights must sum to exactly 1; generators beyond or short of the twelve are told."""
    total = sum(weights.values(), Decimal(0))
    if total != 1:
        return Finding(
            "weights",
            "error",
            f"the weights of {len(weights)} generators sum to {total}, not to exactly 1",
            "Restore the database from a backup: its constraints do not allow this.",
        )
    missing = sorted(set(DEFAULT_WEIGHTS) - set(weights))
    said = f"{len(weights)} generators; their weights sum to exactly 1"
    if missing:
        said += f" (of the twelve defaults, {', '.join(missing)} are not registered)"
    return Finding("weights", "ok", said)


def judge_policy(
    weights: Mapping[str, float],
    statuses: Mapping[str, str],
    locked: Collection[str],
    *,
    floor: float,
    cap: float,
    step: float,
) -> Finding:
    """Whether some set of weights satisfies floor, cap and locks of these generators."""
    names = sorted(weights)
    try:
        feasible = feasible_set(
            names,
            np.array([weights[name] for name in names], dtype=np.float64),
            [statuses[name] for name in names],
            np.array([name in locked for name in names], dtype=np.bool_),
            GuardConfig(floor=floor, cap=cap, step=step),
        )
    except GuardError as error:
        return Finding(
            "policy",
            "error",
            str(error),
            "Change GENOPT_MIN_WEIGHT, GENOPT_MAX_WEIGHT or the locks: nothing can be published.",
        )
    if feasible.warnings:
        return Finding(
            "policy", "warning", "; ".join(feasible.warnings), "Lower GENOPT_MIN_WEIGHT."
        )
    return Finding(
        "policy", "ok", f"floor {floor:g}, cap {cap:g} and step {step:g} leave room to learn"
    )


def judge_privileges(missing: Mapping[str, Collection[str]]) -> Finding:
    """``missing``: privileges that the role lacks, by table or schema."""
    if not missing:
        return Finding("privileges", "ok", "the role may read and write every table")
    lacking = "; ".join(f"{', '.join(sorted(each))} on {name}" for name, each in missing.items())
    return Finding(
        "privileges",
        "error",
        f"the role lacks {lacking}",
        "Run `genopt grant ROLE --as worker` as the role that ran `genopt migrate`.",
    )


def judge_months(present: Collection[str], now: datetime) -> Finding:
    """``present``: months (YYYYMM) that post_metric_snapshots has partitions for."""
    wanted = [f"{now:%Y%m}", f"{now.replace(day=1) + timedelta(days=31):%Y%m}"]
    missing = [month for month in wanted if month not in present]
    if missing:
        return Finding(
            "table_partitions",
            "warning",
            f"post_metric_snapshots has no partition for {', '.join(missing)}",
            "They are made when the first reading comes; the role must own the schema for that.",
        )
    return Finding("table_partitions", "ok", f"partitions exist up to {max(present)}")


def judge_variables(given: Collection[str], known: Collection[str]) -> Finding:
    """Do all variables of the environment name a setting; their values were judged before."""
    strange = sorted(set(given) - set(known))
    if not strange:
        return Finding("settings", "ok", "every GENOPT_ variable is a setting, of an allowed value")
    told = []
    for name in strange:
        near = difflib.get_close_matches(name, sorted(known), n=1)
        told.append(f"{name} (is {near[0]} meant?)" if near else name)
    return Finding(
        "settings",
        "warning",
        f"no setting, and not read: {', '.join(told)}",
        "Correct the name or remove the variable; `genopt settings` lists all.",
    )


def judge_start(start: datetime, now: datetime) -> Finding:
    """Whether the time partitions begin in the past, and are not too many."""
    if start > now:
        return Finding(
            "start",
            "error",
            f"the time partitions begin at {start:%Y-%m-%d %H:%M} UTC, in the future",
            "Set GENOPT_START to a time in the past: until it nothing runs.",
        )
    count = int((now - start) / timedelta(minutes=10))
    if count > ADVISED_PARTITIONS:
        return Finding(
            "start",
            "warning",
            f"{count:,} ten-minute partitions; at most {ADVISED_PARTITIONS:,} are advised",
            "Move GENOPT_START forward; stored data stay.",
        )
    return Finding("start", "ok", f"{count:,} ten-minute partitions since {start:%Y-%m-%d} UTC")


def judge_clock(difference: timedelta) -> Finding:
    """``difference``: the database's time less this machine's."""
    seconds = abs(difference.total_seconds())
    if seconds > CLOCK_SKEW.total_seconds():
        return Finding(
            "clock",
            "warning",
            f"the clocks of this machine and the database are {seconds:.0f} seconds apart",
            "Let both keep their time by NTP.",
        )
    return Finding("clock", "ok", "this machine and the database agree on the time")


def judge_home_mode(path: str, mode: int) -> Finding:
    """``mode``: permissions of the data folder."""
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return Finding(
            "home",
            "warning",
            f"{path} (GENOPT_HOME) can be written by others (mode {stat.S_IMODE(mode):03o})",
            f"chmod go-w {path}",
        )
    return Finding("home", "ok", f"{path} can be written, by its owner only")


def judge_private_files(modes: Mapping[str, int]) -> Finding:
    """``modes``: permissions of each file that holds tokens."""
    if not modes:
        return Finding("tokens", "ok", "no token is kept in GENOPT_HOME")
    found = [name for name, mode in modes.items() if mode & (stat.S_IRWXG | stat.S_IRWXO)]
    if found:
        return Finding(
            "tokens",
            "error",
            f"others can read {', '.join(found)}",
            f"chmod 600 {' '.join(found)}, and renew the tokens: they may have been read.",
        )
    return Finding("tokens", "ok", f"{len(modes)} token files, readable by their owner only")


def judge_heartbeat(newest: datetime | None, now: datetime) -> Finding:
    """``newest``: the last sign of life of the Dagster daemon; None if there never was one."""
    action = "Start it with `genopt up`, or `dagster-daemon run`; without it nothing is scheduled."
    if newest is None:
        return Finding("daemon", "warning", "the Dagster daemon has never run here", action)
    age = now - newest
    if age > HEARTBEAT:
        minutes = age.total_seconds() / 60.0
        return Finding(
            "daemon",
            "warning",
            f"the Dagster daemon gave its last sign of life {minutes:,.0f} minutes ago",
            action,
        )
    return Finding("daemon", "ok", "the Dagster daemon runs")
