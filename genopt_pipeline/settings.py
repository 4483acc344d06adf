"""Typed settings, read from the environment (``GENOPT_*``) in one place.

Every setting is documented here and nowhere else by hand: ``docs/settings.md`` and ``genopt
validate`` print these descriptions. Nothing reads the environment at import; call
:func:`load_settings` where a process begins.
"""

import ipaddress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    value = value.astimezone(UTC)
    if (value.hour % 6, value.minute, value.second, value.microsecond) != (0, 0, 0, 0):
        raise ValueError("must lie on a six-hour boundary, such as 2026-09-01T00:00:00Z")
    return value


def _two(value: Any) -> Any:
    """Two numbers with a comma between, as an environment variable holds them."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(","))
    return value


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] <= value[1]:
        raise ValueError("must be two numbers above 0 that do not fall, such as 2,12")
    return value


def _falling(value: tuple[float, float]) -> tuple[float, float]:
    if not value[0] >= value[1] >= 0:
        raise ValueError("must be two numbers from 0 on that do not rise, such as 0.8,0.3")
    return value


def _webhook(value: SecretStr) -> SecretStr:
    # the address is a secret (whoever has it can post there), so no message repeats it
    parts = urlsplit(value.get_secret_value())
    if not parts.hostname or not (parts.scheme == "https" or _is_plain_loopback(parts)):
        raise ValueError("must be an https:// address (http:// is for 127.0.0.1 only)")
    return value


def _is_plain_loopback(parts: Any) -> bool:
    if parts.scheme != "http":
        return False
    try:
        return ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        return False


Probability = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[float, Field(gt=0, lt=1)]
#: Degraded above the first, critical above the second.
Rising = Annotated[tuple[float, float], NoDecode, BeforeValidator(_two), AfterValidator(_rising)]
RisingCounts = Annotated[tuple[int, int], NoDecode, BeforeValidator(_two), AfterValidator(_rising)]
Falling = Annotated[tuple[float, float], NoDecode, BeforeValidator(_two), AfterValidator(_falling)]
FallingShares = Annotated[
    tuple[Probability, Probability], NoDecode, BeforeValidator(_two), AfterValidator(_falling)
]


class Settings(BaseSettings):
    """Settings of one installation; names in the environment are ``GENOPT_`` plus the name."""

    model_config = SettingsConfigDict(
        env_prefix="GENOPT_",
        extra="ignore",
        frozen=True,
        # a wrong value may be a secret: the message names the variable and says what is expected
        hide_input_in_errors=True,
    )

    # where things are
    home: Path = Field(
        default=Path(".genopt"),
        description="Data folder: the embedded PostgreSQL server, its log, tokens, reports.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL server and database for genopt's tables, as "
        "postgresql://user:password@host/database. Unset: the embedded server in GENOPT_HOME.",
    )
    dagster_database_url: SecretStr | None = Field(
        default=None,
        description="Database for Dagster's runs, events and schedules. Unset: the database "
        "`dagster` on the same server.",
    )
    port: int = Field(
        default=3000, ge=1, le=65535, description="Port of the Dagster UI, on 127.0.0.1."
    )

    # what is learned
    account: str = Field(
        default="main",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="The account that commands act on and that schedules collect.",
    )
    source: Literal["sandbox", "x_api", "exports"] = Field(
        default="sandbox",
        description="Where metrics come from: a simulated account, the X API, or imported exports "
        "only (then nothing is collected).",
    )
    start: Annotated[datetime, AfterValidator(_utc)] = Field(
        default=datetime(2026, 9, 1, tzinfo=UTC),
        description="Start of the time partitions (UTC, on a six-hour boundary). At most 100,000 "
        "partitions an asset are advised, which is 1.9 years of ten minutes; move it forward then.",
    )
    followers_estimator: Literal["attributed", "platform"] | None = Field(
        default=None,
        description="Which count of followers feeds F/1K: `attributed` (from the account's "
        "follower changes) or `platform` (what X ascribes to each post). Unset: `platform` when "
        "the source is `exports`, else `attributed`. The two are never added.",
    )
    track_days: int = Field(
        default=7, ge=1, le=30, description="Days after posting that a post is read every window."
    )

    drop_folder: Path | None = Field(
        default=None,
        description="Folder whose X exports (*.csv) are imported by themselves, once each, with "
        "the generators of a `labels.csv` in it. Unset: none.",
    )
    drop_folder_settle_seconds: float = Field(
        default=20.0,
        ge=0,
        description="Seconds that a file of the drop folder must be unchanged before it is read.",
    )

    # how weights are set
    policy: Literal["thompson", "exponential"] = Field(
        default="thompson", description="The policy that publishes; the other runs in its shadow."
    )
    objective: Literal["f_per_1k", "followers_per_post"] = Field(
        default="f_per_1k",
        description="What `thompson` seeks: the best F/1K, or the most followers a post.",
    )
    min_weight: float = Field(
        default=0.02, ge=0, le=0.5, description="Floor of a drawn generator's weight."
    )
    max_weight: float = Field(
        default=1.0, gt=0, le=1, description="Cap of a drawn generator's weight."
    )
    aggressiveness: float = Field(
        default=0.30, gt=0, le=1, description="Largest share of the way to the target in a cycle."
    )
    exploration_rate: float = Field(
        default=0.15, ge=0, le=1, description="Share of the target that is spread evenly."
    )
    min_posts_for_optimization: int = Field(
        default=3, ge=1, description="Posts in the window below which a generator is not judged."
    )
    min_posts_window: int = Field(
        default=20, ge=0, description="Posts in the window below which nothing is changed."
    )
    window_days: int = Field(
        default=7, ge=1, le=70, description="Days of the gate and of the report before each window."
    )
    holdout_share: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Share of posts drawn by the default weights, to measure what learning earns.",
    )

    # keeping house
    keep_events_days: int = Field(
        default=30,
        ge=1,
        description="Days that Dagster's log of finished runs is kept. The newest materialization "
        "of every partition stays for ever.",
    )

    # health: when a check is degraded and when critical
    health_metrics_age_hours: Rising = Field(
        default=(0.5, 6.0),
        description="Age in hours of the newest reading of posts above which health is degraded, "
        "and above which it is critical.",
    )
    health_followers_age_hours: Rising = Field(
        default=(2.0, 12.0), description="The same for the newest follower count."
    )
    health_performance_age_hours: Rising = Field(
        default=(5.0, 24.0), description="The same for the newest performance table."
    )
    health_optimization_age_hours: Rising = Field(
        default=(13.0, 48.0),
        description="The same for the newest decision on weights (a skip is one).",
    )
    health_post_age_hours: Rising = Field(
        default=(24.0, 72.0), description="The same for the newest post."
    )
    health_measured_share: FallingShares = Field(
        default=(0.8, 0.3),
        description="Share of the window's posts whose followers and impressions are known below "
        "which health is degraded, and below which it is critical.",
    )
    health_failed_runs_24h: RisingCounts = Field(
        default=(1, 10),
        description="Failed Dagster runs in 24 hours from which on health is degraded, and from "
        "which on it is critical.",
    )
    health_quarantined: int = Field(
        default=1, ge=1, description="Records in quarantine from which on health is degraded."
    )
    health_clock_skew_minutes: float = Field(
        default=5.0, ge=0, description="Minutes in the future up to which a time of data is right."
    )

    # alerts: what people hear about, and where
    alert_webhook_url: Annotated[SecretStr, AfterValidator(_webhook)] | None = Field(
        default=None,
        description="Where alerts are sent as Slack-compatible JSON; https://, or http:// on "
        "127.0.0.1. A secret. Unset: alerts go to the log only.",
    )
    alert_webhook_seconds: float = Field(
        default=10.0, gt=0, le=30, description="Seconds that one message to the webhook may take."
    )
    alert_min_posts: int = Field(
        default=3, ge=1, description="Measured posts below which no alert judges a generator."
    )
    alert_viral_f_per_1k: Falling = Field(
        default=(5.0, 4.0),
        description="F/1K above which a generator is viral, and at which it no longer is.",
    )
    alert_under_weight: float = Field(
        default=1.0,
        gt=0,
        description="Share of an equal weight below which a generator that is surely better than "
        "the account is under-used.",
    )
    alert_over_weight: float = Field(
        default=1.0,
        gt=0,
        description="Share of an equal weight above which a generator that is surely worse than "
        "the account is over-used.",
    )
    alert_draw_ratio: float = Field(
        default=1.5,
        gt=1,
        description="Factor between a generator's posts and what its weights called for, from "
        "which on it is over- or under-drawn.",
    )
    alert_draw_significance: Level = Field(
        default=0.001, description="p-value below which that factor is no accident."
    )
    alert_sample_ratio_significance: Level = Field(
        default=0.001,
        description="p-value below which the engine does not draw by the weights.",
    )

    # the X API
    x_base_url: str = Field(
        default="https://api.x.com",
        description="Where the X API is; http:// is accepted for 127.0.0.1 only.",
    )
    x_user_id: str | None = Field(
        default=None,
        description="The account's number on X. Unset: what an OAuth 1.0a user token begins with.",
    )
    x_access_token: SecretStr | None = Field(
        default=None, description="User token of OAuth 2.0, or of OAuth 1.0a with its secrets."
    )
    x_access_token_secret: SecretStr | None = Field(
        default=None, description="OAuth 1.0a: secret of the user token."
    )
    x_consumer_key: SecretStr | None = Field(default=None, description="OAuth 1.0a: the app's key.")
    x_consumer_secret: SecretStr | None = Field(
        default=None, description="OAuth 1.0a: the app's secret."
    )
    x_refresh_token: SecretStr | None = Field(
        default=None,
        description="OAuth 2.0: refresh token. Renewed tokens are kept in GENOPT_HOME, readable "
        "by their owner only.",
    )
    x_client_id: str | None = Field(default=None, description="OAuth 2.0: the app's client id.")
    x_client_secret: SecretStr | None = Field(
        default=None, description="OAuth 2.0: the app's client secret, if it has one."
    )
    x_fields_parameter: Literal["tweet.fields", "post.fields"] = Field(
        default="tweet.fields", description="Name of the request's parameter for a post's fields."
    )
    x_posts_per_utc_day: int | None = Field(
        default=None, ge=1, description="Posts that may be billed a UTC day. Unset: no limit."
    )
    x_posts_per_month: int | None = Field(
        default=None, ge=1, description="Posts that may be billed a month. Unset: no limit."
    )
    x_timeline_post_usd: float = Field(
        default=0.001,
        ge=0,
        description="Price of a post of the own timeline, once a UTC day (X's list of August "
        "2026).",
    )
    x_lookup_post_usd: float = Field(
        default=0.005,
        ge=0,
        description="Price of a post asked for by id, once a UTC day (X's list of August 2026).",
    )
    x_user_usd: float = Field(
        default=0.010,
        ge=0,
        description="Price of a reading of the follower count, once a UTC day (X's list of August "
        "2026).",
    )
    x_analytics: Literal["auto", "off"] = Field(
        default="auto", description="Per-post follows: auto probes once whether X offers them."
    )

    # the sandbox
    sandbox_seed: int = Field(default=1, ge=0, description="Seed of the simulated account.")
    sandbox_world: str = Field(
        default="stationary",
        description="World of the simulated account: stationary, drift, switch, new_arm, "
        "heavy_tail, null, sparse, dense or shocks.",
    )
    sandbox_posts_per_day: float | None = Field(
        default=None,
        gt=0,
        le=500,
        description="Posts a day of the simulated account. Unset: as its world has it.",
    )

    @property
    def estimator(self) -> Literal["attributed", "platform"]:
        """The estimator of followers in force; see ``followers_estimator``."""
        if self.followers_estimator is not None:
            return self.followers_estimator
        return "platform" if self.source == "exports" else "attributed"


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises
    ------
    pydantic.ValidationError
        A variable has a value that its setting does not allow.
    """
    return Settings()
