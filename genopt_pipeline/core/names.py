"""Generator names as people and engines write them, mapped to the registered ones.

What belongs here: the key by which spellings are compared, and the rule that turns a spelling into
a registered name or into "unknown". What does not: the alias table and the quarantine themselves.

A trigger in the database applies the same rules to posts of engines in any language, so they are
kept to what SQL states exactly: ASCII case, a fixed set of blanks, no locale, no similarity. A
name that is merely similar is never taken for the registered one: crediting a post to the wrong
generator is worse than asking. Similarity serves only to suggest an answer to a person.
"""

import difflib
import re
import string
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

#: What counts as a blank: ASCII white space and the no-break space that spreadsheets leave. Python
#: and PostgreSQL disagree on what else ``\s`` matches, so the set is spelled out on both sides.
BLANKS: Final = " \t\n\r\f\v\u00a0"

_TRAILING_SUFFIX: Final = re.compile(r"\([^()]*\)\Z")
_SEPARATORS: Final = re.compile(f"[{BLANKS}_-]")
_ASCII_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)

#: Below this similarity (0 to 1, of the keys) a registered name is not worth suggesting.
SUGGESTION_CUTOFF: Final = 0.6


def normalize_name(raw: str) -> str:
    """Return the key under which a spelling of a generator's name is compared.

    In this order: strip blanks from both ends; drop one parenthesised suffix at the end, such as
    ``(style)`` (one without parentheses inside); put ASCII letters into lower case; remove blanks,
    underscores and hyphens. ``HumanVoice (style)``, ``human_voice`` and ``human-Voice`` all have
    the key ``humanvoice``. Letters outside ASCII are compared as they stand. The key of a text
    that holds nothing else is empty, and nothing is registered under an empty key.
    """
    stripped = _TRAILING_SUFFIX.sub("", raw.strip(BLANKS))
    return _SEPARATORS.sub("", stripped.translate(_ASCII_LOWER))


def resolve(
    raw: str, registered: Iterable[str], aliases: Mapping[str, str] | None = None
) -> str | None:
    """Return the registered name that a spelling stands for, or None if that is not certain.

    A spelling that is a registered name, letter for letter, is that name. Otherwise the candidates
    are the registered names with the same key and the registered targets of the aliases with the
    same key. Exactly one candidate is the answer; none is unknown and two are ambiguous, and both
    give None, for the caller to quarantine.

    Parameters
    ----------
    raw
        The name as the post carries it.
    registered
        The account's generators, whatever their status (a disabled one still has posts).
    aliases
        Spelling to registered name. A spelling is compared by its key; an alias to a name that is
        not registered resolves nothing.
    """
    names = set(registered)
    if raw in names:
        return raw
    key = normalize_name(raw)
    if not key:
        return None
    candidates = {name for name in names if normalize_name(name) == key}
    candidates |= {
        target
        for alias, target in (aliases or {}).items()
        if target in names and normalize_name(alias) == key
    }
    return candidates.pop() if len(candidates) == 1 else None


def colliding_names(registered: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the keys that several registered names share, with those names, sorted.

    Spellings with such a key are ambiguous; the set-up check reports them, and with them any
    registered name whose key is empty, which no other spelling can reach.
    """
    by_key: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(set(registered)):
        by_key[normalize_name(name)].append(name)
    return {key: tuple(names) for key, names in by_key.items() if len(names) > 1 or not key}


def suggest(raw: str, registered: Iterable[str], *, limit: int = 3) -> tuple[str, ...]:
    """Return registered names that a person may have meant, the most similar first.

    For reports on quarantined names only; nothing may resolve a name by this.
    """
    key = normalize_name(raw)
    by_key: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(set(registered)):
        by_key[normalize_name(name)].append(name)
    matches = difflib.get_close_matches(key, sorted(by_key), n=limit, cutoff=SUGGESTION_CUTOFF)
    return tuple(name for match in matches for name in by_key[match])[:limit]
