"""Alerts: finding them in what is stored, recording each episode, and telling each change once.

``current_alerts`` only reads; the sensor ``send_alerts`` alone records and sends. A change is
recorded in the database before it is told and marked as told after it was: what could not be sent
is sent at the next tick, and what was sent is not sent again, except if the process dies between
the webhook's answer and the note of it. Each change has an id that is the same in every delivery.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

import dagster as dg
import httpx
from pydantic import SecretStr

from genopt_pipeline.core.alerts import (
    Alert,
    AlertChange,
    AlertConfig,
    Findings,
    find_alerts,
    webhook_payload,
)
from genopt_pipeline.core.health import HealthReport
from genopt_pipeline.defs.checks import FRESH, FRESH_CHECK, freshness
from genopt_pipeline.defs.evaluation import draw_check
from genopt_pipeline.defs.monitor import account_health, failed_runs
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.settings import Settings
from genopt_pipeline.sources.x_api.redaction import Redactor
from genopt_pipeline.sources.x_api.transport import DEADLINE, DeadlineTransport
from genopt_pipeline.store import alerts as alert_store
from genopt_pipeline.store import monitoring
from genopt_pipeline.store import weights as weight_store
from genopt_pipeline.store.engine import DatabaseUnavailableError

CHANGES_A_MESSAGE: Final = 20
TICK_SECONDS: Final = 60
#: With the 30 s that one message may take at most, a tick ends before Dagster gives it up (60 s).
SENDING_SECONDS: Final = 20.0

_LEVELS: Final = {"critical": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO}


class WebhookError(RuntimeError):
    """The webhook did not take a message; says why, without the webhook's address."""


@dataclass(frozen=True)
class OpenAlert:
    """An alert that is open: what it is about, since when, and whether it was judged now.

    ``opened_at`` is None until the sensor has recorded it. An alert that is open and cannot be
    judged now (its data are missing) has ``judged`` False and the words it began with.
    """

    alert: Alert
    opened_at: datetime | None
    judged: bool = True

    def as_dict(self) -> dict[str, Any]:
        """The alert as JSON takes it."""
        return asdict(self.alert) | {"opened_at": self.opened_at, "judged": self.judged}


@dataclass(frozen=True)
class AlertsNow:
    """Alerts of an account at a time, with the health behind them."""

    account_id: str
    as_of: datetime
    findings: Findings
    health: HealthReport
    open: tuple[OpenAlert, ...]

    @property
    def worst(self) -> str | None:
        """The worst severity that is open; None if nothing is."""
        found = {item.alert.severity for item in self.open}
        return next((name for name in ("critical", "warning", "info") if name in found), None)


def alert_config(settings: Settings) -> AlertConfig:
    """When something is an alert, from the installation's settings."""
    begins, ends = settings.alert_viral_f_per_1k
    return AlertConfig(
        min_posts=settings.alert_min_posts,
        viral_f_per_1k=begins,
        viral_ends_f_per_1k=ends,
        under_weight=settings.alert_under_weight,
        over_weight=settings.alert_over_weight,
        draw_ratio=settings.alert_draw_ratio,
        draw_significance=settings.alert_draw_significance,
        sample_ratio_significance=settings.alert_sample_ratio_significance,
    )


def current_alerts(
    pipeline: Pipeline, account_id: str, *, failed_runs_24h: int | None = None
) -> AlertsNow:
    """The alerts that hold now, from what is stored; writes nothing.

    Generators are judged by the newest performance table. If the database cannot be read, that is
    the only alert, and nothing is said of the others.

    Raises
    ------
    UnknownAccountError
        The account is not registered.
    """
    now, settings = pipeline.now(), pipeline.settings
    health = account_health(pipeline, account_id, failed_runs_24h=failed_runs_24h)
    if database_fault(health) is not None:
        findings = find_alerts(None, weights={}, health=health)
        unrecorded = tuple(OpenAlert(alert, None) for alert in findings.alerts)
        return AlertsNow(account_id, now, findings, health, unrecorded)
    with pipeline.read() as connection:
        rows = {row["alert_key"]: row for row in alert_store.open_alerts(connection, account_id)}
        live = weight_store.live_weights(connection, account_id)
        summary = monitoring.newest_performance(
            connection, account_id, days=float(settings.window_days)
        )
        expected = ratio = None
        if summary is not None:
            end = summary["period_end"].iloc[0].to_pydatetime()
            drawn = draw_check(connection, account_id, end, days=float(settings.window_days))
            ratio = drawn.ratio
            if drawn.observed:
                # only posts that say how they were drawn can be compared with what was called for
                expected = drawn.expected
                drawn_posts = summary["generator_name"].map(drawn.observed).fillna(0)
                summary = summary.assign(posts_count=drawn_posts)
    findings = find_alerts(
        summary,
        weights=live.by_name,
        expected_posts=expected,
        sample_ratio=ratio,
        health=health,
        open_keys=rows,
        config=alert_config(settings),
    )
    held = {alert.key for alert in findings.alerts}
    opened = [
        OpenAlert(
            alert,
            rows[alert.key]["opened_at"]
            if alert.key in rows and rows[alert.key]["severity"] == alert.severity
            else None,
        )
        for alert in findings.alerts
    ]
    opened += [
        OpenAlert(_as_recorded(row), row["opened_at"], judged=False)
        for key, row in rows.items()
        if key in findings.unjudged and key not in held
    ]
    return AlertsNow(account_id, now, findings, health, tuple(opened))


