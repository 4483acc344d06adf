"""Signing requests as the account's user, and renewing the right to do so.

Here: OAuth 1.0a (signature by Authlib) and OAuth 2.0 with refresh. Not here: transport (a refresh
is posted by a function that the client hands in) and where tokens lie (``tokens``).
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from authlib.oauth1 import ClientAuth as OAuth1ClientAuth
from authlib.oauth2.auth import ClientAuth as OAuth2ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_token_request
from pydantic import SecretStr

from genopt_pipeline.sources.x_api.config import OAuth1Credentials, OAuth2Credentials
from genopt_pipeline.sources.x_api.errors import XApiRefusedError, XApiTransientError
from genopt_pipeline.sources.x_api.files import locked
from genopt_pipeline.sources.x_api.tokens import (
    StoredToken,
    TokenFile,
    TokenFileError,
    seed_of,
)

#: a token this close to its end is renewed before it is used
_LEEWAY: Final = timedelta(seconds=60)
_LOCK_SECONDS: Final = 60.0
#: what can stand in a header as it is
_HEADER_SAFE: Final = re.compile(r"[\x21-\x7e]{1,8192}")
_AUTHORISE_AGAIN: Final = (
    "authorise the app again and set GENOPT_X_ACCESS_TOKEN and GENOPT_X_REFRESH_TOKEN"
)
TOKEN_PATH: Final = "/2/oauth2/token"  # noqa: S105  a path

#: (headers, form body) -> the token endpoint's document
PostToken = Callable[[Mapping[str, str], str], Mapping[str, Any]]


class Authorizer(Protocol):
    """Adds the user's credentials to requests."""

    def headers(self, method: str, url: str) -> dict[str, str]:
        """Headers that authorise this request; ``url`` exactly as it will be sent."""

    def ensure_active(self, post: PostToken) -> None:
        """Renew a token that is about to end."""

    def renew(self, post: PostToken) -> bool:
        """After a 401: get another token. False if there is no way to."""

    def secrets(self) -> list[str]:
        """Every secret in use, for redaction."""


class OAuth1Authorizer:
    """Signs with HMAC-SHA1 (RFC 5849); the token does not expire."""

    def __init__(self, credentials: OAuth1Credentials) -> None:
        self._credentials = credentials

    def headers(self, method: str, url: str) -> dict[str, str]:
        """The Authorization header with the signature of method, URL and query."""
        credentials = self._credentials
        signer = OAuth1ClientAuth(
            credentials.consumer_key.get_secret_value(),
            client_secret=credentials.consumer_secret.get_secret_value(),
            token=credentials.access_token.get_secret_value(),
            token_secret=credentials.access_token_secret.get_secret_value(),
        )
        _, headers, _ = signer.prepare(method, url, {}, b"")
        return {"Authorization": str(headers["Authorization"])}

    def ensure_active(self, post: PostToken) -> None:
        """Nothing to renew."""

    def renew(self, post: PostToken) -> bool:
        """There is no way to: a person has to make a new token."""
        del post
        return False

    def secrets(self) -> list[str]:
        """All four values; the app's key too, since it is half of a pair."""
        return [value.get_secret_value() for value in vars(self._credentials).values()]


