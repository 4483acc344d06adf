"""A loopback HTTP server in the shape of the X API over a simulated account.

Here: sockets, tokens, rate limits, and carrying out faults of connection, body and status. Not
here: documents and the bill (``server_answers``), which fault comes when (``faults``).

With it a user tries the live path without an account, and the tests of the client have a server
that misbehaves in every known way. It listens on the loopback interface only.
"""

import functools
import gzip
import ipaddress
import json
import logging
import random
import secrets
import socket
import struct
import sys
import threading
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from genopt_pipeline.sandbox.faults import (
    BODY_FAULTS,
    CONNECTION_FAULTS,
    RECORD_FAULTS,
    STATUS_FAULTS,
    FaultEntry,
    FaultPlan,
    NoFaults,
)
from genopt_pipeline.sandbox.server_answers import (
    AccountView,
    Answer,
    Answerer,
    Delivery,
    problem,
)

log = logging.getLogger("genopt_pipeline.sandbox.server")

#: requests in 15 minutes, as documented
RATE_LIMITS: Final = {
    "timeline": 900,
    "lookup": 5000,
    "users/me": 75,
    "analytics": 300,
    "usage": 50,
    "oauth2/token": 10_000,
}
_RATE_WINDOW_SECONDS: Final = 900
_HUGE_BYTES: Final = 32 * 1024 * 1024
_HTML: Final = b"<!DOCTYPE html><html><body><h1>Something went wrong</h1></body></html>"


@dataclass(frozen=True)
class OAuth2App:
    """An app with a user's first tokens; each refresh uses up the refresh token."""

    access_token: str
    refresh_token: str
    client_id: str
    client_secret: str | None = None
    lifetime_seconds: int = 7200


