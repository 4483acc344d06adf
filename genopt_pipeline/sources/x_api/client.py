"""One request to the X API: authorised, bounded, retried where that can help, and explained.

Here: sending, rate limits, retries, the server's clock. Not here: which requests a window needs
(``source``), what is billed (``ledger``), what a post looks like (``parsing``).

The client is for one thread. It follows no redirect, keeps no cookie, reads no proxy from the
environment, and sends the token to the configured origin alone.
"""

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import urlencode, urlsplit

import httpx
import stamina

from genopt_pipeline.sources.x_api.auth import TOKEN_PATH, authorizer_of
from genopt_pipeline.sources.x_api.body import is_json, parse_object, read_body
from genopt_pipeline.sources.x_api.config import XApiConfig
from genopt_pipeline.sources.x_api.errors import (
    X_API_ERRORS,
    Problem,
    XApiRateLimitedError,
    XApiRefusedError,
    XApiTransientError,
    error_of,
    problem_of,
)
from genopt_pipeline.sources.x_api.redaction import Redactor

log = logging.getLogger("genopt_pipeline.sources.x_api")

# each retry is logged below; by default stamina would print it once more, to standard output where
# structlog is installed, between a command's JSON
stamina.instrumentation.set_on_retry_hooks(())

#: a reset further away than this is not believed (X's longest limits are of a day)
_LONGEST_RATE_LIMIT: Final = timedelta(hours=25)
_USER_AGENT: Final = "genopt-pipeline"


@dataclass(frozen=True)
class ApiAnswer:
    """A usable answer (2xx, a JSON object) and when it was complete, by the local clock."""

    document: dict[str, Any]
    received_at: datetime


@dataclass(frozen=True)
class RateLimit:
    """What the headers last said of an endpoint; ``reset_at`` by the local clock."""

    limit: int | None
    remaining: int | None
    reset_at: datetime | None


class RateMemory(Protocol):
    """Remembers rate limits from one window to the next."""

    def rate_limit(self, endpoint: str) -> RateLimit | None:
        """What was last learnt of the endpoint."""

    def learn_rate_limit(self, endpoint: str, rate: RateLimit) -> None:
        """Remember it."""


