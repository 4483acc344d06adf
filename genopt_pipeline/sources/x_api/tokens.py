"""OAuth 2.0 user tokens on disk: a rotated refresh token must never be lost.

X gives a new refresh token with every refresh and takes back the old one, so a token that was
received and not written locks the account out. Hence: the file is proven writable before the
refresh token is spent, the answer is on disk (fsync, atomic replacement, mode 0600) before it is
used, and only one process refreshes at a time.

What remains: if the process dies after X rotated the token and before the answer was written, the
new token is gone. The file then still says that a refresh was under way, and the error says so.
"""

import hashlib
import json
import os
import stat
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from genopt_pipeline.sources.x_api.files import replace_file

_FORMAT: Final = 1


@dataclass(frozen=True)
class StoredToken:
    """A token as kept on disk. ``seed`` tells which configured token it descends from."""

    access_token: SecretStr
    refresh_token: SecretStr | None
    #: None: the server did not say
    expires_at: datetime | None
    seed: str
    #: set while a refresh is under way, cleared by its success
    refreshing_since: datetime | None = None


class TokenFileError(Exception):
    """The token file cannot be read or written; the message says what to do."""


def seed_of(access_token: SecretStr, refresh_token: SecretStr | None) -> str:
    """Fingerprint of the configured tokens, to notice that a person has set new ones."""
    material = [access_token.get_secret_value()]
    if refresh_token is not None:
        material.append(refresh_token.get_secret_value())
    return hashlib.sha256("\0".join(material).encode()).hexdigest()[:16]


class TokenFile:
    """The token of one account in one file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> StoredToken | None:
        """The stored token, or None if there is no file.

        Raises
        ------
        TokenFileError
            The file is damaged or cannot be opened.
        """
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TokenFileError(f"cannot open the token file: {error}") from error
        with os.fdopen(handle, "rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                # readable by others, by a copy or a mistake: close the door before using it
                os.fchmod(file.fileno(), 0o600)
            content = file.read(1 << 20)
        # no error below may carry the content along, since a message shows what could not be read
        document: Any = None
        try:
            document = json.loads(content)
        except ValueError:
            document = None
        try:
            return _token_of(document)
        except (KeyError, TypeError, ValueError):
            raise TokenFileError(
                f"the token file {self.path} is damaged: delete it and authorise the app again"
            ) from None

    def save(self, token: StoredToken) -> None:
        """Write the token, durable when this returns.

        Raises
        ------
        TokenFileError
            Nothing was changed.
        """
        document = {
            **asdict(token),
            "format": _FORMAT,
            "access_token": token.access_token.get_secret_value(),
            "refresh_token": token.refresh_token and token.refresh_token.get_secret_value(),
            "expires_at": token.expires_at and token.expires_at.isoformat(),
            "refreshing_since": token.refreshing_since and token.refreshing_since.isoformat(),
        }
        try:
            replace_file(self.path, json.dumps(document).encode())
        except OSError as error:
            raise TokenFileError(f"cannot write the token file: {error}") from error

    def mark_refreshing(self, token: StoredToken, now: datetime) -> None:
        """Note that the refresh token is about to be spent; proves that the file can be written.

        Raises
        ------
        TokenFileError
            The file cannot be written, so the refresh token must not be spent.
        """
        self.save(replace(token, refreshing_since=now))


def _token_of(document: dict[str, Any]) -> StoredToken:
    if document["format"] != _FORMAT:
        raise ValueError("another format")
    access, refresh = document["access_token"], document["refresh_token"]
    if not isinstance(access, str) or not isinstance(refresh, str | None):
        raise TypeError("tokens are texts")
    return StoredToken(
        access_token=SecretStr(access),
        refresh_token=None if refresh is None else SecretStr(refresh),
        expires_at=_time_of(document["expires_at"]),
        seed=str(document["seed"]),
        refreshing_since=_time_of(document["refreshing_since"]),
    )


def _time_of(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value).astimezone(UTC)
