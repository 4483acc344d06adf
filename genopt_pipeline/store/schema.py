"""Every table and column, declared once.

The migrations are tested against these declarations, PostgreSQL's comments and the Columns tab in
Dagster are made from them. Functions, triggers and views are SQL and live with the migrations.

All times are ``timestamptz``; windows are half-open. A column that can be unknown is nullable:
null means not measured, never zero. Every table carries ``account_id``.
"""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

SCHEMA: Final = "genopt"
metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    },
)

TIME = DateTime(timezone=True)
NOW = text("now()")


def _col(
    name: str,
    type_: TypeEngine[Any],
    comment: str,
    *,
    null: bool = True,
    default: str | None = None,
) -> Column[Any]:
    return Column(
        name,
        type_,
        comment=comment,
        nullable=null,
        server_default=None if default is None else text(default),
    )


def _account() -> Column[Any]:
    return _col("account_id", Text(), "The account.", null=False, default="'main'")


def _window() -> list[Column[Any]]:
    return [
        _col("window_start", TIME, "Start of the window (UTC, inclusive).", null=False),
        _col("window_end", TIME, "End of the window (UTC, exclusive).", null=False),
    ]


#: The totals that a reading of a post can hold, in the order of the tables below.
METRICS: Final[dict[str, str]] = {
    "impressions": "Times the post was shown.",
    "likes": "Likes.",
    "retweets": "Reposts.",
    "replies": "Replies.",
    "quotes": "Quotes.",
    "bookmarks": "Bookmarks.",
    "profile_clicks": "Clicks on the author's profile.",
    "url_clicks": "Clicks on links.",
    "engagements": "Engagements as the platform counts them.",
    "platform_follows": "Follows that the platform itself ascribes to the post.",
    "platform_unfollows": "Unfollows that the platform itself ascribes to the post.",
}


def _metrics() -> list[Column[Any]]:
    return [
        _col(name, BigInteger(), f"{comment} Null: not measured.")
        for name, comment in METRICS.items()
    ]


accounts = Table(
    "accounts",
    metadata,
    _account(),
    _col("weights_version", Integer(), "Version of the weights in force.", null=False, default="0"),
    _col("created_at", TIME, "When the account was registered.", null=False, default="now()"),
    PrimaryKeyConstraint("account_id"),
    comment="Accounts that this installation learns for, and the version of their weights.",
)

generator_weights = Table(
    "generator_weights",
    metadata,
    _account(),
    _col("generator_name", Text(), "Registered name of the generator.", null=False),
    _col("weight", Numeric(6, 4), "Live probability of being drawn.", null=False, default="0"),
    _col("total_posts", Integer(), "Live posts, life-time.", null=False, default="0"),
    _col("total_followers_gained", Double(), "Followers gained by measured posts, life-time."),
    _col("total_impressions", BigInteger(), "Impressions of measured posts, life-time."),
    _col("avg_f_per_1k", Double(), "Followers per 1000 impressions, life-time (ratio of sums)."),
    _col("avg_engagement_rate", Double(), "(likes + 2 retweets + 3 replies) / impressions."),
    _col("avg_likes", Double(), "Mean likes of measured posts."),
    _col("avg_retweets", Double(), "Mean retweets of measured posts."),
    _col("avg_replies", Double(), "Mean replies of measured posts."),
    _col("avg_quality_score", Double(), "Mean quality score that the engine gave its posts."),
    _col("viral_post_count", Integer(), "Posts above 5 F/1K.", null=False, default="0"),
    _col("failed_post_count", Integer(), "Posts without followers.", null=False, default="0"),
    _col("times_selected", Integer(), "Posts that went live.", null=False, default="0"),
    _col("last_used", TIME, "Latest time that a post of it went live."),
    _col("last_updated", TIME, "When weight or status last changed."),
    _col("stats_as_of", TIME, "Time of the data behind the life-time figures."),
    _col(
        "status", Text(), "active, testing, disabled or archived.", null=False, default="'active'"
    ),
    _col(
        "optimization_locked",
        Boolean(),
        "A locked weight is changed by nothing but an override.",
        null=False,
        default="false",
    ),
    _col("notes", Text(), "Free text, with the reason of the last manual change."),
    _col("created_at", TIME, "When the generator was registered.", null=False, default="now()"),
    _col("updated_at", TIME, "When this row last changed.", null=False, default="now()"),
    PrimaryKeyConstraint("account_id", "generator_name"),
    ForeignKeyConstraint(["account_id"], ["genopt.accounts.account_id"]),
    CheckConstraint("status IN ('active', 'testing', 'disabled', 'archived')", name="known_status"),
    CheckConstraint("weight >= 0 AND weight <= 1", name="weight_is_a_probability"),
    CheckConstraint(
        "status IN ('active', 'testing') OR weight = 0", name="only_drawn_generators_have_weight"
    ),
    comment="One row a generator: live weight, status, life-time figures. The weights of an "
    "account sum to exactly 1 at every commit, and equal those of its newest weight event.",
)
Index("ix_generator_weights_f_per_1k", generator_weights.c.avg_f_per_1k.desc())
Index("ix_generator_weights_status", generator_weights.c.account_id, generator_weights.c.status)

