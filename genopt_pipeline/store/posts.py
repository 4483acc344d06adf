"""Posts: writing those that a source or an engine reports, and reading those to track."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from genopt_pipeline.core.observations import ObservedPost, TrackedPost
from genopt_pipeline.store import weights as weight_store
from genopt_pipeline.store.engine import lock_account

_UPSERT = text("""
    INSERT INTO genopt.content_metadata AS c
        (account_id, decision_id, tweet_id, generator_name, generator_confidence,
         selection_probability, weights_version, experiment_arm, quality_score, status, posted_at,
         source)
    VALUES (:account_id, :decision_id, :tweet_id, :generator_name, :generator_confidence,
            :selection_probability, :weights_version, :experiment_arm, :quality_score, :status,
            :posted_at, :source)
    ON CONFLICT (account_id, decision_id) DO UPDATE SET
        tweet_id = coalesce(c.tweet_id, excluded.tweet_id),
        generator_name = coalesce(c.generator_name, excluded.generator_name),
        status = CASE WHEN c.status = 'deleted' THEN c.status ELSE excluded.status END
    WHERE (c.tweet_id IS NULL AND excluded.tweet_id IS NOT NULL)
       OR (c.generator_name IS NULL AND excluded.generator_name IS NOT NULL)
       OR (c.status <> excluded.status AND c.status <> 'deleted')
