"""What was billed, what the headers allowed, and what rests: the source's memory between windows.

Here: one small document in a ``StateStore``, and the rules by which it stays an upper bound of
what X has counted, whatever fails or crashes. Not here: what to read (``core.polling``).

A post counts once a UTC day. Before a request is sent, the posts that it can bill are written
down; after the answer they are replaced by those that it showed. A request whose answer was lost
counts as if it had billed everything it could.
"""

import logging
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from genopt_pipeline.core.polling import BudgetState, PriceTable
from genopt_pipeline.sources.x_api.client import RateLimit
from genopt_pipeline.sources.x_api.errors import XApiRefusedError
from genopt_pipeline.sources.x_api.state import StateStore

log = logging.getLogger("genopt_pipeline.sources.x_api")

#: deleted posts are forgotten when no plan can ask for them any more
_FORGET_DELETED: Final = timedelta(days=40)


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", validate_assignment=True)


class RateState(_Part):
    """A rate limit as last told by the headers."""

    limit: int | None = None
    remaining: int | None = None
    reset_at: AwareDatetime | None = None


class BlockState(_Part):
    """Why collection rests, until when, and when it may be tried whether that is still so."""

    kind: str
    message: str
    since: AwareDatetime
    until: AwareDatetime | None = None
    next_probe_at: AwareDatetime


class AnalyticsState(_Part):
    """Whether the analytics endpoint is there, since when, and when it was last asked."""

    status: str = "unknown"
    since: AwareDatetime | None = None
    reason: str = ""
    last_asked_at: AwareDatetime | None = None


class _Pending(_Part):
    """What a request under way can bill."""

    ids: list[str] = Field(default_factory=list)
    unknown: int = 0
    price_usd: float = 0.0


class _Ledger(_Part):
    day: date | None = None
    billed: list[str] = Field(default_factory=list)
    #: posts that may have been billed and of which the ids are not known
    uncertain: int = 0
    user_billed: bool = False
    #: posts and USD of the month, without the day's
    month_posts: int = 0
    month_usd: float = 0.0
    day_usd: float = 0.0
    pending: _Pending | None = None
    deleted: dict[str, date] = Field(default_factory=dict)
    newest_id: str | None = None
    rates: dict[str, RateState] = Field(default_factory=dict)
    blocked: BlockState | None = None
    analytics: AnalyticsState = Field(default_factory=AnalyticsState)