generator_aliases = Table(
    "generator_aliases",
    metadata,
    _account(),
    _col("alias_key", Text(), "Normalised spelling; see normalize_generator_name.", null=False),
    _col("generator_name", Text(), "The registered generator it stands for.", null=False),
    _col("created_by", Text(), "Who added it.", null=False, default="'system'"),
    _col("created_at", TIME, "When it was added.", null=False, default="now()"),
    PrimaryKeyConstraint("account_id", "alias_key"),
    ForeignKeyConstraint(
        ["account_id", "generator_name"],
        ["genopt.generator_weights.account_id", "genopt.generator_weights.generator_name"],
    ),
    comment="Spellings of generator names and the generator they stand for.",
)

content_metadata = Table(
    "content_metadata",
    metadata,
    _account(),
    _col("decision_id", Text(), "The content engine's key of the post.", null=False),
    _col("tweet_id", Text(), "X's id of the post, once live."),
    _col("generator_name", Text(), "Registered generator; null if unknown or quarantined."),
    _col("generator_name_raw", Text(), "The name as delivered, where it is not a registered one."),
    _col("generator_confidence", Double(), "The engine's own confidence in its choice."),
    _col("selection_probability", Double(), "Probability with which it was really drawn."),
    _col("weights_version", Integer(), "Version of the weights it was drawn by."),
    _col("experiment_arm", Text(), "control, variant_a, variant_b or holdout."),
    _col("quality_score", Double(), "Quality score that the engine gave the post."),
    _col(
        "status",
        Text(),
        "draft, scheduled, posted, failed or deleted.",
        null=False,
        default="'posted'",
    ),
    _col("posted_at", TIME, "When the post went live."),
    _col(
        "posted_at_precision",
        Text(),
        "exact, or day where only the day is known.",
        null=False,
        default="'exact'",
    ),
    _col(
        "source",
        Text(),
        "Who wrote the row: engine, import, sandbox, x_api.",
        null=False,
        default="'engine'",
    ),
    _col(
        "selection_counted",
        Boolean(),
        "Whether the post was counted in times_selected.",
        null=False,
        default="false",
    ),
    _col("created_at", TIME, "When the row was written.", null=False, default="now()"),
    _col("updated_at", TIME, "When the row last changed.", null=False, default="now()"),
    PrimaryKeyConstraint("account_id", "decision_id"),
    UniqueConstraint("account_id", "tweet_id"),
    ForeignKeyConstraint(["account_id"], ["genopt.accounts.account_id"]),
    ForeignKeyConstraint(
        ["account_id", "generator_name"],
        ["genopt.generator_weights.account_id", "genopt.generator_weights.generator_name"],
    ),
    CheckConstraint(
        "status IN ('draft', 'scheduled', 'posted', 'failed', 'deleted')", name="known_status"
    ),
    CheckConstraint("status <> 'posted' OR posted_at IS NOT NULL", name="posted_has_a_time"),
    CheckConstraint(
        "selection_probability > 0 AND selection_probability <= 1", name="probability_in_range"
    ),
    comment="Posts, written by the content engine, an import or the sandbox.",
)
Index(
    "ix_content_metadata_generator_posted_at",
    content_metadata.c.account_id,
    content_metadata.c.generator_name,
    content_metadata.c.posted_at,
)
Index("ix_content_metadata_posted_at", content_metadata.c.posted_at.desc())
Index("ix_content_metadata_arm", content_metadata.c.account_id, content_metadata.c.experiment_arm)
Index("ix_content_metadata_status", content_metadata.c.account_id, content_metadata.c.status)