""")


def upsert_posts(
    connection: Connection, account_id: str, posts: Iterable[ObservedPost], *, source: str
) -> int:
    """Store posts that a source reports; returns how many were new or completed.

    A post is known by its ``decision_id``, else by its ``tweet_id``; one that is known by neither
    gets the key ``x:<tweet_id>`` until an engine claims it. What an engine recorded is never
    replaced by what a source saw.
    """
    posts = list(posts)
    if not posts:
        return 0
    # the trigger that counts selections writes to generator_weights, as a publication does
    lock_account(connection, account_id)
    known = {
        row.tweet_id: row
        for row in connection.execute(
            text(
                "SELECT tweet_id, decision_id, status FROM genopt.content_metadata "
                "WHERE account_id = :account AND tweet_id = ANY(:ids)"
            ),
            {"account": account_id, "ids": [post.tweet_id for post in posts if post.tweet_id]},
        )
    }
    rows = []
    for post in posts:
        row = known.get(post.tweet_id or "")
        if row is not None and post.generator_name is None and post.status == row.status:
            continue  # a source sees the same posts every ten minutes
        rows.append(
            {
                **post.model_dump(),
                "account_id": account_id,
                "source": source,
                "decision_id": (
                    row.decision_id if row is not None else post.decision_id or f"x:{post.tweet_id}"
                ),
            }
        )
    if not rows:
        return 0
    result = connection.execute(_UPSERT, rows)
    return max(int(result.rowcount), 0)


class UnknownPostError(LookupError):
    """No post has that key."""


def correct_post(
    connection: Connection,
    account_id: str,
    decision_id: str,
    generator: str,
    *,
    experiment_arm: str | None = None,
    selection_probability: float | None = None,
    weights_version: int | None = None,
    reason: str,
    created_by: str,
    now: datetime,
) -> str:
    """Give a recorded post to the generator that wrote it, as an event; returns its name.

    ``record_post`` never moves a post; this is for a person who knows better. The probability of
    the draw is unknown afterwards unless it is given; arm and version stay unless they are given.

    Raises
    ------
    UnknownPostError, UnknownGeneratorError
        There is no such post, or no such generator.
    """
    lock_account(connection, account_id)
    key = {"account": account_id, "decision": decision_id}
    before = connection.execute(
        text("""
            SELECT generator_name, selection_counted FROM genopt.content_metadata
             WHERE account_id = :account AND decision_id = :decision FOR UPDATE
        """),
        key,
    ).first()
    if before is None:
        raise UnknownPostError(f"account {account_id!r} has no post {decision_id!r}")
    name: str | None = connection.scalar(
        text("SELECT genopt.resolve_generator(:account, :generator)"),
        {"account": account_id, "generator": generator},
    )
    if name is None:
        raise weight_store.UnknownGeneratorError(
            f"{generator!r} is not a registered generator of account {account_id!r}"
        )
    connection.execute(
        text("""
            UPDATE genopt.content_metadata
               SET generator_name = :name,
                   experiment_arm = coalesce(:arm, experiment_arm),
                   selection_probability = :probability,
                   weights_version = coalesce(:version, weights_version)
             WHERE account_id = :account AND decision_id = :decision
        """),
        key
        | {
            "name": name,
            "arm": experiment_arm,
            "probability": selection_probability,
            "version": weights_version,
        },
    )
    if before.selection_counted:  # the trigger counts a post once, so for its first generator only
        connection.execute(
            text("""
                UPDATE genopt.generator_weights
                   SET times_selected = times_selected
                       + CASE generator_name WHEN :name THEN 1 ELSE -1 END
                 WHERE account_id = :account AND generator_name IN (:name, :old) AND :name <> :old
            """),
            {"account": account_id, "name": name, "old": before.generator_name},
        )
    weight_store.record_event(
        connection,
        account_id,
        weight_store.Event(
            "post_corrected",
            reason=f"{decision_id}: {before.generator_name or 'no generator'} → {name}: {reason}",
            created_by=created_by,
            changes=[
                {"generator": each, "decision_id": decision_id}
                for each in dict.fromkeys((before.generator_name, name))
                if each is not None
            ],
        ),
        effective_at=now,
    )
    return name


def tracked_posts(
    connection: Connection,
    account_id: str,
    *,
    posted_from: datetime,
    posted_before: datetime,
) -> list[TrackedPost]:
    """Live posts that went live in ``[posted_from, posted_before)``, oldest first."""
    rows = connection.execute(
        text("""
            SELECT c.decision_id, c.tweet_id, c.posted_at, c.generator_name,
                   o.observed_at, o.impressions
              FROM genopt.content_metadata c
              LEFT JOIN genopt.outcomes o USING (account_id, decision_id)
             WHERE c.account_id = :account AND c.status = 'posted'
               AND c.posted_at >= :posted_from AND c.posted_at < :posted_before
             ORDER BY c.posted_at, c.decision_id
        """),
        {"account": account_id, "posted_from": posted_from, "posted_before": posted_before},
    )
    return [
        TrackedPost(
            decision_id=row.decision_id,
            tweet_id=row.tweet_id,
            posted_at=row.posted_at,
            generator_name=row.generator_name,
            last_observed_at=row.observed_at,
            last_impressions=row.impressions,
        )
        for row in rows
    ]


def has_posts(connection: Connection, account_id: str) -> bool:
    """Whether anything was ever recorded for the account."""
    return bool(
        connection.scalar(
            text("SELECT EXISTS (SELECT FROM genopt.content_metadata WHERE account_id = :account)"),
            {"account": account_id},
        )
    )


def count_posts(connection: Connection, account_id: str, since: datetime, until: datetime) -> int:
    """Live posts that went live in ``[since, until)``."""
    value = connection.scalar(
        text("""
            SELECT count(*) FROM genopt.content_metadata
             WHERE account_id = :account AND status IN ('posted', 'deleted')
               AND posted_at >= :since AND posted_at < :until
        """),
        {"account": account_id, "since": since, "until": until},
    )
    return int(value or 0)


def count_without_generator(
    connection: Connection, account_id: str, *, since: datetime, until: datetime
) -> int:
    """Live posts of ``[since, until)`` of which nobody has said which generator wrote them."""
    value = connection.scalar(
        text("""
            SELECT count(*) FROM genopt.content_metadata
             WHERE account_id = :account AND status = 'posted' AND generator_name IS NULL
               AND posted_at >= :since AND posted_at < :until
        """),
        {"account": account_id, "since": since, "until": until},
    )
    return int(value or 0)


#: How far back the frames of posts read, at most; policies forget older ones.
LONGEST_LOOKBACK = timedelta(days=70)