class XApiClient:
    """GET requests to one origin as one user.

    Parameters
    ----------
    transport
        Anything of httpx; by default one that ends requests by a deadline. A transport of one's
        own has to mind the time-outs of httpx itself.
    clock, monotonic, sleep, rng
        Time (UTC), durations, waiting and jitter.
    """

    def __init__(
        self,
        config: XApiConfig,
        rates: RateMemory,
        *,
        transport: httpx.BaseTransport,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._config = config
        self._limits = config.limits
        self._rates = rates
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        # jitter needs to differ between processes, not to be secret
        self._rng = rng or random.Random()  # noqa: S311
        self._auth = authorizer_of(
            config.credentials, clock=clock, monotonic=monotonic, sleep=sleep
        )
        self.redactor = Redactor(self._auth.secrets())
        self._http = httpx.Client(
            transport=transport,
            follow_redirects=False,
            trust_env=False,
            timeout=httpx.Timeout(self._limits.read_seconds, connect=self._limits.connect_seconds),
        )
        self._origin = _origin_of(config.base_url)
        self.requests: Counter[str] = Counter()
        #: what went wrong, by kind, retried or not
        self.faults: Counter[str] = Counter()
        self.skews_seconds: list[float] = []
        #: whether any attempt of the last ``get`` may have been billed without an answer
        self.maybe_billed = False
        self._deadline = float("inf")

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def begin_window(self, deadline: float) -> None:
        """Start counting afresh; ``deadline`` (monotonic) ends everything of this window."""
        self._deadline = deadline
        self.requests.clear()
        self.faults.clear()
        self.skews_seconds.clear()

    def get(self, endpoint: str, path: str, params: Mapping[str, str]) -> ApiAnswer:
        """Ask for a document; ``endpoint`` is the name of its rate limit and of its messages.

        Raises
        ------
        XApiTransientError, XApiRateLimitedError, XApiRefusedError
            See there; every attempt that made sense has been made.
        """
        renewed = False
        waited = False
        self.maybe_billed = False
        while True:
            self._mind_rate_limit(endpoint)
            try:
                self._auth.ensure_active(self._post_token)
                return self._with_retries(
                    endpoint, lambda: self._send(endpoint, "GET", path, params)
                )
            except XApiRefusedError as error:
                # a token can end between two looks at the clock, or be renewed elsewhere
                if error.kind != "unauthorized" or renewed:
                    raise
                renewed = True
                if not self._auth.renew(self._post_token):
                    raise
            except XApiRateLimitedError as error:
                if waited or not self._can_wait_until(error.retry_at):
                    raise
                waited = True
            finally:
                self.redactor.add(self._auth.secrets())

    def _post_token(self, headers: Mapping[str, str], body: str) -> Mapping[str, Any]:
        self.redactor.add(self._auth.secrets())
        answer = self._with_retries(
            "oauth2/token",
            lambda: self._send("oauth2/token", "POST", TOKEN_PATH, {}, headers, body),
        )
        return answer.document

    def _with_retries(self, endpoint: str, call: Callable[[], ApiAnswer]) -> ApiAnswer:
        """Repeat ``call`` after transient errors, with exponential waits and full jitter.

        stamina counts the attempts; the waiting is ours, so that it can be virtual and ends with
        the window.
        """
        limits = self._limits
        number = 0

        def wait_or_give_up(error: Exception) -> bool | float:
            if isinstance(error, X_API_ERRORS):
                self.faults[error.kind] += 1
                log.warning("%s: %s: %s", endpoint, error.kind, error)
            if not isinstance(error, XApiTransientError):
                return False
            self.maybe_billed = self.maybe_billed or error.maybe_billed
            if not error.retry_now:
                return False
            if number >= limits.max_attempts:
                return False
            ceiling = min(
                limits.wait_initial_seconds * 2.0 ** (number - 1), limits.wait_max_seconds
            )
            wait = ceiling * self._rng.uniform(0.5, 1.0)
            if self._monotonic() + wait >= self._deadline:
                return False
            self._sleep(wait)
            return 0.0

        for attempt in stamina.retry_context(
            wait_or_give_up, attempts=limits.max_attempts, timeout=None
        ):
            number = attempt.num
            with attempt:
                return call()
        raise AssertionError("stamina ends with an answer or an error")

    def _mind_rate_limit(self, endpoint: str) -> None:
        """Do not send what the last headers have ruled out."""
        rate = self._rates.rate_limit(endpoint)
        if rate is None or rate.remaining != 0 or rate.reset_at is None:
            return
        if rate.reset_at <= self._clock() or self._can_wait_until(rate.reset_at):
            return
        raise XApiRateLimitedError(
            f"{endpoint}: no requests are left until {rate.reset_at:%Y-%m-%d %H:%M:%S} UTC, as "
            "X's last answer said; nothing was sent",
            retry_at=rate.reset_at,
        )

    def _can_wait_until(self, retry_at: datetime | None) -> bool:
        """Wait for a near reset; False if it is unknown or too far away."""
        if retry_at is None:
            return False
        wait = max((retry_at - self._clock()).total_seconds(), 0.0) + 1.0
        too_long = wait > self._limits.rate_limit_wait_seconds
        if too_long or self._monotonic() + wait >= self._deadline:
            return False
        self._sleep(wait)
        return True

    def _send(
        self,
        endpoint: str,
        method: str,
        path: str,
        params: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
        body: str = "",
    ) -> ApiAnswer:
        """One attempt."""
        self.requests[endpoint] += 1
        # commas stay as they are: what is signed is what is sent
        query = f"?{urlencode(params, safe=',')}" if params else ""
        url = f"{self._config.base_url.rstrip('/')}{path}{query}"
        if _origin_of(url) != self._origin:
            raise XApiRefusedError("a request left the configured origin", kind="origin")
        sent = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": _USER_AGENT,
            **(headers if headers is not None else self._auth.headers(method, url)),
        }
        end = min(self._monotonic() + self._limits.request_seconds, self._deadline)
        if end <= self._monotonic():
            raise XApiTransientError(
                f"{endpoint}: the window's time is used up", kind="window_time", retry_now=False
            )
        request = self._http.build_request(
            method,
            url,
            headers=sent,
            content=body.encode() if body else None,
            extensions={"genopt.deadline": end},
        )
        response: httpx.Response | None = None
        try:
            response = self._http.send(request, stream=True, follow_redirects=False)
            self._learn_from_headers(endpoint, response)
            content = read_body(response, max_bytes=self._limits.max_body_bytes)
            received_at = self._clock()
            return self._answer_of(endpoint, response, content, received_at)
        except httpx.TransportError as error:
            raise self._transport_error(endpoint, error, began=response is not None) from None
        except (httpx.InvalidURL, httpx.StreamError) as error:
            raise XApiTransientError(
                f"{endpoint}: the answer cannot be read ({type(error).__name__})", kind="protocol"
            ) from None
        finally:
            if response is not None:
                response.close()
            self._http.cookies.clear()

    def _answer_of(
        self, endpoint: str, response: httpx.Response, content: bytes, received_at: datetime
    ) -> ApiAnswer:
        status = response.status_code
        json_announced = is_json(response.headers.get("content-type"))
        document: dict[str, Any] | None = None
        broken: XApiTransientError | None = None
        if json_announced and content:
            try:
                document = parse_object(
                    content,
                    max_depth=self._limits.max_json_depth,
                    max_tokens=self._limits.max_json_tokens,
                )
            except XApiTransientError as unreadable:
                broken = unreadable
        # the body of an error is a help, its status is what counts
        problem = problem_of(document)
        problem = Problem(
            problem.type_name and self.redactor.text(problem.type_name, max_chars=60),
            self.redactor.text(problem.text),
            problem.old_code,
        )
        error = error_of(status, problem, endpoint=endpoint, retry_at=self._retry_at(response))
        if isinstance(error, XApiRefusedError) and error.kind == "unauthorized":
            raise self._with_clock_hint(error)
        if error is not None:
            raise error
        if broken is not None:
            raise broken
        if document is None:
            what = "no body" if not content else "something else than JSON"
            kind = "empty_body" if not content else "html_body"
            raise XApiTransientError(
                f"X answered {status} to {endpoint} with {what}: ask again later",
                kind=kind,
                maybe_billed=True,
            )
        if "data" not in document and problem.old_code is not None:
            # the older errors came with status 200 at times
            old = error_of(
                HTTPStatus.BAD_REQUEST,
                problem,
                endpoint=endpoint,
                retry_at=self._retry_at(response),
            )
            if old is not None:
                raise old
        return ApiAnswer(document, received_at)

    def _with_clock_hint(self, error: XApiRefusedError) -> XApiRefusedError:
        """A signature of a wrong time is refused as a wrong token is: say so where it may be."""
        skew = self.skews_seconds[-1] if self.skews_seconds else 0.0
        if abs(skew) <= self._config.max_clock_skew_seconds:
            return error
        return XApiRefusedError(
            f"{error}; or set this machine's clock, which differs from X's by {-skew:+.0f} s",
            kind=error.kind,
            stops_window=error.stops_window,
        )

    def _transport_error(
        self, endpoint: str, error: httpx.TransportError, *, began: bool
    ) -> XApiTransientError:
        name = type(error).__name__
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
            kind = "connect"
        elif isinstance(error, httpx.TimeoutException):
            kind = "timeout"
        elif isinstance(error, httpx.RemoteProtocolError):
            kind = "truncated" if began else "disconnected"
        elif isinstance(error, httpx.NetworkError):
            kind = "reset"
        else:
            kind = "protocol"
        return XApiTransientError(
            f"{endpoint}: {name} from {self._origin[1]}: ask again later, or check "
            "GENOPT_X_BASE_URL and the network",
            kind=kind,
            maybe_billed=kind != "connect",
        )

    def _learn_from_headers(self, endpoint: str, response: httpx.Response) -> None:
        now = self._clock()
        server_now = _date_of(response)
        if server_now is not None:
            # the header is cut to whole seconds, so the server's clock is half a second on
            self.skews_seconds.append((server_now - now).total_seconds() + 0.5)
        headers = response.headers
        remaining = _whole_number(headers.get("x-rate-limit-remaining"))
        limit = _whole_number(headers.get("x-rate-limit-limit"))
        reset_at = self._reset_at(response)
        if response.status_code == HTTPStatus.TOO_MANY_REQUESTS and reset_at is not None:
            remaining = 0
        if remaining is not None or limit is not None:
            self._rates.learn_rate_limit(endpoint, RateLimit(limit, remaining, reset_at))

    def _reset_at(self, response: httpx.Response) -> datetime | None:
        """The reset by the local clock: the server's own *now* is subtracted where it is told."""
        now = self._clock()
        seconds = _whole_number(response.headers.get("x-rate-limit-reset"))
        if seconds is None or seconds > 2**33:
            return None
        server_now = _date_of(response) or now
        wait = datetime.fromtimestamp(seconds, UTC) - server_now
        if wait > _LONGEST_RATE_LIMIT or wait < -_LONGEST_RATE_LIMIT:
            return None
        return now + max(wait, timedelta(0))

    def _retry_at(self, response: httpx.Response) -> datetime | None:
        reset_at = self._reset_at(response)
        if reset_at is not None:
            return reset_at
        seconds = _whole_number(response.headers.get("retry-after"))
        if seconds is None or timedelta(seconds=min(seconds, 2**31)) > _LONGEST_RATE_LIMIT:
            return None
        return self._clock() + timedelta(seconds=seconds)


def _origin_of(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port


def _whole_number(text: str | None) -> int | None:
    text = "" if text is None else text.strip()
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        return None
    return int(text)


def _date_of(response: httpx.Response) -> datetime | None:
    text = response.headers.get("date")
    if text is None:
        return None
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return date.astimezone(UTC) if date.tzinfo is not None else date.replace(tzinfo=UTC)
