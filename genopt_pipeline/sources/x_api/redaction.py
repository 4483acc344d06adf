"""Taking secrets, and what no database can hold, out of texts that a server sent.

A server can repeat a request's header in its answer. Whatever it says passes through here before
it reaches a message, a log, a report or a rejected record.
"""

import base64
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

MASK: Final = "[secret]"
#: shorter ones would mask common words
_MIN_SECRET_CHARS: Final = 6


class Redactor:
    """Replaces every form of the given secrets; the secrets themselves are never shown."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: list[str] = []
        self.add(secrets)

    def __repr__(self) -> str:
        return f"Redactor({len(self._forms)} forms)"

    def add(self, secrets: Iterable[str]) -> None:
        """Know these secrets too, plain, percent-encoded and in base64."""
        forms = set(self._forms)
        for secret in secrets:
            if len(secret) < _MIN_SECRET_CHARS:
                continue
            forms.update(
                {secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode()}
            )
        # the longest first, so that no remainder of a longer form is left
        self._forms = sorted(forms, key=len, reverse=True)

    def text(self, value: str, *, max_chars: int = 200) -> str:
        """One printable line without secrets, cut to ``max_chars``."""
        # cut only after masking (a secret's head is a secret too), but bound the work first
        bounded = value[: max_chars * 20]
        for form in self._forms:
            bounded = bounded.replace(form, MASK)
            # a secret that the bound cut in two
            for length in range(len(form) - 1, _MIN_SECRET_CHARS - 1, -1):
                if len(value) > len(bounded) and bounded.endswith(form[:length]):
                    bounded = bounded[:-length] + MASK
                    break
        line = "".join(ch if ch.isprintable() else " " for ch in bounded)
        line = line.encode("utf-8", "replace").decode("utf-8")
        return line if len(line) <= max_chars else f"{line[: max_chars - 1]}…"

    def record(self, value: object, *, max_items: int = 40, depth: int = 3) -> Any:
        """A bounded copy of a JSON value for a quarantine: no secrets, no long texts."""
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, (bool, float)):
            return value
        if isinstance(value, int):
            # a number of a thousand digits is data for nobody
            return value if abs(value) < 2**63 else self.text(str(value)[:100])
        if depth == 0:
            return "…"
        if isinstance(value, Mapping):
            return {
                self.text(str(key), max_chars=60): self.record(
                    item, max_items=max_items, depth=depth - 1
                )
                for key, item in list(value.items())[:max_items]
            }
        if isinstance(value, list):
            return [
                self.record(item, max_items=max_items, depth=depth - 1)
                for item in value[:max_items]
            ]
        return self.text(repr(value))
