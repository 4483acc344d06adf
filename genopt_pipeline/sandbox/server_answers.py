"""The X API's documents over a simulated account: what is asked, what is answered, what is billed.

Here: endpoints, parameters, paging, dialects, deleted posts, the bill, the log of what was
delivered. Not here: sockets, and faults of the connection (``server``).

The shapes follow what is publicly known of the API; only what the project reads is there.
"""

import random
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Literal, Protocol

from genopt_pipeline.core.observations import MetricReading, TrackedPost
from genopt_pipeline.sandbox.account import SandboxAccount
from genopt_pipeline.sandbox.ledger import PostLedger

_PROBLEM: Final = "https://api.twitter.com/2/problems/"
_TIMELINE_POSTS_MAX: Final = 3200
_NON_PUBLIC_DAYS: Final = 30
_PUBLIC: Final = {
    "retweets": "retweet_count",
    "replies": "reply_count",
    "likes": "like_count",
    "quotes": "quote_count",
    "bookmarks": "bookmark_count",
    "impressions": "impression_count",
}
_NON_PUBLIC: Final = {
    "impressions": "impression_count",
    "url_clicks": "url_link_clicks",
    "profile_clicks": "user_profile_clicks",
    "engagements": "engagements",
}
_ANALYTICS: Final = {
    "impressions": "impressions",
    "engagements": "engagements",
    "likes": "likes",
    "retweets": "retweets",
    "replies": "replies",
    "quotes": "quote_tweets",
    "bookmarks": "bookmarks",
    "url_clicks": "url_clicks",
    "profile_clicks": "user_profile_clicks",
    "platform_follows": "follows",
    "platform_unfollows": "unfollows",
}


@dataclass(frozen=True)
class ServedPost:
    """A post as the platform knows it."""

    tweet_id: str
    posted_at: datetime


class AccountView(Protocol):
    """The account that the server shows."""

    def posts(self, at: datetime) -> Sequence[ServedPost]:
        """Posts that are live at ``at``, in any order."""

    def metrics_at(self, tweet_ids: Sequence[str], at: datetime) -> Mapping[str, MetricReading]:
        """True totals of these posts at ``at``."""

    def followers_at(self, at: datetime) -> int:
        """The follower count at ``at``."""


class SandboxView:
    """A simulated account with the posts that were recorded for it; more can be added."""

    def __init__(self, account: SandboxAccount, posts: Sequence[TrackedPost] = ()) -> None:
        self._ledger = PostLedger(account)
        self._decision: dict[str, str] = {}
        self._posts: list[ServedPost] = []
        # posts go live while requests are answered
        self._lock = threading.Lock()
        self.add(posts)

    def add(self, posts: Sequence[TrackedPost]) -> None:
        """Publish posts; those without a tweet id are not on the platform."""
        with self._lock:
            self._ledger.add(posts)
            for post in posts:
                if post.tweet_id is not None and post.tweet_id not in self._decision:
                    self._decision[post.tweet_id] = post.decision_id
                    self._posts.append(ServedPost(post.tweet_id, post.posted_at))

    def posts(self, at: datetime) -> Sequence[ServedPost]:
        """Posts that are live at ``at``."""
        with self._lock:
            return [post for post in self._posts if post.posted_at <= at]

    def metrics_at(self, tweet_ids: Sequence[str], at: datetime) -> Mapping[str, MetricReading]:
        """True totals, with the follows that the platform ascribes to each post."""
        if not tweet_ids:
            return {}
        with self._lock:
            decisions = [self._decision[tweet] for tweet in tweet_ids]
            readings = self._ledger.readings(decisions, at, platform_follows=True)
        return {reading.tweet_id or "": reading for reading in readings}

    def followers_at(self, at: datetime) -> int:
        """The follower count at ``at``."""
        with self._lock:
            return self._ledger.followers_count(at)


@dataclass(frozen=True)
class Delivery:
    """A record of an answer that was sent whole and well-formed.

    ``counts`` are the counts as sent (None where not sent); the follower count has no post.
    """

    kind: Literal["post", "followers", "analytics"]
    at: datetime
    tweet_id: str | None
    counts: Mapping[str, int | None]


@dataclass
class Answer:
    """A document with its status, and the records that count as delivered if it arrives."""

    status: int
    document: Any
    deliveries: list[Delivery] = field(default_factory=list)


