"""Reading an answer's body within bounds, and what may be believed of it.

Here: bytes to a JSON object, with bounds on size, depth and number of values. Not here: what the
object means (``parsing``), and status codes (``errors``).

The memory that one body can take is bounded by ``max_bytes`` (held at most four times: parts,
whole, decoded text of up to four bytes a character) and ``max_tokens`` (at most some hundred bytes
a value).
"""

import json
import re
import zlib
from collections.abc import Iterable
from typing import Any, Final, NoReturn

import httpx

from genopt_pipeline.sources.x_api.errors import XApiTransientError

_STRING_OR_BRACKET: Final = re.compile(
    # a string without an end runs to the end of the body: each byte is looked at once
    rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[\]{}]',
    re.DOTALL,
)
_JSON_TYPES: Final = frozenset({"application/json", "application/problem+json", "text/json"})


def is_json(content_type: str | None) -> bool:
    """Whether the header announces JSON."""
    if content_type is None:
        return False
    name = content_type.split(";", 1)[0].strip().lower()
    return name in _JSON_TYPES or name.endswith("+json")


def read_body(response: httpx.Response, *, max_bytes: int) -> bytes:
    """The body, uncompressed, at most ``max_bytes``.

    Raises
    ------
    XApiTransientError
        It is longer (kind ``too_large``), or compressed in a way that was not offered or broken.
    httpx.TransportError
        The connection failed on the way.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding in {"", "identity"}:
        parts: Iterable[bytes] = response.iter_raw()
    elif encoding == "gzip":
        parts = _gunzip(response.iter_raw(), max_bytes)
    else:
        raise XApiTransientError("the body has an encoding that was not offered", kind="encoding")
    whole = bytearray()
    for part in parts:
        if len(whole) + len(part) > max_bytes:
            raise XApiTransientError(
                f"the body is longer than {max_bytes} bytes",
                kind="too_large",
                retry_now=False,
                maybe_billed=True,
            )
        whole += part
    return bytes(whole)


def _gunzip(parts: Iterable[bytes], max_bytes: int) -> Iterable[bytes]:
    """Decompress in steps that are bounded themselves: 64 KiB can hold 64 MiB of zeros."""
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)
    step = min(max_bytes + 1, 1 << 18)
    for part in parts:
        rest = part
        while rest and not decoder.eof:
            try:
                yield decoder.decompress(rest, step)
            except zlib.error:
                raise XApiTransientError(
                    "the compressed body is broken", kind="encoding", maybe_billed=True
                ) from None
            rest = decoder.unconsumed_tail
    if not decoder.eof:
        raise XApiTransientError(
            "the compressed body is cut off", kind="truncated", maybe_billed=True
        )


def parse_object(body: bytes, *, max_depth: int, max_tokens: int) -> dict[str, Any]:
    """The JSON object in ``body``.

    Raises
    ------
    XApiTransientError
        It is no JSON object, nested deeper than ``max_depth``, or of too many values.
    """
    # before parsing: afterwards the memory is spent
    tokens = sum(body.count(mark) for mark in (b",", b"[", b"{", b":")) + body.count(b'"') // 2
    if tokens > max_tokens:
        raise XApiTransientError(
            f"the body has more than {max_tokens} values",
            kind="too_many_values",
            retry_now=False,
            maybe_billed=True,
        )
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(body):
        mark = match.group()[:1]
        if mark in b"[{":
            depth += 1
            if depth > max_depth:
                raise XApiTransientError(
                    f"the body is nested deeper than {max_depth}",
                    kind="too_deep",
                    retry_now=False,
                    maybe_billed=True,
                )
        elif mark in b"]}":
            depth -= 1
    document: Any = None
    reason = "it is no object"
    try:
        document = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        # the text of the error may quote the body
        reason = type(error).__name__
    if not isinstance(document, dict):
        raise XApiTransientError(
            f"the body cannot be read as JSON: {reason}", kind="not_json", maybe_billed=True
        )
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