class SandboxServer:
    """A running server; ``base_url`` is what the client needs. Close it, or use ``with``."""

    def __init__(
        self,
        account: AccountView,
        *,
        user_id: str,
        host: str,
        port: int,
        faults: FaultPlan,
        clock: Callable[[], datetime],
        access_token: str | None,
        oauth2: OAuth2App | None,
        rate_limits: dict[str, int],
        redirect_to: str,
        stall_seconds: float,
        seed: int,
    ) -> None:
        if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"the sandbox server listens on the loopback interface, not on {host}")
        self.answerer = Answerer(account, user_id, random.Random(seed))  # noqa: S311  a simulation
        self.faults = faults
        self.clock = clock
        self.fault_log: list[FaultEntry] = []
        self.deliveries: list[Delivery] = []
        self.requests: Counter[str] = Counter()
        self.issued_tokens: list[str] = []
        self.redirect_to = redirect_to
        self.stall_seconds = stall_seconds
        self.rate_limits = rate_limits
        self._oauth2 = oauth2
        self._token = oauth2.access_token if oauth2 is not None else access_token
        self._refresh_token = None if oauth2 is None else oauth2.refresh_token
        self._token_ends: datetime | None = None
        self._used: Counter[tuple[str, int]] = Counter()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._http = _Listener((host, port), _handler_of(self))
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()

    @property
    def base_url(self) -> str:
        """Origin of the server."""
        host, port = self._http.server_address[:2]
        return f"http://{host if isinstance(host, str) else host.decode()}:{port}"

    def close(self) -> None:
        """Stop listening and release the port."""
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def wait(self, seconds: float) -> None:
        """Wait in real time, but no longer than the server lives."""
        self._closing.wait(seconds)

    # -- what a handler asks -------------------------------------------------------------------

    def respond(
        self, endpoint: str, params: dict[str, str], authorization: str | None
    ) -> tuple[Answer, str | None, dict[str, str]]:
        """Answer, fault to carry out, and headers."""
        with self._lock:
            now = self.clock()
            self.requests[endpoint] += 1
            headers = self._rate_headers(endpoint, now)
            if endpoint != "oauth2/token" and not self._authorized(authorization, now):
                return Answer(401, problem("unauthorized", "Unauthorized")), None, headers
            if int(headers["x-rate-limit-remaining"]) < 0:
                headers["x-rate-limit-remaining"] = "0"
                document = problem("too-many-requests", "Too Many Requests")
                return Answer(429, document), None, headers
            fault = self._applicable(endpoint, self.faults.choose(endpoint))
            if fault is not None:
                entry = FaultEntry(now, sum(self.requests.values()), endpoint, fault)
                self.fault_log.append(entry)
                log.info("fault %s in request %d (%s)", fault, entry.request, endpoint)
            if fault in STATUS_FAULTS:
                return self._status_answer(fault, headers, now), fault, headers
            if endpoint == "oauth2/token":
                return self._refresh(params, authorization, now), fault, headers
            answer = self.answerer.answer(endpoint, params, now, fault)
            return answer, fault, headers

    def confirm(self, answer: Answer) -> None:
        """The answer goes out whole: its records count as delivered."""
        with self._lock:
            self.deliveries.extend(answer.deliveries)

    def _applicable(self, endpoint: str, fault: str | None) -> str | None:
        about_posts = endpoint in {"timeline", "lookup"}
        if fault == "endless_pages" and endpoint != "timeline":
            return None
        if fault in RECORD_FAULTS and not about_posts:
            user_too = {"wrong_types", "missing_metrics", "null_metrics"}
            return fault if endpoint == "users/me" and fault in user_too else None
        if fault == "wrong_shape" and not about_posts:
            return None
        return fault

    def _authorized(self, authorization: str | None, now: datetime) -> bool:
        if self._token is None:
            return True
        if self._token_ends is not None and now >= self._token_ends:
            return False
        return authorization == f"Bearer {self._token}" or (
            authorization is not None
            and authorization.startswith("OAuth ")
            and f'oauth_token="{self._token}"' in authorization
        )

    def _refresh(self, params: dict[str, str], authorization: str | None, now: datetime) -> Answer:
        app = self._oauth2
        denied = Answer(
            400,
            {
                "error": "invalid_request",
                "error_description": "Value passed for the token was invalid.",
            },
        )
        if app is None or params.get("grant_type") != "refresh_token":
            return denied
        client: tuple[str | None, str | None] = (params.get("client_id"), None)
        if app.client_secret is not None:
            pair = b64decode((authorization or "").removeprefix("Basic ")).decode()
            name, _, password = pair.partition(":")
            client = name, password
        if client != (app.client_id, app.client_secret):
            return Answer(401, {"error": "unauthorized_client"})
        if params.get("refresh_token") != self._refresh_token:
            return denied
        self._token = f"access-{secrets.token_urlsafe(24)}"
        self._refresh_token = f"refresh-{secrets.token_urlsafe(24)}"
        self.issued_tokens += [self._token, self._refresh_token]
        self._token_ends = now + timedelta(seconds=app.lifetime_seconds)
        return Answer(
            200,
            {
                "token_type": "bearer",
                "expires_in": app.lifetime_seconds,
                "access_token": self._token,
                "refresh_token": self._refresh_token,
                "scope": "tweet.read users.read offline.access",
            },
        )

    def _rate_headers(self, endpoint: str, now: datetime) -> dict[str, str]:
        window = int(now.timestamp()) // _RATE_WINDOW_SECONDS
        self._used[endpoint, window] += 1
        limit = self.rate_limits.get(endpoint, 900)
        return {
            "x-rate-limit-limit": str(limit),
            "x-rate-limit-remaining": str(limit - self._used[endpoint, window]),
            "x-rate-limit-reset": str((window + 1) * _RATE_WINDOW_SECONDS),
        }

    def _status_answer(self, fault: str, headers: dict[str, str], now: datetime) -> Answer:
        simple = {
            "http_500": (500, problem("internal", "Internal Server Error")),
            "http_503": (503, problem("over-capacity", "Service Unavailable")),
            "http_504": (504, {}),
            "over_capacity_old_style": (
                503,
                {"errors": [{"code": 130, "message": "Over capacity"}]},
            ),
            "no_credits": (402, problem("credits", "Your account has no credits left.")),
            "client_forbidden": (403, problem("client-forbidden", "Use a project's app.")),
            "client_not_enrolled": (403, problem("client-not-enrolled", "Not enrolled.")),
            "unauthorized": (401, problem("unauthorized", "Unauthorized")),
            "redirect": (302, {}),
        }
        if fault in simple:
            if fault == "redirect":
                headers["Location"] = self.redirect_to
            return Answer(*simple[fault])
        if fault in {"http_502_html", "forbidden_html"}:
            return Answer(502 if fault == "http_502_html" else 403, _HTML)
        if fault == "usage_capped":
            capped = problem("usage-capped", "Usage cap exceeded: Monthly product cap")
            return Answer(429, {**capped, "period": "Monthly", "scope": "Product"})
        headers["x-rate-limit-remaining"] = "0"
        headers["x-rate-limit-reset"] = str(int(now.timestamp()) + 60)
        if fault == "rate_limited_old_style":
            return Answer(429, {"errors": [{"code": 88, "message": "Rate limit exceeded"}]})
        if fault == "rate_limited_no_reset":
            del headers["x-rate-limit-remaining"], headers["x-rate-limit-reset"]
        return Answer(429, problem("too-many-requests", "Too Many Requests"))