outcomes = Table(
    "outcomes",
    metadata,
    _account(),
    _col("decision_id", Text(), "The post.", null=False),
    *_metrics(),
    _col("views", BigInteger(), "The same as impressions, under the name some queries use."),
    _col("engagement_rate", Double(), "(likes + 2 retweets + 3 replies) / impressions."),
    _col("followers_gained", Double(), "Followers gained, by the estimator that is in force."),
    _col("followers_attributed", Double(), "Followers attributed from the account's changes."),
    _col("followers_variance", Double(), "Variance of followers_attributed."),
    _col("followers_information", Double(), "Share of a counted follower's information, 0 to 1."),
    _col("attributed_as_of", TIME, "End of the window that attributed it."),
    _col("observed_at", TIME, "When the metrics were observed."),
    _col("source", Text(), "Where the metrics came from."),
    _col("updated_at", TIME, "When this row last changed.", null=False, default="now()"),
    PrimaryKeyConstraint("account_id", "decision_id"),
    ForeignKeyConstraint(
        ["account_id", "decision_id"],
        ["genopt.content_metadata.account_id", "genopt.content_metadata.decision_id"],
        onupdate="CASCADE",
    ),
    comment="Latest results of each post.",
)

post_metric_snapshots = Table(
    "post_metric_snapshots",
    metadata,
    _account(),
    _col("decision_id", Text(), "The post.", null=False),
    _col("window_start", TIME, "Start of the window that collected it.", null=False),
    _col("observed_at", TIME, "When it was observed.", null=False),
    _col("source", Text(), "Where it came from.", null=False),
    *_metrics(),
    PrimaryKeyConstraint("account_id", "decision_id", "observed_at", "source"),
    ForeignKeyConstraint(
        ["account_id", "decision_id"],
        ["genopt.content_metadata.account_id", "genopt.content_metadata.decision_id"],
        onupdate="CASCADE",
    ),
    comment="Metric totals of posts as observed; append-only, one partition a month.",
    postgresql_partition_by="RANGE (observed_at)",
)
Index(
    "ix_post_metric_snapshots_observed_at",
    post_metric_snapshots.c.account_id,
    post_metric_snapshots.c.observed_at,
)

follower_counts = Table(
    "follower_counts",
    metadata,
    _account(),
    _col("observed_at", TIME, "When it was observed.", null=False),
    _col("source", Text(), "Where it came from.", null=False),
    _col("window_start", TIME, "Start of the window that collected it.", null=False),
    _col("followers_count", BigInteger(), "Followers of the account.", null=False),
    PrimaryKeyConstraint("account_id", "observed_at", "source"),
    ForeignKeyConstraint(["account_id"], ["genopt.accounts.account_id"]),
    CheckConstraint("followers_count >= 0", name="count_is_not_negative"),
    comment="Follower counts as observed; append-only. A failed reading has no row.",
)

collected_windows = Table(
    "collected_windows",
    metadata,
    _account(),
    *_window(),
    _col("source", Text(), "Where it came from.", null=False),
    _col("collected_at", TIME, "When it was first collected.", null=False, default="now()"),
    _col("posts_read", Integer(), "Readings of posts stored.", null=False),
    _col("rejected", Integer(), "Records quarantined.", null=False),
    _col("report", JSONB(), "The source's report: plan, costs, faults.", null=False),
    PrimaryKeyConstraint("account_id", "window_start", "source"),
    ForeignKeyConstraint(["account_id"], ["genopt.accounts.account_id"]),
    comment="Ten-minute windows that were collected; what is absent is a gap.",
)

