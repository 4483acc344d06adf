"""The steps of one live window: follower count, timeline, posts by id.

Here: which request follows which, what it may bill, when to stop. Not here: which posts are
wanted (``core.polling``), HTTP (``client``), the bill (``ledger``), the batch (``source``).

Every step takes what it can get: an error ends its step, is named in the report, and leaves the
other steps and what was delivered before as they are. A delivered observation was paid for.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from pydantic import ValidationError

from genopt_pipeline.core.observations import FollowerReading, RejectedRecord
from genopt_pipeline.core.polling import PAGE_POSTS_MAX, PAGE_POSTS_MIN, PollPlan, page_sizes
from genopt_pipeline.sources.x_api.client import ApiAnswer, XApiClient
from genopt_pipeline.sources.x_api.config import XApiConfig
from genopt_pipeline.sources.x_api.errors import (
    X_API_ERRORS,
    XApiRefusedError,
    XApiTransientError,
)
from genopt_pipeline.sources.x_api.gathering import Gathering
from genopt_pipeline.sources.x_api.ledger import BudgetLedger
from genopt_pipeline.sources.x_api.parsing import (
    PostPage,
    parse_followers,
    parse_post_page,
    rejected_record,
)

#: after so many pages in a row without a post the timeline is not read on
_STALE_PAGES: Final = 3
#: posts that can have gone live unseen since the timeline was last read, when an answer is lost
_UNSEEN_POSTS: Final = 20


class LiveWindow:
    """Reads what a plan wants, within what is left of the budget at each request."""

    def __init__(
        self,
        config: XApiConfig,
        client: XApiClient,
        ledger: BudgetLedger,
        gathering: Gathering,
        known: Mapping[str, tuple[str | None, datetime]],
        *,
        now: datetime,
    ) -> None:
        self._config = config
        self._client = client
        self._ledger = ledger
        self._gathering = gathering
        self._known = known
        self._now = now

    # -- follower count ------------------------------------------------------------------------

    def read_followers(self) -> None:
        """The account's follower count, and whether the token is the account's own."""
        gathering, client = self._gathering, self._client
        try:
            answer = client.get("users/me", "/2/users/me", {"user.fields": "public_metrics"})
        except X_API_ERRORS as error:
            if client.maybe_billed:
                self._ledger.bill_user()
            gathering.fail("followers", error)
            return
        self._ledger.bill_user()
        try:
            count = parse_followers(answer.document, user_id=self._config.user_id)
        except ValidationError as error:
            raw = answer.document.get("data")
            gathering.rejected.append(
                rejected_record("followers", "users/me", error, raw, client.redactor)
            )
            return
        except ValueError as error:
            gathering.fail(
                "followers",
                XApiRefusedError(
                    f"{error}: set GENOPT_X_USER_ID to the account that the token belongs to",
                    kind="wrong_user",
                    stops_window=True,
                ),
            )
            return
        if count is None:
            gathering.rejected.append(
                RejectedRecord(
                    kind="followers", place="users/me", reason="followers_count: missing"
                )
            )
            return
        gathering.followers.append(
            FollowerReading(observed_at=answer.received_at, followers_count=count)
        )

    # -- own timeline --------------------------------------------------------------------------

    def read_timeline(self, plan: PollPlan, order: Sequence[str]) -> None:
        """Newest posts first, as deep as the plan says, and on to posts that are known.

        ``order`` are the known posts, newest first: what the pages are expected to show.
        """
        gathering = self._gathering
        if not plan.discover:
            return
        sizes = page_sizes(plan.timeline_posts)
        newest = self._ledger.newest_id
        since = newest if not sizes else None
        token: str | None = None
        tokens: set[str] = set()
        stale = covered = 0
        for number in range(self._config.limits.max_pages):
            size = self._affordable(sizes[number] if number < len(sizes) else PAGE_POSTS_MAX)
            if size < PAGE_POSTS_MIN:
                gathering.note("timeline", "budget", "the day's budget ends before the timeline")
                # what lies beyond is given up, or every window would spend its budget on it
                self._ledger.learn_newest(gathering.shown)
                return
            page = self._timeline_page(size, since, token, order[covered : covered + size], newest)
            if page is None:
                return
            covered += size
            new_posts = gathering.add_page(page)
            repeats = bool(page.shown_ids) and not new_posts
            # pages can be empty, where everything on them was excluded, but not for ever
            stale = 0 if new_posts else stale + 1
            token = page.next_token
            if token is None:
                self._complete()
                return
            if token in tokens or repeats or stale >= _STALE_PAGES:
                gathering.note("timeline", "endless_pages", "the pages repeat; reading stopped")
                return
            tokens.add(token)
            if number + 1 >= len(sizes) and self._far_enough(page, newest):
                self._complete()
                return
        gathering.note("timeline", "endless_pages", "more pages than a timeline has; stopped")

    def _complete(self) -> None:
        self._gathering.timeline_complete = True
        self._ledger.learn_newest(self._gathering.shown)

    def _timeline_page(
        self,
        size: int,
        since: str | None,
        token: str | None,
        expected: Sequence[str],
        newest: str | None,
    ) -> PostPage | None:
        config, client, ledger = self._config, self._client, self._ledger
        params = {"max_results": str(size), **self._fields(config.metric_fields)}
        if config.exclude:
            params["exclude"] = ",".join(config.exclude)
        if since is not None:
            params["since_id"] = since
            expected = ()
        if token is not None:
            params["pagination_token"] = token
        new = sum(not ledger.is_billed(tweet) for tweet in expected)
        unknown = size - new if newest is None else min(size - new, _UNSEEN_POSTS)
        ledger.begin_posts(
            expected, unknown=unknown, price_usd=config.polling.prices.timeline_post_usd
        )
        try:
            answer = client.get("timeline", f"/2/users/{config.user_id}/tweets", params)
            page = self._parse(answer, "timeline")
            self._refuse_without_account(answer, page)
        except X_API_ERRORS as error:
            lost = client.maybe_billed or getattr(error, "maybe_billed", False)
            ledger.fail_posts(maybe_billed=lost)
            self._gathering.fail("timeline", error)
            return None
        reached = page.next_token is None or (
            newest is not None and any(int(tweet) <= int(newest) for tweet in page.shown_ids)
        )
        billed = [*page.shown_ids, *(expected if client.maybe_billed else ())]
        ledger.settle_posts(billed, all_new_shown=reached)
        return page

    def _far_enough(self, page: PostPage, newest: str | None) -> bool:
        """Whether the pages have reached posts that are known, or too old to be read at all."""
        if newest is not None and any(int(tweet) <= int(newest) for tweet in page.shown_ids):
            return True
        horizon = self._now - timedelta(days=self._config.polling.daily_until_days)
        return any(post.posted_at < horizon for post in page.posts)

    def _refuse_without_account(self, answer: ApiAnswer, page: PostPage) -> None:
        """An answer with errors and nothing else is about the account, not about posts."""
        document = answer.document
        if "data" in document or "meta" in document or not document.get("errors"):
            return
        if page.refused or page.deleted_ids:
            return
        raise XApiRefusedError(
            "X shows no timeline for the account: it may be suspended or protected, or "
            "GENOPT_X_USER_ID may be wrong",
            kind="no_timeline",
        )

    # -- posts by id ---------------------------------------------------------------------------

    def read_by_id(self, ids: Sequence[str], *, public_only: bool = False) -> None:
        """Posts that the timeline did not show: read, or found deleted, or refused."""
        gathering, ledger = self._gathering, self._ledger
        hidden: list[str] = []
        for chunk in self._affordable_chunks(ids):
            fields = ("public_metrics",) if public_only else self._config.metric_fields
            ledger.begin_posts(
                chunk, unknown=0, price_usd=self._config.polling.prices.lookup_post_usd
            )
            params = {"ids": ",".join(chunk), **self._fields(fields)}
            try:
                answer = self._client.get("lookup", "/2/tweets", params)
                page = self._parse(answer, "lookup")
            except X_API_ERRORS as error:
                lost = self._client.maybe_billed or getattr(error, "maybe_billed", False)
                ledger.fail_posts(maybe_billed=lost)
                gathering.fail("lookup", error)
                return
            ledger.settle_posts([*page.shown_ids, *(chunk if self._client.maybe_billed else ())])
            gathering.add_page(page)
            asked = set(chunk)
            gone = [tweet for tweet in page.deleted_ids if tweet in asked and tweet in self._known]
            for tweet in gone:
                gathering.mark_deleted(tweet, *self._known[tweet])
            if gone:
                ledger.learn_deleted(gone)
            for tweet, reason in page.refused.items():
                if tweet not in asked:
                    continue
                if reason == "field-unauthorized" and not public_only:
                    hidden.append(tweet)
                else:
                    gathering.refused[tweet] = reason
        if hidden:
            # X withholds the whole post over one field: ask for what everyone may see
            self.read_by_id(hidden, public_only=True)

    def _affordable_chunks(self, ids: Sequence[str]) -> list[list[str]]:
        """Posts that are billed already first, then as many new ones as the budget has."""
        free = [tweet for tweet in ids if self._ledger.is_billed(tweet)]
        new = [tweet for tweet in ids if not self._ledger.is_billed(tweet)]
        affordable = self._affordable(len(new))
        if affordable < len(new):
            self._gathering.note(
                "lookup", "budget", f"{len(new) - affordable} posts are not read: no budget left"
            )
        chosen = [*free, *new[:affordable]]
        return [
            chosen[start : start + PAGE_POSTS_MAX]
            for start in range(0, len(chosen), PAGE_POSTS_MAX)
        ]

    # -- both ----------------------------------------------------------------------------------

    def _affordable(self, posts: int) -> int:
        polling = self._config.polling
        left = self._ledger.places_left(polling.posts_per_utc_day, polling.posts_per_month)
        return posts if left is None else min(posts, left)

    def _fields(self, metric_fields: Sequence[str]) -> dict[str, str]:
        return {self._config.fields_parameter: ",".join(("created_at", *metric_fields))}

    def _parse(self, answer: ApiAnswer, step: str) -> PostPage:
        try:
            return parse_post_page(
                answer.document,
                place=step,
                received_at=answer.received_at,
                redactor=self._client.redactor,
                known=self._known,
            )
        except XApiTransientError as error:
            self._client.faults[error.kind] += 1
            raise