def serve(
    account: AccountView,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    user_id: str = "1",
    faults: FaultPlan | None = None,
    clock: Callable[[], datetime] | None = None,
    access_token: str | None = None,
    oauth2: OAuth2App | None = None,
    rate_limits: dict[str, int] | None = None,
    redirect_to: str = "http://127.0.0.1:9/elsewhere",
    stall_seconds: float = 30.0,
    seed: int = 0,
) -> SandboxServer:
    """Start a server over ``account`` in the background; port 0 takes a free one.

    Parameters
    ----------
    access_token, oauth2
        The token that requests must bear (OAuth 1.0a: the user's token; its signature is not
        checked), or an app whose token ends and is refreshed. Neither: anybody may ask.
    clock
        *Now* of the account and of the rate limits; the system's by default.
    stall_seconds
        Real seconds that the faults ``stall``, ``slow_bytes`` and ``slow_headers`` last.

    Raises
    ------
    ValueError
        ``host`` is not on the loopback interface.
    OSError
        The port is in use.
    """
    return SandboxServer(
        account,
        user_id=user_id,
        host=host,
        port=port,
        faults=faults or NoFaults(),
        clock=clock or (lambda: datetime.now(UTC)),
        access_token=access_token,
        oauth2=oauth2,
        rate_limits={**RATE_LIMITS, **(rate_limits or {})},
        redirect_to=redirect_to,
        stall_seconds=stall_seconds,
        seed=seed,
    )


def _endpoint_of(method: str, path: str, user_id: str) -> str | None:
    if method == "POST":
        return "oauth2/token" if path == "/2/oauth2/token" else None
    return {
        f"/2/users/{user_id}/tweets": "timeline",
        "/2/tweets": "lookup",
        "/2/users/me": "users/me",
        "/2/tweets/analytics": "analytics",
        "/2/usage/tweets": "usage",
    }.get(path)


