"""Where a source keeps the little it must remember between two windows.

Here: the protocol and two stores, in memory and in files. A store in the database belongs to the
store package. What is kept (budgets, rate limits, what the API was found to lack) is JSON of a
few kilobytes; secrets are never among it.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from genopt_pipeline.sources.x_api.files import replace_file

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


class StateStore(Protocol):
    """Small JSON documents by key. ``set`` is durable when it returns."""

    def get(self, key: str) -> dict[str, Any] | None:
        """The document last set, or None."""

    def set(self, key: str, value: Mapping[str, Any]) -> None:
        """Replace the whole document."""


class MemoryStateStore:
    """A store that forgets with the process; it copies, so that nothing is shared."""

    def __init__(self) -> None:
        self._documents: dict[str, str] = {}

    def get(self, key: str) -> dict[str, Any] | None:
        """The document last set, or None."""
        text = self._documents.get(key)
        if text is None:
            return None
        document: dict[str, Any] = json.loads(text)
        return document

    def set(self, key: str, value: Mapping[str, Any]) -> None:
        """Replace the whole document."""
        self._documents[key] = json.dumps(value)


class FileStateStore:
    """One private file a key in a folder, replaced atomically."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, key: str) -> Path:
        return self._folder / f"{_UNSAFE.sub('_', key)}.json"

    def get(self, key: str) -> dict[str, Any] | None:
        """The document last set, or None.

        Raises
        ------
        ValueError
            The file is not one of ours (edited or damaged); the message names it.
        """
        path = self._path(key)
        try:
            text = path.read_text("utf-8")
        except FileNotFoundError:
            return None
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is damaged ({error}); delete it to start afresh") from error
        if not isinstance(document, dict):
            raise ValueError(f"{path} is damaged (no object); delete it to start afresh")
        return document

    def set(self, key: str, value: Mapping[str, Any]) -> None:
        """Replace the whole document."""
        replace_file(self._path(key), json.dumps(value).encode())