class BudgetLedger:
    """The memory of one X account. Every change is stored before the call returns."""

    def __init__(
        self,
        store: StateStore,
        key: str,
        *,
        clock: Callable[[], datetime],
        prices: PriceTable,
    ) -> None:
        self._store = store
        self._key = key
        self._clock = clock
        self._prices = prices
        self._state = _Ledger()
        self._billed: set[str] = set()
        #: learnt in this window, and true for the next only when its batch is stored
        self._unconfirmed_newest: str | None = None
        self._unconfirmed_deleted: set[str] = set()
        self._unconfirmed_asked_at: datetime | None = None

    def look(self) -> None:
        """Read the document and change nothing: another process may be at work with it.

        Raises
        ------
        XApiRefusedError
            As :meth:`open`.
        """
        document = self._store.get(self._key)
        try:
            self._state = _Ledger.model_validate(document or {})
        except ValidationError as error:
            raise XApiRefusedError(
                f"the source's memory under {self._key!r} is damaged ({error.error_count()} "
                "faults); delete it to start with an empty bill",
                kind="state",
            ) from None
        self._billed = set(self._state.billed)
        self._unconfirmed_newest = None
        self._unconfirmed_deleted = set()
        self._unconfirmed_asked_at = None

    def open(self) -> None:
        """Read the document, settle what a crash left open, and begin a new day if it is one.

        Raises
        ------
        XApiRefusedError
            The document is not ours; the message says where it lies.
        """
        self.look()
        if self._state.pending is not None:
            log.warning("a request was cut off; what it could have billed counts as billed")
            self._lose_pending()
        self._turn_day()

    # -- the bill ----------------------------------------------------------------------------

    @property
    def posts_today(self) -> int:
        """Posts billed this UTC day, an upper bound."""
        return len(self._billed) + self._state.uncertain

    @property
    def usd_this_month(self) -> float:
        """USD of this UTC month, an upper bound for posts and users."""
        return self._state.month_usd + self._state.day_usd

    @property
    def newest_id(self) -> str | None:
        """All posts up to this one were shown by the timeline, and are stored."""
        return self._state.newest_id

    def is_billed(self, tweet_id: str) -> bool:
        """Whether the post has one of today's places."""
        return tweet_id in self._billed

    def budget_state(self) -> BudgetState:
        """What the plan needs to know."""
        self._turn_day()
        return BudgetState(
            billed_today=frozenset(self._billed),
            posts_today=self.posts_today,
            posts_this_month=self._state.month_posts + self.posts_today,
            usd_this_month=self.usd_this_month,
            deleted=frozenset(self._state.deleted),
            timeline_requests_left=self._requests_left("timeline"),
            lookup_requests_left=self._requests_left("lookup"),
        )

    def places_left(self, per_day: int | None, per_month: int | None) -> int | None:
        """Posts that may still be billed now; None without a budget."""
        self._turn_day()
        left: list[int] = []
        if per_day is not None:
            left.append(per_day - self.posts_today)
        if per_month is not None:
            left.append(per_month - self._state.month_posts - self.posts_today)
        return max(min(left), 0) if left else None

    def begin_posts(self, ids: Iterable[str], *, unknown: int, price_usd: float) -> None:
        """Write down what a request can bill: these posts, and ``unknown`` others."""
        self._turn_day()
        new = [tweet for tweet in dict.fromkeys(ids) if tweet not in self._billed]
        self._state.pending = _Pending(ids=new, unknown=unknown, price_usd=price_usd)
        if new or unknown:
            self._save()

    def settle_posts(self, shown: Iterable[str], *, all_new_shown: bool = False) -> int:
        """The answer showed these posts. Returns how many of them were new to today's bill.

        ``all_new_shown``: the answer reached back to posts known before, so that whatever an
        earlier, lost answer billed is among the posts shown since.
        """
        pending = self._state.pending or _Pending()
        new = [tweet for tweet in dict.fromkeys(shown) if tweet not in self._billed]
        self._bill(new, pending.price_usd)
        if all_new_shown:
            self._state.uncertain = 0
        self._state.pending = None
        self._save()
        return len(new)

    def fail_posts(self, *, maybe_billed: bool) -> None:
        """There was no answer; ``maybe_billed`` if there may have been one on the way."""
        if maybe_billed:
            self._lose_pending()
        self._state.pending = None
        self._save()

    def bill_user(self) -> None:
        """The account itself was read: billed once a UTC day."""
        self._turn_day()
        if not self._state.user_billed:
            self._state.user_billed = True
            self._state.day_usd += self._prices.user_usd
            self._save()

    # -- what was learnt ---------------------------------------------------------------------

    def learn_deleted(self, ids: Iterable[str]) -> None:
        """These posts are gone; they are not asked for again once that is stored."""
        self._unconfirmed_deleted.update(ids)

    def learn_newest(self, ids: Iterable[str]) -> None:
        """The timeline was read down to what was known; ``ids`` is what it showed."""
        self._unconfirmed_newest = max(
            (tweet for tweet in (*ids, self._state.newest_id) if tweet is not None),
            key=int,
            default=None,
        )

    def confirm(self) -> None:
        """The batch is stored: what it showed need not be looked for again.

        A process that dies before this is called makes the next window look again, so that no
        post and no deletion can fall between the answer and the database.
        """
        today = self._now().date()
        self._state.deleted.update(dict.fromkeys(self._unconfirmed_deleted, today))
        self._state.newest_id = self._unconfirmed_newest or self._state.newest_id
        if self._unconfirmed_asked_at is not None:
            self._state.analytics = self._state.analytics.model_copy(
                update={"last_asked_at": self._unconfirmed_asked_at}
            )
        self._unconfirmed_newest = None
        self._unconfirmed_deleted = set()
        self._unconfirmed_asked_at = None
        self._save()

    def rate_limit(self, endpoint: str) -> RateLimit | None:
        """What the headers last said of the endpoint."""
        rate = self._state.rates.get(endpoint)
        return None if rate is None else RateLimit(rate.limit, rate.remaining, rate.reset_at)

    def learn_rate_limit(self, endpoint: str, rate: RateLimit) -> None:
        """Remember it; stored with the next change of the bill or at the window's end."""
        self._state.rates[endpoint] = RateState(
            limit=rate.limit, remaining=rate.remaining, reset_at=rate.reset_at
        )

    def rates(self) -> dict[str, RateLimit]:
        """All that the headers said, by endpoint."""
        return {
            name: RateLimit(rate.limit, rate.remaining, rate.reset_at)
            for name, rate in sorted(self._state.rates.items())
        }

    @property
    def blocked(self) -> BlockState | None:
        """Why collection rests, if it does."""
        return self._state.blocked

    def block(
        self, kind: str, message: str, *, until: datetime | None, probe_after: timedelta
    ) -> None:
        """Rest until a date or until a probe finds the reason gone."""
        now = self._now()
        before = self._state.blocked
        self._state.blocked = BlockState(
            kind=kind,
            message=message,
            since=before.since if before is not None and before.kind == kind else now,
            until=until,
            next_probe_at=now + probe_after,
        )
        self._save()

    def unblock(self) -> None:
        """A request succeeded."""
        if self._state.blocked is not None:
            self._state.blocked = None
            self._save()

    @property
    def analytics(self) -> AnalyticsState:
        """What is known of the analytics endpoint."""
        return self._state.analytics

    def learn_analytics(self, status: str, reason: str = "") -> None:
        """Remember whether the endpoint is there; it was asked just now.

        When it gave something, that counts as asked once it is stored.
        """
        now = self._now()
        known = self._state.analytics
        if status == "present":
            self._unconfirmed_asked_at = now
        self._state.analytics = AnalyticsState(
            status=status,
            since=known.since if known.status == status else now,
            reason=reason,
            last_asked_at=known.last_asked_at if status == "present" else now,
        )
        self._save()

    def close(self) -> None:
        """Store what was learnt since the last change."""
        self._save()

    # -- inside ------------------------------------------------------------------------------

    def _now(self) -> datetime:
        return self._clock().astimezone(UTC)

    def _requests_left(self, endpoint: str) -> int | None:
        rate = self._state.rates.get(endpoint)
        if rate is None or rate.remaining is None or rate.reset_at is None:
            return None
        return rate.remaining if rate.reset_at > self._now() else None

    def _bill(self, new: list[str], price_usd: float) -> None:
        self._billed.update(new)
        self._state.billed = [*self._state.billed, *new]
        self._state.day_usd += price_usd * len(new)

    def _lose_pending(self) -> None:
        pending = self._state.pending
        if pending is None:
            return
        self._bill([t for t in pending.ids if t not in self._billed], pending.price_usd)
        # the lost answers of one page show the same posts: the largest counts, not the sum
        added = max(pending.unknown - self._state.uncertain, 0)
        self._state.uncertain += added
        self._state.day_usd += added * pending.price_usd
        self._state.pending = None

    def _turn_day(self) -> None:
        today = self._now().date()
        state = self._state
        if state.day == today:
            return
        if state.day is not None:
            same_month = (state.day.year, state.day.month) == (today.year, today.month)
            state.month_posts = state.month_posts + self.posts_today if same_month else 0
            state.month_usd = state.month_usd + state.day_usd if same_month else 0.0
        state.day = today
        self._billed = set()
        state.billed = []
        state.uncertain = 0
        state.user_billed = False
        state.day_usd = 0.0
        state.deleted = {
            tweet: day for tweet, day in state.deleted.items() if today - day < _FORGET_DELETED
        }
        self._save()

    def _save(self) -> None:
        self._store.set(self._key, self._state.model_dump(mode="json"))