def _as_recorded(row: dict[str, Any]) -> Alert:
    kind = row["alert_key"].split(":")[0]
    return Alert(row["alert_key"], kind, row["severity"], row["message"], None, row["details"])


def record(
    pipeline: Pipeline, now: AlertsNow, log: logging.Logger | logging.LoggerAdapter[Any]
) -> list[AlertChange]:
    """Store what changed, and write each change to the log."""
    with pipeline.write() as connection:
        changes = alert_store.record(connection, now.account_id, now.findings, now=now.as_of)
        for change in changes:
            level = logging.INFO if change.over else _LEVELS[change.severity]
            log.log(level, "alert: account %s: %s", change.account_id, change.line)
    return changes


def deliver(
    pipeline: Pipeline,
    accounts: Iterable[str],
    *,
    monotonic: Callable[[], float] = time.monotonic,
) -> int:
    """Send what was not told yet to the webhook, the oldest first; returns the changes told.

    Without a webhook the log was all there is to tell. After ``SENDING_SECONDS`` no further
    message begins, so that a slow webhook holds nothing up; the rest is for the next tick.

    Raises
    ------
    WebhookError
        The webhook did not take a message; its changes and those after it wait.
    """
    url, told, begun = pipeline.settings.alert_webhook_url, 0, monotonic()
    for account_id in accounts:
        while monotonic() - begun < SENDING_SECONDS:
            # the rows stay locked while they are sent: a second sender leaves them alone
            with pipeline.write() as connection:
                changes = alert_store.untold(connection, account_id, CHANGES_A_MESSAGE)
                if not changes:
                    break
                if url is not None:
                    post_to_webhook(
                        url,
                        webhook_payload(account_id, changes),
                        seconds=pipeline.settings.alert_webhook_seconds,
                        monotonic=monotonic,
                    )
                alert_store.mark_told(connection, changes, at=pipeline.now())
                told += len(changes)
    return told


