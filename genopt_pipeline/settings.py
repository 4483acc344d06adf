"""Typed settings, read from the environment (``GENOPT_*``) in one place.

Every setting is documented here and nowhere else by hand: ``docs/settings.md`` and ``genopt
validate`` print these descriptions. Nothing reads the environment at import; call
:func:`load_settings` where a process begins.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    value = value.astimezone(UTC)
    if (value.hour % 6, value.minute, value.second, value.microsecond) != (0, 0, 0, 0):
        raise ValueError("must lie on a six-hour boundary, such as 2026-09-01T00:00:00Z")
    return value


Probability = Annotated[float, Field(ge=0, le=1)]


class Settings(BaseSettings):
    """Settings of one installation; names in the environment are ``GENOPT_`` plus the name."""

    model_config = SettingsConfigDict(env_prefix="GENOPT_", extra="ignore", frozen=True)

    # where things are
    home: Path = Field(
        default=Path(".genopt"),
        description="Data folder: the embedded PostgreSQL server, its log, rotated tokens.",
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

    # how weights are set
    policy: Literal["thompson", "exponential"] = Field(
        default="thompson", description="The policy that publishes; the other runs in its shadow."
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

    # the X API
    x_base_url: str = Field(
        default="https://api.x.com",
        description="Where the X API is; http:// is accepted for 127.0.0.1 only.",
    )
    x_user_id: str | None = Field(default=None, description="The account's number on X.")
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
    x_analytics: Literal["auto", "off"] = Field(
        default="auto", description="Per-post follows: auto probes once whether X offers them."
    )

    # the sandbox
    sandbox_seed: int = Field(default=1, ge=0, description="Seed of the simulated account.")
    sandbox_world: str = Field(default="stationary", description="World of the simulated account.")
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
