"""What answers of the X API mean for the caller: wait, stop, or ask again.

Here: the errors, each with a short ``kind`` for reports, and the table from status and problem
type to error. Not here: transport, waiting and retrying (``client``).

Every message says what happened and what to do, and holds no secret: texts of the server are cut
and redacted before they come here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from genopt_pipeline.sources.base import (
    RateLimitedError,
    SourceRefusedError,
    TransientSourceError,
)


class XApiTransientError(TransientSourceError):
    """Asking again can help; ``retry_now`` if it can help within the same window.

    ``maybe_billed``: the server may have counted the posts of an answer that did not arrive.
    """

    def __init__(
        self, message: str, *, kind: str, retry_now: bool = True, maybe_billed: bool = False
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_now = retry_now
        self.maybe_billed = maybe_billed


class XApiRateLimitedError(RateLimitedError):
    """Too many requests; ``retry_at`` is the reset by the local clock, None if not told."""

    kind = "rate_limited"


class XApiRefusedError(SourceRefusedError):
    """A person has to act. ``stops_window``: no other request can succeed either."""

    def __init__(self, message: str, *, kind: str, stops_window: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.stops_window = stops_window


XApiError = XApiTransientError | XApiRateLimitedError | XApiRefusedError

#: Errors of one request, for ``except`` clauses.
X_API_ERRORS: Final = (XApiTransientError, XApiRateLimitedError, XApiRefusedError)

_CREDENTIALS_HELP: Final = (
    "check GENOPT_X_ACCESS_TOKEN and its companions: they must be a user token of the account "
    "(an app's bearer token is not), issued for this app and not revoked"
)
_PLAN_HELP: Final = (
    "look at the app's project and plan in X's developer console: it must be enrolled in the API "
    "and allowed to read posts"
)

#: last path segment of a problem's type -> (kind, what to do, ends the window)
_REFUSALS: Final[dict[str, tuple[str, str, bool]]] = {
    "usage-capped": (
        "usage_capped",
        (
            "the plan's cap on posts is used up; collection rests until it is reset, or raise the "
            "cap in X's developer console"
        ),
        True,
    ),
    "client-forbidden": ("client_forbidden", _PLAN_HELP, False),
    "client-not-enrolled": ("client_not_enrolled", _PLAN_HELP, False),
    "unsupported-authentication": (
        "unsupported_authentication",
        (
            "this request needs a user token (OAuth 1.0a or OAuth 2.0 with a user), not an app's "
            "bearer token"
        ),
        False,
    ),
    "not-authorized-for-resource": (
        "not_authorized",
        "the token may not read this; it must belong to the account itself",
        False,
    ),
    "resource-not-found": ("not_found", "check GENOPT_X_USER_ID", False),
    "invalid-request": (
        "invalid_request",
        (
            "a parameter was refused; if it is the fields parameter, set the other of tweet.fields "
            "and post.fields"
        ),
        False,
    ),
}

#: codes of the older error bodies that say more than the status they come with
_OLD_RATE_LIMIT: Final = 88
_OLD_TOKEN_CODES: Final = frozenset({32, 89, 99, 135, 215})
_OLD_TRANSIENT_CODES: Final = frozenset({130, 131})


@dataclass(frozen=True)
class Problem:
    """What an error body says; every part may be missing."""

    type_name: str | None
    text: str
    old_code: int | None


def problem_of(document: Mapping[str, Any] | None) -> Problem:
    """Read an error body in any of its shapes: a problem, a list of problems, old style."""
    if document is None:
        return Problem(None, "", None)
    entries: list[Mapping[str, Any]] = [document]
    errors = document.get("errors")
    if isinstance(errors, list):
        entries.extend(entry for entry in errors if isinstance(entry, Mapping))
    type_name: str | None = None
    text = ""
    old_code: int | None = None
    for entry in entries:
        kind = entry.get("type")
        if type_name is None and isinstance(kind, str):
            type_name = last_segment(kind)
        for name in ("detail", "title", "message"):
            words = entry.get(name)
            if not text and isinstance(words, str):
                text = words
        code = entry.get("code")
        if old_code is None and isinstance(code, int):
            old_code = code
    return Problem(type_name, text, old_code)


def last_segment(problem_type: str) -> str:
    """Last path segment of a problem's type; the host before it varies."""
    path = re.split("[?#]", problem_type[:500], maxsplit=1)[0]
    return path.rstrip("/").rsplit("/", 1)[-1]


def error_of(
    status: int, problem: Problem, *, endpoint: str, retry_at: datetime | None
) -> XApiError | None:
    """The error that an answer stands for; None for an answer that can be used (2xx).

    ``retry_at`` is the reset of the rate limit as told by the headers, by the local clock.
    """
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    said = f" ({problem.text})" if problem.text else ""
    where = f"X answered {status} to {endpoint}{said}"
    if problem.type_name == "usage-capped":
        kind, help_text, stops = _REFUSALS["usage-capped"]
        return XApiRefusedError(f"{where}: {help_text}", kind=kind, stops_window=stops)
    if status == HTTPStatus.TOO_MANY_REQUESTS or problem.old_code == _OLD_RATE_LIMIT:
        until = f"until {retry_at:%Y-%m-%d %H:%M:%S} UTC" if retry_at else "a while"
        return XApiRateLimitedError(
            f"{where}: too many requests, wait {until}; nothing needs to be done unless this "
            "comes in every window",
            retry_at=retry_at,
        )
    if problem.old_code in _OLD_TRANSIENT_CODES:
        return XApiTransientError(f"{where}: over capacity, ask again later", kind="over_capacity")
    if status == HTTPStatus.UNAUTHORIZED or problem.old_code in _OLD_TOKEN_CODES:
        return XApiRefusedError(
            f"{where}: {_CREDENTIALS_HELP}", kind="unauthorized", stops_window=True
        )
    if status == HTTPStatus.PAYMENT_REQUIRED:
        return XApiRefusedError(
            f"{where}: the app has no credits left; buy some in X's developer console",
            kind="no_credits",
            stops_window=True,
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_EARLY,
    }:
        return XApiTransientError(f"{where}: ask again later", kind=f"http_{status}")
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return XApiRefusedError(
            f"{where}: a redirect, which is not followed, since the token goes nowhere but to the "
            "configured origin; check GENOPT_X_BASE_URL",
            kind="redirect",
        )
    if problem.type_name in _REFUSALS:
        kind, help_text, stops = _REFUSALS[problem.type_name]
        return XApiRefusedError(f"{where}: {help_text}", kind=kind, stops_window=stops)
    if status == HTTPStatus.FORBIDDEN:
        return XApiRefusedError(f"{where}: {_PLAN_HELP}", kind="forbidden")
    if status == HTTPStatus.NOT_FOUND:
        return XApiRefusedError(f"{where}: {_REFUSALS['resource-not-found'][1]}", kind="not_found")
    return XApiRefusedError(f"{where}: {_REFUSALS['invalid-request'][1]}", kind=f"http_{status}")