def post_to_webhook(
    url: SecretStr,
    payload: dict[str, str],
    *,
    seconds: float,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Send one message; takes at most ``seconds``, however slowly the other side answers.

    Redirects are not followed: the address is a secret for one host. No log, no error and no
    metadata ever has the address.

    Raises
    ------
    WebhookError
        No answer in time, or one other than 2xx.
    """
    secret = url.get_secret_value()
    parts = httpx.URL(secret)
    redact = Redactor([secret, parts.raw_path.decode("ascii"), parts.host])
    timeouts = dict.fromkeys(("connect", "read", "write", "pool"), seconds)
    request = httpx.Request(
        "POST",
        secret,
        headers={"content-type": "application/json", "user-agent": "genopt"},
        content=json.dumps(payload).encode(),
        extensions={DEADLINE: monotonic() + seconds, "timeout": timeouts},
    )
    transport = DeadlineTransport(monotonic=monotonic)
    try:
        # not through a client: it would write the address into the log
        response = transport.handle_request(request)
    except (httpx.TransportError, OSError) as error:
        said = redact.text(str(error)) or type(error).__name__
        raise WebhookError(f"the webhook did not answer: {said}") from None
    finally:
        transport.close()
    if not response.is_success:
        raise WebhookError(f"the webhook answered {response.status_code}")


@dataclass(frozen=True)
class Outage:
    """A database that cannot be read: an episode that cannot be kept in it.

    The sensor's cursor, which is in Dagster's storage, holds it instead. ``told``: the webhook
    took the beginning. ``over_at`` is set once the database answers again.
    """

    since: str
    message: str
    told: bool = False
    over_at: str | None = None

    def change(self, account_id: str, *, over: bool) -> AlertChange:
        """The beginning or the end of the outage, as it is told."""
        since = datetime.fromisoformat(self.since)
        at = datetime.fromisoformat(self.over_at) if over and self.over_at else since
        return AlertChange(account_id, "health:database", since, over, at, "critical", self.message)


def tell_outage(pipeline: Pipeline, outage: Outage) -> Outage | None:
    """Send what of an outage was not told yet; None if all of it is told.

    Raises
    ------
    WebhookError
        The webhook did not take it.
    """
    account_id, url = pipeline.settings.account, pipeline.settings.alert_webhook_url
    changes = [] if outage.told else [outage.change(account_id, over=False)]
    if outage.over_at is not None:
        changes.append(outage.change(account_id, over=True))
    if changes and url is not None:
        post_to_webhook(
            url,
            webhook_payload(account_id, changes),
            seconds=pipeline.settings.alert_webhook_seconds,
        )
    return None if outage.over_at is not None else replace(outage, told=True)


def database_fault(health: HealthReport) -> str | None:
    """Why the database cannot be read and what to do; None if it can."""
    for check in health.checks:
        if check.name == "database" and check.status != "healthy":
            return f"{check.reason}. {check.action}"
    return None


def alert_sensor() -> dg.SensorDefinition:
    """``send_alerts``, running from the start."""

    @dg.sensor(
        name="send_alerts",
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Finds alerts every minute, records when each begins and ends, and tells each "
        "change once: to the log, and to the webhook if GENOPT_ALERT_WEBHOOK_URL is set. Reports "
        "the freshness of data to their assets when it changes.",
    )
    def send_alerts(
        context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.SensorResult:
        return tick(pipeline, context.cursor, context.instance, context.log)

    return send_alerts


def tick(
    pipeline: Pipeline, cursor: str | None, instance: dg.DagsterInstance, log: logging.Logger
) -> dg.SensorResult:
    """One evaluation: find, record, tell. Never raises for a webhook or database that is away."""
    state: dict[str, Any] = json.loads(cursor) if cursor else {}
    outage = Outage(**state["outage"]) if state.get("outage") else None
    now, said = pipeline.now(), []
    events: list[dg.AssetCheckEvaluation] = []
    accounts: list[str] = []
    waiting: str | None = None
    fault = _database_fault(pipeline)
    try:
        if fault is not None:
            if outage is None:
                outage = Outage(now.isoformat(), fault)
                log.error("alert: %s", outage.change(pipeline.settings.account, over=False).line)
            # gone again before its end was told: the same outage goes on
            outage = tell_outage(pipeline, replace(outage, over_at=None))
            said.append(fault)
        else:
            if outage is not None and outage.over_at is None:
                outage = replace(outage, over_at=now.isoformat())
                log.info("alert: %s", outage.change(pipeline.settings.account, over=True).line)
            accounts, events, found = _record_all(pipeline, instance, log, state)
            said.append(found)
            if outage is not None:
                outage = tell_outage(pipeline, outage)
            said.append(f"told: {deliver(pipeline, accounts)}")
    except DatabaseUnavailableError as error:
        # it went away meanwhile; the next tick begins the outage
        log.warning("%s", error)
        said.append(str(error))
    except WebhookError as error:
        waiting = str(error)
        log.warning("alerts wait to be sent: %s; the next tick tries again", waiting)
        said.append(f"{waiting}; what was not sent waits for the next tick")
    state["outage"] = None if outage is None else asdict(outage)
    return dg.SensorResult(
        skip_reason="; ".join(said),
        cursor=json.dumps(state, sort_keys=True),
        asset_events=events,
    )


def _database_fault(pipeline: Pipeline) -> str | None:
    try:
        return database_fault(account_health(pipeline, pipeline.settings.account))
    except weight_store.UnknownAccountError:
        return None


def _record_all(
    pipeline: Pipeline, instance: dg.DagsterInstance, log: logging.Logger, state: dict[str, Any]
) -> tuple[list[str], list[dg.AssetCheckEvaluation], str]:
    failed = failed_runs(instance, pipeline.now())
    with pipeline.read() as connection:
        accounts = weight_store.list_accounts(connection)
    changes, is_open, reports = 0, 0, {}
    for account_id in accounts:
        alerts = current_alerts(pipeline, account_id, failed_runs_24h=failed)
        changes += len(record(pipeline, alerts, log))
        is_open += len(alerts.open)
        reports[account_id] = alerts.health
    events = []
    known: dict[str, str] = state.setdefault("freshness", {})
    for asset in FRESH:
        judged = freshness(asset, reports)
        told = f"{judged.passed} {judged.severity.value}"
        if known.get(asset) != told:
            known[asset] = told
            events.append(judged.evaluation(asset, FRESH_CHECK))
    return accounts, events, f"alerts open: {is_open}; changed: {changes}"