export_files = Table(
    "export_files",
    metadata,
    _account(),
    _col("content_hash", Text(), "SHA-256 of the file.", null=False),
    _col("file_name", Text(), "Name of the file.", null=False),
    _col("dialect", Text(), "Dialect found by its header.", null=False),
    _col("exported_at", TIME, "When the export was made.", null=False),
    _col("rows_read", Integer(), "Rows read.", null=False),
    _col("rows_kept", Integer(), "Rows stored.", null=False),
    _col("rows_skipped", Integer(), "Rows that hold no post, such as ghost rows.", null=False),
    _col("rows_rejected", Integer(), "Rows quarantined.", null=False),
    _col("imported_at", TIME, "When it was imported.", null=False, default="now()"),
    PrimaryKeyConstraint("account_id", "content_hash"),
    ForeignKeyConstraint(["account_id"], ["genopt.accounts.account_id"]),
    comment="Imported X exports.",
)

post_export_totals = Table(
    "post_export_totals",
    metadata,
    _account(),
    _col("decision_id", Text(), "The post.", null=False),
    _col(
        "exported_at", TIME, "When the export was made; the totals hold at that time.", null=False
    ),
    *_metrics(),
    _col("content_hash", Text(), "The file it came from.", null=False),
    PrimaryKeyConstraint("account_id", "decision_id", "exported_at"),
    ForeignKeyConstraint(
        ["account_id", "decision_id"],
        ["genopt.content_metadata.account_id", "genopt.content_metadata.decision_id"],
        onupdate="CASCADE",
    ),
    comment="Totals of posts at the date of an export; not a trajectory.",
)

account_export_days = Table(
    "account_export_days",
    metadata,
    _account(),
    _col("day", Date(), "The day (as the platform cuts days).", null=False),
    _col("exported_at", TIME, "When the export was made.", null=False),
    _col("impressions", BigInteger(), "Impressions on that day."),
    _col("engagements", BigInteger(), "Engagements on that day."),
    _col("new_follows", BigInteger(), "New follows on that day."),
    _col("unfollows", BigInteger(), "Unfollows on that day."),
    _col("profile_visits", BigInteger(), "Profile visits on that day."),
    _col("posts_created", BigInteger(), "Posts created on that day."),
    _col("content_hash", Text(), "The file it came from.", null=False),
    PrimaryKeyConstraint("account_id", "day", "exported_at"),
    ForeignKeyConstraint(["account_id"], ["genopt.accounts.account_id"]),
    comment="Daily totals of the account, from its overview or activity exports.",
)

follower_deltas = Table(
    "follower_deltas",
    metadata,
    _account(),
    *_window(),
    _col("delta", BigInteger(), "Net change since covers_from; null if the window is a gap."),
    _col("covers_from", TIME, "Start of what delta covers; earlier after a gap."),
    _col("followers_start", BigInteger(), "Follower count at covers_from."),
    _col("followers_end", BigInteger(), "Follower count at the window's end."),
    _col("observed_from", TIME, "When followers_start was observed."),
    _col("observed_to", TIME, "When followers_end was observed."),
    _col("readings", Integer(), "Readings inside the window.", null=False),
    _col(
        "coverage", Double(), "Share of the window's ten-minute slots with a reading.", null=False
    ),
    _col("gap_reason", Text(), "Why delta is null."),
    _col("computed_at", TIME, "When the row was computed.", null=False, default="now()"),
    PrimaryKeyConstraint("account_id", "window_start"),
    ForeignKeyConstraint(["account_id"], ["genopt.accounts.account_id"]),
    CheckConstraint("(delta IS NULL) = (gap_reason IS NOT NULL)", name="a_gap_has_a_reason"),
    CheckConstraint("delta = followers_end - followers_start", name="delta_is_a_difference"),
    comment="Net follower change of each account and two-hour window. A gap is null, never zero; "
    "the next window with a reading covers it too.",
)

