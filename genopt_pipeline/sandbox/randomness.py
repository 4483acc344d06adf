"""Counter-based random numbers: the same number for the same place, whatever was asked before.

Here: Philox4x32-10 over arrays of counters, and uniforms, normals and Poisson counts made from it.
Not here: what the numbers are used for (``world``). A generator with hidden state could not give
post 4,711 of next March without drawing everything before it, so none is used in the sandbox.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
WordArray = npt.NDArray[np.uint64]

_MASK: Final = np.uint64(0xFFFFFFFF)
_SHIFT: Final = np.uint64(32)
_MULTIPLIER_0: Final = np.uint64(0xD2511F53)
_MULTIPLIER_1: Final = np.uint64(0xCD9E8D57)
_WEYL_0: Final = np.uint64(0x9E3779B9)
_WEYL_1: Final = np.uint64(0xBB67AE85)
_ROUNDS: Final = 10


class Stream(IntEnum):
    """One stream for each purpose, so that adding a purpose changes no other number."""

    ACCOUNT = 1
    RATE = 2
    DRIFT = 3
    SHOCK = 4
    SCHEDULE = 5
    SELECTION = 6
    REACH = 7
    FRAILTY = 8
    FOLLOW_COUNT = 9
    FOLLOW_TIME = 10
    FOLLOW_LAG = 11
    CLICK_COUNT = 12
    CLICK_TIME = 13
    ENGAGEMENT = 14
    ORGANIC_COUNT = 15
    ORGANIC_TIME = 16
    UNFOLLOW_COUNT = 17
    UNFOLLOW_TIME = 18
    QUALITY = 19
    REACH_LEVEL = 20
    IDENTITY = 21
    SIMULATION = 22


def philox(
    counter: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike, npt.ArrayLike],
    key: tuple[npt.ArrayLike, npt.ArrayLike],
) -> tuple[WordArray, WordArray, WordArray, WordArray]:
    """Four 32-bit words for each 128-bit counter under a 64-bit key.

    Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3"
    (2011). The words of counter and key are arrays below 2**32 that broadcast; the words returned
    are held in uint64.
    """
    c0, c1, c2, c3 = (np.asarray(word, dtype=np.uint64) for word in counter)
    k0, k1 = (np.asarray(word, dtype=np.uint64) for word in key)
    for _ in range(_ROUNDS):
        p0 = c0 * _MULTIPLIER_0
        p1 = c2 * _MULTIPLIER_1
        c0, c1, c2, c3 = (
            (p1 >> _SHIFT) ^ c1 ^ k0,
            p1 & _MASK,
            (p0 >> _SHIFT) ^ c3 ^ k1,
            p0 & _MASK,
        )
        k0 = (k0 + _WEYL_0) & _MASK
        k1 = (k1 + _WEYL_1) & _MASK
    return c0, c1, c2, c3


def _words(
    seed: npt.ArrayLike, stream: Stream, index: npt.ArrayLike, sub: npt.ArrayLike
) -> tuple[WordArray, WordArray, WordArray, WordArray]:
    seed_words = np.asarray(seed, dtype=np.uint64)
    index_words = np.asarray(index, dtype=np.int64).astype(np.uint64)
    return philox(
        (index_words & _MASK, index_words >> _SHIFT, sub, int(stream)),
        (seed_words & _MASK, seed_words >> _SHIFT),
    )


def _unit(high: WordArray, low: WordArray) -> FloatArray:
    """52 bits and half a cell: strictly inside (0, 1), so that quantiles are finite."""
    bits = (high << np.uint64(20)) | (low >> np.uint64(12))
    return (bits.astype(np.float64) + 0.5) * 2.0**-52


def uniform_pair(
    seed: npt.ArrayLike, stream: Stream, index: npt.ArrayLike, sub: npt.ArrayLike = 0
) -> tuple[FloatArray, FloatArray]:
    """Two independent uniforms in (0, 1) for each (seed, stream, index, sub); inputs broadcast.

    ``seed`` is below 2**64, ``index`` a signed 64-bit number, ``sub`` below 2**32 (for example
    the number of an event within its post).
    """
    w0, w1, w2, w3 = _words(seed, stream, index, sub)
    return _unit(w0, w1), _unit(w2, w3)


def uniform(
    seed: npt.ArrayLike, stream: Stream, index: npt.ArrayLike, sub: npt.ArrayLike = 0
) -> FloatArray:
    """One uniform in (0, 1) for each (seed, stream, index, sub): the first of the pair."""
    w0, w1, _, _ = _words(seed, stream, index, sub)
    return _unit(w0, w1)


def normal_pair(
    seed: npt.ArrayLike, stream: Stream, index: npt.ArrayLike, sub: npt.ArrayLike = 0
) -> tuple[FloatArray, FloatArray]:
    """Two independent standard normals for each place, by the inverse distribution function."""
    u, v = uniform_pair(seed, stream, index, sub)
    return special.ndtri(u), special.ndtri(v)


def derived_seeds(seed: int, n: int, *, first: int = 0) -> WordArray:
    """Seeds (n,) of accounts ``first`` … ``first + n - 1`` under one seed, each a 64-bit word."""
    w0, w1, _, _ = _words(seed, Stream.ACCOUNT, np.arange(first, first + n), 0)
    return np.asarray((w0 << _SHIFT) | w1, dtype=np.uint64)


def poisson_quantile(u: FloatArray, mean: FloatArray) -> IntArray:
    """The smallest k with P(Poisson(mean) <= k) >= u; both broadcast.

    Monotone in u and in mean, so that the same post under a better generator never has fewer
    events. ``special.pdtrik`` inverts the continuous extension; the step down corrects its
    rounding at the jumps.
    """
    u, mean = np.broadcast_arrays(u, mean)
    k = np.zeros(u.shape)
    some = mean > 0.0
    guess = np.ceil(special.pdtrik(u[some], mean[some]))
    below = np.maximum(guess - 1.0, 0.0)
    k[some] = np.where(special.pdtr(below, mean[some]) >= u[some], below, guess)
    return k.astype(np.int64)


def event_rows(counts: IntArray) -> tuple[IntArray, IntArray]:
    """Expand counts (n,) to one row an event: (row of the count, number within the row)."""
    rows = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts
    return rows, np.arange(len(rows)) - first[rows]


def chunks(n: int, size: int) -> Iterator[slice]:
    """Cut ``range(n)`` into slices of at most ``size``, to bound memory."""
    for begin in range(0, n, size):
        yield slice(begin, min(begin + size, n))
