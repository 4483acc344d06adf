"""Settings of the X API source: where, as whom, how often, and how much it may take.

Here: frozen settings that check themselves. Not here: reading the environment (``settings``), and
anything that acts on them. Secrets are ``SecretStr``: neither ``repr`` nor an error shows them.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from genopt_pipeline.core.polling import PollingConfig

_ID = re.compile(r"[0-9]{1,19}")
_LOOPBACK_NAME = "localhost"


@dataclass(frozen=True)
class OAuth1Credentials:
    """OAuth 1.0a: the app's key and secret, the user's token and secret. They do not expire."""

    consumer_key: SecretStr
    consumer_secret: SecretStr
    access_token: SecretStr
    access_token_secret: SecretStr


@dataclass(frozen=True)
class OAuth2Credentials:
    """OAuth 2.0 user token. With ``refresh_token`` and ``client_id`` it renews itself.

    Each refresh uses up the refresh token and gives a new one, which is kept in ``token_path``;
    from then on the file counts, not the setting, until the setting changes.
    ``client_secret`` is None for a public client.
    """

    access_token: SecretStr
    refresh_token: SecretStr | None = None
    client_id: str | None = None
    client_secret: SecretStr | None = None
    token_path: Path | None = None

    def __post_init__(self) -> None:
        if self.refresh_token is not None and (self.client_id is None or self.token_path is None):
            raise ValueError(
                "a refresh token needs the client id that it was issued to, and a file in which "
                "its successors are kept"
            )


@dataclass(frozen=True)
class RequestLimits:
    """Bounds on every request, so that no server can hold the next window up or fill memory."""

    connect_seconds: float = 5.0
    read_seconds: float = 10.0
    #: one request from connecting to the last byte, however slowly the bytes come
    request_seconds: float = 30.0
    #: everything that one window does
    collect_seconds: float = 240.0
    max_attempts: int = 4
    wait_initial_seconds: float = 0.5
    wait_max_seconds: float = 20.0
    #: longest wait for a rate limit's reset inside a window; a later reset ends the window
    rate_limit_wait_seconds: float = 90.0
    max_body_bytes: int = 4 * 1024 * 1024
    max_json_depth: int = 32
    #: commas, colons, brackets and strings in a body: what bounds the parsed document's memory
    max_json_tokens: int = 100_000
    max_pages: int = 32

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} must be positive")


@dataclass(frozen=True)
class AnalyticsConfig:
    """The optional endpoint of per-post follows; ``auto`` probes once and remembers."""

    mode: Literal["auto", "off"] = "auto"
    #: time between two readings of the follows (they are analysed every two hours)
    every_minutes: float = 120.0
    #: after this time an endpoint found absent is probed again
    probe_again_days: float = 30.0
    #: how far back, and how soon after the hour, a past window can be had
    past_days: float = 30.0
    settle_minutes: float = 60.0


@dataclass(frozen=True)
class XApiConfig:
    """The X API of one account.

    Raises
    ------
    ValueError
        ``base_url`` is not https (http is for the loopback interface only) or holds more than an
        origin and a path; ``user_id`` is not a number.
    """

    user_id: str
    credentials: OAuth1Credentials | OAuth2Credentials
    base_url: str = "https://api.x.com"
    #: the request's name for the fields of posts; both names of every answer are understood
    fields_parameter: Literal["tweet.fields", "post.fields"] = "tweet.fields"
    metric_fields: tuple[str, ...] = ("public_metrics", "non_public_metrics", "organic_metrics")
    #: kinds of entries of the timeline that are not posts of the account
    exclude: tuple[str, ...] = ("retweets",)
    read_followers: bool = True
    polling: PollingConfig = field(default_factory=PollingConfig)
    limits: RequestLimits = field(default_factory=RequestLimits)
    analytics: AnalyticsConfig = field(default_factory=AnalyticsConfig)
    #: difference to the server's clock from which on it is reported as a warning
    max_clock_skew_seconds: float = 30.0

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.user_id):
            raise ValueError(f"user_id must be the account's number, not {self.user_id[:40]!r}")
        check_base_url(self.base_url)

    @property
    def origin(self) -> str:
        """Scheme, host and port: the only place that the credentials are ever sent to."""
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}"


def check_base_url(url: str) -> None:
    """Refuse a base URL to which a token should not be sent.

    Raises
    ------
    ValueError
        It says what is wrong, without the URL's user name and password.
    """
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError("the base URL must not hold a user name or password")
    if not parts.hostname or parts.query or parts.fragment:
        raise ValueError("the base URL must be an origin such as https://api.x.com")
    if parts.scheme == "https":
        return
    if parts.scheme != "http" or not _is_loopback(parts.hostname):
        raise ValueError(
            "the base URL must begin with https:// (http:// is for 127.0.0.1 only): a token sent "
            "in clear text can be read on the way"
        )


def _is_loopback(host: str) -> bool:
    if host == _LOOPBACK_NAME:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def oauth_credentials(
    *,
    access_token: SecretStr | None,
    access_token_secret: SecretStr | None = None,
    consumer_key: SecretStr | None = None,
    consumer_secret: SecretStr | None = None,
    refresh_token: SecretStr | None = None,
    client_id: str | None = None,
    client_secret: SecretStr | None = None,
    token_path: Path | None = None,
) -> OAuth1Credentials | OAuth2Credentials:
    """Credentials from loose settings: OAuth 1.0a if its secrets are there, else OAuth 2.0.

    Raises
    ------
    ValueError
        No access token, half of OAuth 1.0a's four values, or a refresh token without client id.
    """
    if access_token is None:
        raise ValueError("no access token: set GENOPT_X_ACCESS_TOKEN to a user token of X")
    first = {
        "consumer_key": consumer_key,
        "consumer_secret": consumer_secret,
        "access_token_secret": access_token_secret,
    }
    given = [name for name, value in first.items() if value is not None]
    if not given:
        return OAuth2Credentials(access_token, refresh_token, client_id, client_secret, token_path)
    if consumer_key is None or consumer_secret is None or access_token_secret is None:
        missing = sorted(set(first) - set(given))
        raise ValueError(f"OAuth 1.0a needs {', '.join(missing)} beside {', '.join(given)}")
    return OAuth1Credentials(consumer_key, consumer_secret, access_token, access_token_secret)