post_followers = Table(
    "post_followers",
    metadata,
    _account(),
    *_window(),
    _col("decision_id", Text(), "The post.", null=False),
    _col("followers", Double(), "Share of the window's change credited to the post.", null=False),
    _col("variance", Double(), "Variance of that share.", null=False),
    _col(
        "followers_to_date", Double(), "All shares of the post, as seen at window_end.", null=False
    ),
    _col("variance_to_date", Double(), "Variance of followers_to_date.", null=False),
    _col("information", Double(), "Share of a counted follower's information, 0 to 1."),
    PrimaryKeyConstraint("account_id", "window_start", "decision_id"),
    ForeignKeyConstraint(
        ["account_id", "decision_id"],
        ["genopt.content_metadata.account_id", "genopt.content_metadata.decision_id"],
        onupdate="CASCADE",
    ),
    comment="Follower change attributed to posts. With follower_baseline it sums to the delta of "
    "the window.",
)
Index(
    "ix_post_followers_decision",
    post_followers.c.account_id,
    post_followers.c.decision_id,
    post_followers.c.window_end,
)

follower_baseline = Table(
    "follower_baseline",
    metadata,
    _account(),
    *_window(),
    _col("delta", Double(), "The window's change, as in follower_deltas.", null=False),
    _col("followers", Double(), "Net part that no post is credited with.", null=False),
    _col("organic", Double(), "Estimated follows that no post brought."),
    _col("unfollows", Double(), "Estimated unfollows."),
    _col(
        "quarantined",
        Boolean(),
        "An implausible jump, kept off the posts.",
        null=False,
        default="false",
    ),
    _col("parameters", JSONB(), "Estimated parameters and the code's version.", null=False),
    PrimaryKeyConstraint("account_id", "window_start"),
    ForeignKeyConstraint(
        ["account_id", "window_start"],
        ["genopt.follower_deltas.account_id", "genopt.follower_deltas.window_start"],
    ),
    comment="The part of each window's follower change that no post is credited with.",
)

generator_performance_history = Table(
    "generator_performance_history",
    metadata,
    _account(),
    _col("generator_name", Text(), "The generator.", null=False),
    _col("period_start", TIME, "Start of the period (UTC, inclusive).", null=False),
    _col("period_end", TIME, "End of the period (UTC, exclusive).", null=False),
    _col("experiment_arm", Text(), "Arm, or all.", null=False, default="'all'"),
    _col("posts_count", Integer(), "Posts in the period.", null=False),
    _col(
        "posts_measured", Integer(), "Posts whose followers and impressions are known.", null=False
    ),
    _col("followers_gained", Double(), "Followers of measured posts; null if none is measured."),
    _col("impressions", BigInteger(), "Impressions of measured posts."),
    _col("f_per_1k", Double(), "Followers per 1000 impressions; null if unknown."),
    _col("f_per_1k_low", Double(), "Lower end of its 90 % interval."),
    _col("f_per_1k_high", Double(), "Upper end of its 90 % interval."),
    _col("engagement_rate", Double(), "(likes + 2 retweets + 3 replies) / impressions."),
    _col("total_likes", BigInteger(), "Likes."),
    _col("total_retweets", BigInteger(), "Retweets."),
    _col("total_replies", BigInteger(), "Replies."),
    _col("total_views", BigInteger(), "Impressions of all posts that have any reading."),
    _col("viral_posts", Integer(), "Posts above 5 F/1K."),
    _col("failed_posts", Integer(), "Posts without followers."),
    _col("tier", Text(), "viral, excellent, good, average, poor, failing; null if unknown."),
    _col("relative_tier", Text(), "Tier relative to the account's own mean."),
    _col("rank", Integer(), "Rank by F/1K, ties share a rank; null if unknown."),
    _col("trend", Text(), "improving, stable, declining or not_enough_data."),
    _col("weight_used", Numeric(6, 4), "Weight in force at the period's end."),
    _col("estimator", Text(), "attributed or platform.", null=False),
    PrimaryKeyConstraint(
        "account_id", "generator_name", "period_start", "period_end", "experiment_arm"
    ),
    ForeignKeyConstraint(
        ["account_id", "generator_name"],
        ["genopt.generator_weights.account_id", "genopt.generator_weights.generator_name"],
    ),
    CheckConstraint("period_start < period_end", name="period_is_not_empty"),
    comment="Per-generator performance of each period, one row a generator and period.",
)
Index(
    "ix_generator_performance_history_period",
    generator_performance_history.c.account_id,
    generator_performance_history.c.period_end.desc(),
)
Index(
    "ix_generator_performance_history_arm",
    generator_performance_history.c.account_id,
    generator_performance_history.c.experiment_arm,
)