class OAuth2Authorizer:
    """A bearer of a user's token, renewed with the refresh token where there is one."""

    def __init__(
        self,
        credentials: OAuth2Credentials,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._credentials = credentials
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._seed = seed_of(credentials.access_token, credentials.refresh_token)
        self._file = None if credentials.token_path is None else TokenFile(credentials.token_path)
        self._known_secrets: list[str] = []
        self._token = self._load()

    def headers(self, method: str, url: str) -> dict[str, str]:
        """The bearer header (RFC 6750)."""
        del method, url
        return {"Authorization": f"Bearer {self._token.access_token.get_secret_value()}"}

    def ensure_active(self, post: PostToken) -> None:
        """Renew a token that ends within a minute."""
        expires_at = self._token.expires_at
        if expires_at is not None and self._clock() >= expires_at - _LEEWAY:
            self.renew(post)

    def renew(self, post: PostToken) -> bool:
        """Spend the refresh token, or take the token that another process got meanwhile.

        Raises
        ------
        XApiRefusedError
            The refresh token is not accepted, or the token file cannot be used.
        XApiTransientError
            The token endpoint could not be reached, or another process holds the lock.
        """
        if self._file is None or self._token.refresh_token is None:
            return False
        spent = self._token.access_token.get_secret_value()
        try:
            with locked(
                self._file.path,
                timeout_seconds=_LOCK_SECONDS,
                monotonic=self._monotonic,
                sleep=self._sleep,
            ):
                self._token = self._load()
                if self._token.access_token.get_secret_value() != spent:
                    return True  # renewed by another process since we read the file
                self._token = self._exchange(self._file, self._token, post)
        except TimeoutError as error:
            raise XApiTransientError(
                f"the token is being renewed by another process: {error}", kind="token_lock"
            ) from None
        except (TokenFileError, OSError) as error:
            raise XApiRefusedError(
                f"the token cannot be renewed safely: {error}; make room or give access, nothing "
                "was spent",
                kind="token_file",
                stops_window=True,
            ) from None
        return True

    def secrets(self) -> list[str]:
        """Every token seen so far, the configured ones and the client's secret."""
        return list(self._known_secrets)

    def _load(self) -> StoredToken:
        configured = StoredToken(
            self._credentials.access_token, self._credentials.refresh_token, None, self._seed
        )
        stored: StoredToken | None = None
        if self._file is not None:
            try:
                stored = self._file.load()
            except TokenFileError as error:
                raise XApiRefusedError(str(error), kind="token_file", stops_window=True) from None
        # a person who sets new tokens means them: what descends from older ones is void
        token = stored if stored is not None and stored.seed == self._seed else configured
        self._learn(configured.access_token, configured.refresh_token)
        self._learn(token.access_token, token.refresh_token, self._credentials.client_secret)
        return token

    def _learn(self, *secrets: SecretStr | None) -> None:
        for secret in secrets:
            if secret is not None and secret.get_secret_value() not in self._known_secrets:
                self._known_secrets.append(secret.get_secret_value())

    def _exchange(self, file: TokenFile, token: StoredToken, post: PostToken) -> StoredToken:
        credentials = self._credentials
        if token.refresh_token is None:
            raise XApiRefusedError(
                f"the token has ended: {_AUTHORISE_AGAIN}", kind="unauthorized", stops_window=True
            )
        body = prepare_token_request(
            "refresh_token", refresh_token=token.refresh_token.get_secret_value()
        )
        secret = credentials.client_secret
        client = OAuth2ClientAuth(
            credentials.client_id,
            None if secret is None else secret.get_secret_value(),
            "none" if secret is None else "client_secret_basic",
        )
        _, headers, body = client.prepare(
            "POST",
            TOKEN_PATH,
            {"Content-Type": "application/x-www-form-urlencoded"},
            body,
        )
        self._learn(SecretStr(str(headers.get("Authorization", "")).removeprefix("Basic ")))
        interrupted = token.refreshing_since
        file.mark_refreshing(token, self._clock())
        try:
            document = post(headers, body)
        except XApiRefusedError as error:
            file.save(token)
            lost = (
                ""
                if interrupted is None
                else f" (a renewal begun at {interrupted:%Y-%m-%d %H:%M} UTC was cut off, its "
                "answer is lost)"
            )
            raise XApiRefusedError(
                f"the refresh token was not accepted{lost}: {_AUTHORISE_AGAIN}",
                kind="refresh_refused",
                stops_window=True,
            ) from error
        renewed = self._renewed(token, document)
        # known to the redaction before anything can fail, and on disk before it is used
        self._learn(renewed.access_token, renewed.refresh_token)
        file.save(renewed)
        return renewed

    def _renewed(self, token: StoredToken, document: Mapping[str, Any]) -> StoredToken:
        access = document.get("access_token")
        refresh = document.get("refresh_token")
        seconds = document.get("expires_in")
        if not isinstance(access, str) or not _HEADER_SAFE.fullmatch(access):
            raise XApiTransientError("the token endpoint sent no token", kind="wrong_shape")
        if refresh is not None and (not isinstance(refresh, str) or not refresh):
            raise XApiTransientError("the token endpoint sent no refresh token", kind="wrong_shape")
        known = isinstance(seconds, int) and not isinstance(seconds, bool) and 0 < seconds < 10**8
        return StoredToken(
            access_token=SecretStr(access),
            refresh_token=token.refresh_token if refresh is None else SecretStr(refresh),
            expires_at=(
                self._clock().astimezone(UTC) + timedelta(seconds=int(seconds or 0))
                if known
                else None
            ),
            seed=self._seed,
        )


def authorizer_of(
    credentials: OAuth1Credentials | OAuth2Credentials,
    *,
    clock: Callable[[], datetime],
    monotonic: Callable[[], float],
    sleep: Callable[[float], None],
) -> Authorizer:
    """The authorizer of these credentials."""
    if isinstance(credentials, OAuth1Credentials):
        return OAuth1Authorizer(credentials)
    return OAuth2Authorizer(credentials, clock=clock, monotonic=monotonic, sleep=sleep)