@dataclass
class Answerer:
    """Answers requests by the account; keeps the bill and who was deleted."""

    account: AccountView
    user_id: str
    rng: random.Random
    #: accept only this name of the fields parameter; None: both
    only_parameter: str | None = None
    has_analytics: bool = True
    deleted: set[str] = field(default_factory=set)
    #: UTC day -> posts billed in it
    billed: dict[date, set[str]] = field(default_factory=lambda: defaultdict(set))
    _pages: int = 0

    def answer(
        self, endpoint: str, params: Mapping[str, str], now: datetime, fault: str | None
    ) -> Answer:
        """The answer to a request, with the record faults applied."""
        if endpoint == "users/me":
            return self._user(now, fault)
        if endpoint == "analytics":
            return self._analytics(params, now)
        if endpoint == "usage":
            return Answer(200, {"data": {"cap_reset_day": 1, "project_id": "1"}})
        wrong = self.only_parameter and {"tweet.fields", "post.fields"} & set(params) != {
            self.only_parameter
        }
        if wrong:
            return Answer(400, problem("invalid-request", "One or more parameters is unknown."))
        return (
            self._timeline(params, now, fault)
            if endpoint == "timeline"
            else self._lookup(params, now, fault)
        )

    # -- endpoints ---------------------------------------------------------------------------

    def _user(self, now: datetime, fault: str | None) -> Answer:
        count: Any = self.account.followers_at(now)
        user: dict[str, Any] = {"id": self.user_id, "name": "sandbox", "username": "sandbox"}
        deliveries = [Delivery("followers", now, None, {"followers_count": count})]
        if fault == "wrong_types":
            count, deliveries = f"{count / 1000:.1f}K", []
        if fault in {"missing_metrics", "null_metrics"}:
            return Answer(200, {"data": user})
        user["public_metrics"] = {"followers_count": count, "following_count": 7}
        return Answer(200, {"data": user}, deliveries)

    def _timeline(self, params: Mapping[str, str], now: datetime, fault: str | None) -> Answer:
        size = params.get("max_results", "10")
        if not size.isdigit() or not 5 <= int(size) <= 100:
            return Answer(400, problem("invalid-request", "max_results must be from 5 to 100."))
        posts = sorted(self._live(now), key=lambda p: int(p.tweet_id), reverse=True)
        posts = posts[:_TIMELINE_POSTS_MAX]
        token = params.get("pagination_token")
        if token is not None:
            last = token.removeprefix("before").split(".")[0]
            if not last.isdigit():
                return Answer(400, problem("invalid-request", "The pagination_token is invalid."))
            posts = [post for post in posts if int(post.tweet_id) < int(last)]
        if since := params.get("since_id"):
            posts = [post for post in posts if int(post.tweet_id) > int(since)]
        page, rest = posts[: int(size)], posts[int(size) :]
        answer = self._posts_answer(page, params, now, fault)
        meta: dict[str, Any] = {"result_count": len(page)}
        if rest and page:
            meta["next_token"] = f"before{page[-1].tweet_id}"
        if fault == "endless_pages" and page:
            # the same page for ever, under new tokens
            self._pages += 1
            meta["next_token"] = f"before{int(page[0].tweet_id) + 1}.{self._pages}"
        answer.document["meta"] = meta
        return answer

    def _lookup(self, params: Mapping[str, str], now: datetime, fault: str | None) -> Answer:
        ids = [tweet for tweet in params.get("ids", "").split(",") if tweet]
        if not 1 <= len(ids) <= 100 or not all(tweet.isdigit() for tweet in ids):
            return Answer(400, problem("invalid-request", "ids must be 1 to 100 numbers."))
        live = {post.tweet_id: post for post in self._live(now)}
        answer = self._posts_answer([live[t] for t in ids if t in live], params, now, fault)
        missing = [post_problem(t, "resource-not-found") for t in ids if t not in live]
        if missing:
            answer.document.setdefault("errors", []).extend(missing)
        return answer

    def _analytics(self, params: Mapping[str, str], now: datetime) -> Answer:
        if not self.has_analytics:
            return Answer(403, problem("client-not-enrolled", "Your plan has no analytics."))
        try:
            begin, end = (_time(params[name]) for name in ("start_time", "end_time"))
        except (KeyError, ValueError):
            return Answer(400, problem("invalid-request", "start_time and end_time are needed."))
        if params.get("granularity") != "total" or not begin < end <= now + timedelta(minutes=1):
            return Answer(400, problem("invalid-request", "granularity or range not served here."))
        ids = params.get("ids", "").split(",")
        live = {post.tweet_id: post for post in self._live(now)}
        served = [tweet for tweet in ids if tweet in live and live[tweet].posted_at <= end]
        metrics = self.account.metrics_at(served, end)
        data = [
            {
                "id": tweet,
                "timestamped_metrics": [
                    {
                        "timestamp": end.isoformat(),
                        "metrics": {
                            name: value
                            for ours, name in _ANALYTICS.items()
                            if (value := getattr(metrics[tweet], ours)) is not None
                        },
                    }
                ],
            }
            for tweet in served
        ]
        deliveries = [
            Delivery("analytics", now, tweet, {"platform_follows": metrics[tweet].platform_follows})
            for tweet in served
        ]
        return Answer(200, {"data": data} if data else {}, deliveries)

    # -- records -----------------------------------------------------------------------------

    def _live(self, now: datetime) -> list[ServedPost]:
        return [post for post in self.account.posts(now) if post.tweet_id not in self.deleted]

    def _posts_answer(
        self,
        posts: Sequence[ServedPost],
        params: Mapping[str, str],
        now: datetime,
        fault: str | None,
    ) -> Answer:
        errors: list[dict[str, Any]] = []
        victim = self.rng.choice(posts).tweet_id if posts else None
        if fault in {"deleted", "not_authorized"} and victim is not None:
            name = "resource-not-found" if fault == "deleted" else "not-authorized-for-resource"
            if fault == "deleted":
                self.deleted.add(victim)
            errors.append(post_problem(victim, name))
            posts = [post for post in posts if post.tweet_id != victim]
        self.billed[now.astimezone(UTC).date()].update(post.tweet_id for post in posts)
        metrics = self.account.metrics_at([post.tweet_id for post in posts], now)
        fields = params.get("tweet.fields", params.get("post.fields", "")).split(",")
        data: list[Any] = []
        deliveries: list[Delivery] = []
        for post in posts:
            broken = fault in {"wrong_types", "not_an_object"} and post.tweet_id == victim
            record, counts = self._record(post, metrics[post.tweet_id], fields, now, fault)
            if broken:
                data.append("not an object" if fault == "not_an_object" else self._break(record))
                continue
            data.append(record)
            deliveries.append(Delivery("post", now, post.tweet_id, counts))
        if fault == "duplicate_posts":
            data.extend(data[: len(data) // 2])
        document: dict[str, Any] = {"data": data} if data else {}
        if errors:
            document["errors"] = errors
        return Answer(200, document, deliveries)

    def _record(
        self,
        post: ServedPost,
        reading: MetricReading,
        fields: Sequence[str],
        now: datetime,
        fault: str | None,
    ) -> tuple[dict[str, Any], dict[str, int | None]]:
        record: dict[str, Any] = {"id": post.tweet_id, "text": "a post"}
        counts: dict[str, int | None] = dict.fromkeys({*_PUBLIC, *_NON_PUBLIC})
        if "created_at" in fields:
            record["created_at"] = post.posted_at.isoformat(timespec="milliseconds").replace(
                "+00:00", "Z"
            )
        values = {name: getattr(reading, name) for name in counts}
        if fault == "falling_counts":
            values = {name: None if v is None else v * 9 // 10 for name, v in values.items()}
        young = now - post.posted_at < timedelta(days=_NON_PUBLIC_DAYS)
        for group, names, shown in (
            ("public_metrics", _PUBLIC, fault not in {"missing_metrics", "null_metrics"}),
            ("non_public_metrics", _NON_PUBLIC, young and fault != "missing_metrics"),
        ):
            if group not in fields:
                continue
            if shown:
                record[group] = {theirs: values[ours] for ours, theirs in names.items()}
                counts.update({ours: values[ours] for ours in names})
            elif fault == "null_metrics":
                record[group] = None
        if fault == "other_dialect" and "public_metrics" in record:
            public = record["public_metrics"]
            public["repost_count"] = public.pop("retweet_count")
        if fault == "unknown_fields":
            record["edit_controls"] = {"edits_remaining": 5}
            record.get("public_metrics", {})["view_quality"] = "high"
        return record, counts

    def _break(self, record: dict[str, Any]) -> dict[str, Any]:
        """The record with one value of a type or a size that it cannot have."""
        wrong = self.rng.choice(("12.3K", "12", 3.5, -1, True, [1], {"n": 1}, 10**30))
        record["public_metrics"] = {**record.get("public_metrics", {}), "like_count": wrong}
        return record


def problem(name: str, detail: str) -> dict[str, Any]:
    """A problem document."""
    return {"title": name.replace("-", " ").title(), "detail": detail, "type": _PROBLEM + name}


def post_problem(tweet_id: str, name: str) -> dict[str, Any]:
    """A problem of one post beside the others of an answer."""
    return {
        **problem(name, f"Could not find or show post [{tweet_id}]."),
        "resource_type": "tweet",
        "resource_id": tweet_id,
        "parameter": "ids",
        "value": tweet_id,
    }


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