weight_snapshots = Table(
    "weight_snapshots",
    metadata,
    _account(),
    *_window(),
    _col("decision", Text(), "proposed, or skipped with its reason.", null=False),
    _col("reason", Text(), "Why it was skipped; null if proposed."),
    _col("policy", Text(), "The policy that proposed.", null=False),
    _col("weights", JSONB(), "Proposed weights, 4 decimals, sum exactly 1.", null=False),
    _col(
        "proposal", JSONB(), "The whole proposal: changes, explanations, diagnostics.", null=False
    ),
    _col("shadow", JSONB(), "The other policy's proposal."),
    _col("base_version", Integer(), "Version of the weights it starts from.", null=False),
    _col("inputs", JSONB(), "What it was computed from: counts, times, a hash.", null=False),
    _col("code_version", Text(), "Version of the code that computed it.", null=False),
    _col(
        "backfilled",
        Boolean(),
        "Computed by backfills only; such a snapshot is never published.",
        null=False,
    ),
    PrimaryKeyConstraint("account_id", "window_start"),
    ForeignKeyConstraint(["account_id"], ["genopt.accounts.account_id"]),
    CheckConstraint("decision IN ('proposed', 'skipped')", name="known_decision"),
    CheckConstraint("(decision = 'skipped') = (reason IS NOT NULL)", name="a_skip_has_a_reason"),
    comment="Weights that the policy proposes for each six-hour window; no side effects.",
)