class _Listener(ThreadingHTTPServer):
    """One thread a connection; a client that goes away is no error of the server."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if isinstance(sys.exception(), ConnectionError):
            log.debug("%s went away", client_address)
        else:
            super().handle_error(request, client_address)


def _handler_of(server: SandboxServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # small answers leave at once, instead of waiting for an acknowledgement
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's name
            log.debug(format, *args)

        def do_GET(self) -> None:
            self._handle("GET", "")

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            self._handle("POST", self.rfile.read(min(length, 1 << 16)).decode())

        def _handle(self, method: str, form: str) -> None:
            parts = urlsplit(self.path)
            endpoint = _endpoint_of(method, parts.path, server.answerer.user_id)
            params = {k: v[0] for k, v in parse_qs(parts.query or form).items()}
            if endpoint is None:
                not_found = problem("resource-not-found", "No such page")
                self._send(404, json.dumps(not_found).encode(), {})
                return
            answer, fault, headers = server.respond(
                endpoint, params, self.headers.get("Authorization")
            )
            try:
                self._carry_out(answer, fault, headers)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def _carry_out(self, answer: Answer, fault: str | None, headers: dict[str, str]) -> None:
            if isinstance(answer.document, bytes):
                html = {**headers, "Content-Type": "text/html"}
                self._send(answer.status, answer.document, html)
                return
            body = json.dumps(answer.document).encode()
            if fault in CONNECTION_FAULTS:
                self._break_connection(fault, body, headers)
            elif fault in BODY_FAULTS:
                self._send_broken_body(fault, body, headers)
            else:
                # before the bytes leave: whoever has them all may look at the log at once
                server.confirm(answer)
                self._send(answer.status, body, headers)

        def _head(self, status: int, headers: dict[str, str]) -> bytes:
            lines = {
                "Date": format_datetime(server.clock().astimezone(UTC), usegmt=True),
                "Content-Type": "application/json; charset=utf-8",
                **headers,
            }
            text = f"HTTP/1.1 {status} Status\r\n" + "".join(
                f"{name}: {value}\r\n" for name, value in lines.items()
            )
            return f"{text}\r\n".encode("latin-1")

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            head = self._head(status, {**headers, "Content-Length": str(len(body))})
            self.wfile.write(head + body)

        def _break_connection(self, fault: str, body: bytes, headers: dict[str, str]) -> None:
            self.close_connection = True
            head = self._head(200, {**headers, "Content-Length": str(len(body))})
            if fault == "reset":
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            elif fault == "truncated":
                self.wfile.write(head + body[: len(body) // 2])
            elif fault == "stall":
                server.wait(server.stall_seconds)
            else:
                text = head + body if fault == "slow_headers" else head[:-2]
                end = time.monotonic() + server.stall_seconds
                if fault == "slow_bytes":
                    self.wfile.write(head)
                    text = body
                for byte in text:
                    if time.monotonic() >= end:
                        return
                    self.wfile.write(bytes([byte]))
                    server.wait(0.02)

        def _send_broken_body(self, fault: str, body: bytes, headers: dict[str, str]) -> None:
            text = _broken_text(fault, body)
            if text is not None:
                self._send(200, text, headers)
            elif fault in {"html_200", "wrong_content_type"}:
                page = _HTML if fault == "html_200" else body
                self._send(200, page, {**headers, "Content-Type": "text/html"})
            elif fault == "gzip_bomb":
                self._send(200, _gzip_bomb(), {**headers, "Content-Encoding": "gzip"})
            else:
                self.close_connection = True
                self.wfile.write(self._head(200, {**headers, "Content-Length": str(_HUGE_BYTES)}))
                block = b'{"data": "' + b"x" * 65_526
                for _ in range(_HUGE_BYTES // len(block)):
                    self.wfile.write(block)

    return Handler


@functools.cache
def _gzip_bomb() -> bytes:
    """A small body that unpacks to a huge one."""
    return gzip.compress(b"[" * _HUGE_BYTES, compresslevel=9)


def _broken_text(fault: str, body: bytes) -> bytes | None:
    """The body of a fault that is a text of its own; None for the others."""
    match fault:
        case "not_json":
            return body[:-1] + b",,}"
        case "json_array":
            return b"[" + body + b"]"
        case "empty_body":
            return b""
        case "wrong_shape":
            return b'{"data": {"id": "1"}}'
        case "deep_json":
            return b'{"data":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
        case "many_values":
            return b'{"data":[' + b"[]," * 1_000_000 + b"[]]}"
        case "huge_number":
            return b'{"data":' + b"9" * 1_000_000 + b"}"
        case _:
            return None


__all__ = ["OAuth2App", "SandboxServer", "serve"]