optimization_events = Table(
    "optimization_events",
    metadata,
    Column("id", BigInteger(), Identity(always=True), comment="Order of writing.", nullable=False),
    _account(),
    _col("event_type", Text(), "What happened; see the check.", null=False),
    _col("posts_analyzed", Integer(), "Posts in the window."),
    _col("period_days", Double(), "Length of the window that was read."),
    _col(
        "generators_updated", Integer(), "Generators whose weight changed.", null=False, default="0"
    ),
    _col("top_performer", Text(), "Generator with the highest F/1K."),
    _col("top_performer_f_per_1k", Double(), "Its F/1K."),
    _col("bottom_performer", Text(), "Generator with the lowest F/1K."),
    _col("bottom_performer_f_per_1k", Double(), "Its F/1K."),
    _col(
        "changes",
        JSONB(),
        "List of {generator, old_weight, new_weight, reason}.",
        null=False,
        default="'[]'",
    ),
    _col("execution_time_ms", Double(), "Time that the computation took."),
    _col("success", Boolean(), "Whether what was tried was done.", null=False, default="true"),
    _col("error_message", Text(), "Why not."),
    _col("reason", Text(), "Why it was done or skipped, in words."),
    _col("window_start", TIME, "Start of the window behind it."),
    _col("window_end", TIME, "End of the window behind it."),
    _col("weights_version", Integer(), "Version that this event put in force; null if none."),
    _col("weights_after", JSONB(), "All weights from effective_at on; null if unchanged."),
    _col("states_after", JSONB(), "Status and lock of every generator; null if unchanged."),
    _col("effective_at", TIME, "From when it holds.", null=False, default="now()"),
    _col("created_at", TIME, "When it was written.", null=False, default="now()"),
    _col("created_by", Text(), "Who or what did it.", null=False, default="'system'"),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("account_id", "weights_version"),
    ForeignKeyConstraint(["account_id"], ["genopt.accounts.account_id"]),
    CheckConstraint(
        "event_type IN ('initial_weights', 'weight_update', 'generator_added', "
        "'generator_disabled', 'generator_enabled', 'generator_archived', 'viral_boost', "
        "'viral_ended', 'failure_detected', 'recovered', 'manual_override', 'locked', 'unlocked', "
        "'rollback', 'skipped', 'refused', 'post_corrected')",
        name="known_event_type",
    ),
    CheckConstraint(
        "num_nulls(weights_version, weights_after, states_after) IN (0, 3)",
        name="a_version_has_weights_and_states",
    ),
    comment="Every change of weights, and every decision not to change them.",
)
Index(
    "ix_optimization_events_type_time",
    optimization_events.c.account_id,
    optimization_events.c.event_type,
    optimization_events.c.created_at.desc(),
)
Index(
    "ix_optimization_events_effective",
    optimization_events.c.account_id,
    optimization_events.c.effective_at.desc(),
    postgresql_where=optimization_events.c.weights_after.is_not(None),
)
Index(
    "ux_optimization_events_window",
    optimization_events.c.account_id,
    optimization_events.c.window_start,
    unique=True,
    postgresql_where=text("event_type = 'weight_update'"),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", BigInteger(), Identity(always=True), comment="Order of writing.", nullable=False),
    _account(),
    _col(
        "kind", Text(), "What kind of record: generator_name, export_row, reading ...", null=False
    ),
    _col("source", Text(), "File or source it came from.", null=False),
    _col("place", Text(), "Row and column, or key, inside the source.", null=False),
    _col("reason", Text(), "Why it could not be used.", null=False),
    _col("raw", JSONB(), "The record as delivered.", null=False, default="'{}'"),
    _col(
        "fingerprint", Text(), "Hash that keeps a repeated delivery from a second row.", null=False
    ),
    _col("created_at", TIME, "When it was put here.", null=False, default="now()"),
    _col("resolved_at", TIME, "When it was dealt with."),
    _col("resolution", Text(), "How it was dealt with."),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("account_id", "fingerprint"),
    ForeignKeyConstraint(["account_id"], ["genopt.accounts.account_id"]),
    comment="Records that could not be used, with the reason; nothing is dropped.",
)

source_states = Table(
    "source_states",
    metadata,
    _account(),
    _col("source", Text(), "The source.", null=False),
    _col("key", Text(), "What is remembered.", null=False),
    _col("value", JSONB(), "Its value; never a secret.", null=False),
    _col("updated_at", TIME, "When it last changed.", null=False, default="now()"),
    PrimaryKeyConstraint("account_id", "source", "key"),
    ForeignKeyConstraint(["account_id"], ["genopt.accounts.account_id"]),
    comment="What a source remembers between windows: deleted posts, absent endpoints, budgets.",
)

alert_states = Table(
    "alert_states",
    metadata,
    _account(),
    _col("alert_key", Text(), "Stable key of the alert.", null=False),
    _col("opened_at", TIME, "When it began.", null=False, default="now()"),
    _col("closed_at", TIME, "When it ended; null while it lasts."),
    _col("severity", Text(), "info, warning or critical.", null=False),
    _col("message", Text(), "What is the matter, in words.", null=False),
    _col("details", JSONB(), "Numbers behind it.", null=False, default="'{}'"),
    _col(
        "notified_at",
        TIME,
        "When its beginning was told: to the log, and to the webhook if one is set.",
    ),
    _col("closing_notified_at", TIME, "When its end was told, likewise."),
    PrimaryKeyConstraint("account_id", "alert_key", "opened_at"),
    ForeignKeyConstraint(["account_id"], ["genopt.accounts.account_id"]),
    comment="Alerts by episode: one row from opening to closing.",
)
Index(
    "ix_alert_states_open",
    alert_states.c.account_id,
    alert_states.c.alert_key,
    unique=True,
    postgresql_where=text("closed_at IS NULL"),
)


def column_rows(table: Table) -> list[tuple[str, str, str, bool]]:
    """Name, SQL type, comment and nullability of each column of ``table``."""
    return [
        (column.name, str(column.type), column.comment or "", bool(column.nullable))
        for column in table.columns
    ]
