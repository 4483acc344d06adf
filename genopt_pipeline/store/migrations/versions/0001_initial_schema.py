"""The first schema: tables, functions, triggers, the summary view, and the default weights."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

FUNCTIONS = Path(__file__).parent.parent / "sql" / "0001_functions.sql"

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SEED = """
SELECT genopt.ensure_snapshot_partitions(now() - interval '1 month', now() + interval '3 months');
INSERT INTO genopt.accounts (account_id, weights_version) VALUES ('main', 1);
WITH defaults (generator_name, weight) AS (VALUES
    ('humanVoice', 0.15), ('newsReporter', 0.12), ('storyteller', 0.12), ('interesting', 0.10),
    ('provocateur', 0.10), ('dataNerd', 0.10), ('mythBuster', 0.10), ('coach', 0.08),
    ('thoughtLeader', 0.05), ('contrarian', 0.04), ('explorer', 0.02), ('philosopher', 0.02)
), rows AS (
    INSERT INTO genopt.generator_weights (account_id, generator_name, weight)
    SELECT 'main', generator_name, weight FROM defaults
)
INSERT INTO genopt.optimization_events
    (account_id, event_type, generators_updated, changes, reason, weights_version, weights_after,
     states_after, effective_at)
SELECT 'main', 'initial_weights', count(*),
       jsonb_agg(jsonb_build_object('generator', generator_name, 'old_weight', NULL,
                                    'new_weight', weight, 'reason', 'default weight')
                 ORDER BY generator_name),
       'default weights', 1, jsonb_object_agg(generator_name, weight),
       jsonb_object_agg(generator_name, jsonb_build_object('status', 'active', 'locked', false)),
       'epoch'
  FROM defaults;
"""

REMOVE_ALL = """
DO $$
DECLARE item record;
BEGIN
    DROP VIEW genopt.generator_performance_summary;
    FOR item IN SELECT c.relname FROM pg_class c
                 WHERE c.relnamespace = 'genopt'::regnamespace AND c.relkind IN ('r', 'p')
                   AND NOT c.relispartition AND c.relname <> 'schema_version' LOOP
        EXECUTE format('DROP TABLE genopt.%I CASCADE', item.relname);
    END LOOP;
    FOR item IN SELECT p.oid::regprocedure AS signature FROM pg_proc p
                 WHERE p.pronamespace = 'genopt'::regnamespace LOOP
        EXECUTE format('DROP FUNCTION %s CASCADE', item.signature);
    END LOOP;
END $$;
"""


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "accounts",
        sa.Column(
            "account_id",
            sa.Text(),
            server_default=sa.text("'main'"),
            nullable=False,
            comment="The account.",
        ),
        sa.Column(
            "weights_version",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Version of the weights in force.",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the account was registered.",
        ),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_accounts")),
        schema="genopt",
        comment="Accounts that this installation learns for, and the version of their weights.",
    )
    op.create_table(
        "account_export_days",
        sa.Column(
            "account_id",
            sa.Text(),
            server_default=sa.text("'main'"),
            nullable=False,
            comment="The account.",
        ),
        sa.Column("day", sa.Date(), nullable=False, comment="The day (as the platform cuts days)."),
        sa.Column(
            "exported_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the export was made.",
        ),
        sa.Column(
            "impressions", sa.BigInteger(), nullable=True, comment="Impressions on that day."
        ),
        sa.Column(
            "engagements", sa.BigInteger(), nullable=True, comment="Engagements on that day."
        ),
        sa.Column(
            "new_follows", sa.BigInteger(), nullable=True, comment="New follows on that day."
        ),
        sa.Column("unfollows", sa.BigInteger(), nullable=True, comment="Unfollows on that day."),
        sa.Column(
            "profile_visits", sa.BigInteger(), nullable=True, comment="Profile visits on that day."
        ),
        sa.Column(
            "posts_created", sa.BigInteger(), nullable=True, comment="Posts created on that day."
        ),
        sa.Column("content_hash", sa.Text(), nullable=False, comment="The file it came from."),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["genopt.accounts.account_id"],
            name=op.f("fk_account_export_days_account_id_accounts"),
        ),
        sa.PrimaryKeyConstraint(
            "account_id", "day", "exported_at", name=op.f("pk_account_export_days")
        ),
        schema="genopt",
        comment="Daily totals of the account, from its overview or activity exports.",
    )
    op.create_table(
        "alert_states",
        sa.Column(
            "account_id",
            sa.Text(),
            server_default=sa.text("'main'"),
            nullable=False,
            comment="The account.",
        ),
        sa.Column("alert_key", sa.Text(), nullable=False, comment="Stable key of the alert."),
        sa.Column(
            "opened_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it began.",
        ),
        sa.Column(
            "closed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When it ended; null while it lasts.",
        ),
        sa.Column("severity", sa.Text(), nullable=False, comment="info, warning or critical."),
        sa.Column("message", sa.Text(), nullable=False, comment="What is the matter, in words."),
        sa.Column(
            "details",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="Numbers behind it.",
        ),
        sa.Column(
            "notified_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When the webhook took it.",
        ),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["genopt.accounts.account_id"],
            name=op.f("fk_alert_states_account_id_accounts"),
        ),
        sa.PrimaryKeyConstraint(
            "account_id", "alert_key", "opened_at", name=op.f("pk_alert_states")
        ),
        schema="genopt",
        comment="Alerts by episode: one row from opening to closing.",
    )
    op.create_table(
        "collected_windows",
        sa.Column(
            "account_id",
            sa.Text(),
            server_default=sa.text("'main'"),
            nullable=False,
            comment="The account.",
        ),
        sa.Column(
            "window_start",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="Start of the window (UTC, inclusive).",
        ),
        sa.Column(
            "window_end",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="End of the window (UTC, exclusive).",
        ),
        sa.Column("source", sa.Text(), nullable=False, comment="Where it came from."),
        sa.Column(
            "collected_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was first collected.",
        ),
        sa.Column("posts_read", sa.Integer(), nullable=False, comment="Readings of posts stored."),
        sa.Column("rejected", sa.Integer(), nullable=False, comment="Records quarantined."),
        sa.Column(
            "report",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="The source's report: plan, costs, faults.",
        ),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["genopt.accounts.account_id"],
            name=op.f("fk_collected_windows_account_id_accounts"),
        ),
        sa.PrimaryKeyConstraint(
            "account_id", "window_start", "source", name=op.f("pk_collected_windows")
        ),
        schema="genopt",
        comment="Ten-minute windows that were collected; what is absent is a gap.",
    )
    op.create_table(
        "export_files",
        sa.Column(
            "account_id",
            sa.Text(),
            server_default=sa.text("'main'"),
            nullable=False,
            comment="The account.",
        ),
        sa.Column("content_hash", sa.Text(), nullable=False, comment="SHA-256 of the file."),
        sa.Column("file_name", sa.Text(), nullable=False, comment="Name of the file."),
        sa.Column("dialect", sa.Text(), nullable=False, comment="Dialect found by its header."),
        sa.Column(
            "exported_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the export was made.",
        ),
        sa.Column("rows_read", sa.Integer(), nullable=False, comment="Rows read."),
        sa.Column("rows_kept", sa.Integer(), nullable=False, comment="Rows stored."),
        sa.Column(
            "rows_skipped",
            sa.Integer(),
            nullable=False,
            comment="Rows that hold no post, such as ghost rows.",
        ),
        sa.Column("rows_rejected", sa.Integer(), nullable=False, comment="Rows quarantined."),
        sa.Column(
            "imported_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was imported.",
        ),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["genopt.accounts.account_id"],
            name=op.f("fk_export_files_account_id_accounts"),
        ),
        sa.PrimaryKeyConstraint("account_id", "content_hash", name=op.f("pk_export_files")),
        schema="genopt",
        comment="Imported X exports.",
    )
    op.create_table(
        "follower_counts",
        sa.Column(
            "account_id",
            sa.Text(),
            server_default=sa.text("'main'"),
            nullable=False,
            comment="The account.",
        ),
        sa.Column(
            "observed_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When it was observed.",
        ),
        sa.Column("source", sa.Text(), nullable=False, comment="Where it came from."),
        sa.Column(
            "window_start",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="Start of the window that collected it.",
        ),
        sa.Column(
            "followers_count", sa.BigInteger(), nullable=False, comment="Followers of the account."
        ),
        sa.CheckConstraint(
            "followers_count >= 0", name=op.f("ck_follower_counts_count_is_not_negative")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["genopt.accounts.account_id"],
            name=op.f("fk_follower_counts_account_id_accounts"),
        ),
        sa.PrimaryKeyConstraint(
            "account_id", "observed_at", "source", name=op.f("pk_follower_counts")
        ),
        schema="genopt",
        comment="Follower counts as observed; append-only. A failed reading has no row.",
    )
    op.create_table(
        "follower_deltas",
        sa.Column(
            "account_id",
            sa.Text(),
            server_default=sa.text("'main'"),
            nullable=False,
            comment="The account.",
        ),
        sa.Column(
            "window_start",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="Start of the window (UTC, inclusive).",
        ),
        sa.Column(
            "window_end",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="End of the window (UTC, exclusive).",
        ),
        sa.Column(
            "delta",
            sa.BigInteger(),
            nullable=True,
            comment="Net change since covers_from; null if the window is a gap.",
        ),
        sa.Column(
            "covers_from",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Start of what delta covers; earlier after a gap.",
        ),
        sa.Column(
            "followers_start",
            sa.BigInteger(),
            nullable=True,
            comment="Follower count at covers_from.",
        ),
        sa.Column(
            "followers_end",
            sa.BigInteger(),
            nullable=True,
            comment="Follower count at the window's end.",
        ),
        sa.Column(
            "observed_from",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When followers_start was observed.",
        ),
        sa.Column(
            "observed_to",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When followers_end was observed.",
        ),
        sa.Column("readings", sa.Integer(), nullable=False, comment="Readings inside the window."),
        sa.Column(
            "coverage",
            sa.Double(),
            nullable=False,
            comment="Share of the window's ten-minute slots with a reading.",
        ),
        sa.Column("gap_reason", sa.Text(), nullable=True, comment="Why delta is null."),
        sa.Column(
            "computed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the row was computed.",
        ),
        sa.CheckConstraint(
            "(delta IS NULL) = (gap_reason IS NOT NULL)",
            name=op.f("ck_follower_deltas_a_gap_has_a_reason"),
        ),
        sa.CheckConstraint(
            "delta = followers_end - followers_start",
            name=op.f("ck_follower_deltas_delta_is_a_difference"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["genopt.accounts.account_id"],
            name=op.f("fk_follower_deltas_account_id_accounts"),
        ),
        sa.PrimaryKeyConstraint("account_id", "window_start", name=op.f("pk_follower_deltas")),
        schema="genopt",
        comment="Net follower change of each account and two-hour window. A gap is null, never zero; the next window with a reading covers it too.",
    )
    op.create_table(
        "generator_weights",
        sa.Column(
            "account_id",
            sa.Text(),
            server_default=sa.text("'main'"),
            nullable=False,
            comment="The account.",
        ),
        sa.Column(
            "generator_name", sa.Text(), nullable=False, comment="Registered name of the generator."
        ),
        sa.Column(
            "weight",
            sa.Numeric(precision=6, scale=4),
            server_default=sa.text("0"),
            nullable=False,
            comment="Live probability of being drawn.",
        ),
        sa.Column(
            "total_posts",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Live posts, life-time.",
        ),
        sa.Column(
            "total_followers_gained",
            sa.Double(),
            nullable=True,
            comment="Followers gained by measured posts, life-time.",
        ),
        sa.Column(
            "total_impressions",
            sa.BigInteger(),
            nullable=True,
            comment="Impressions of measured posts, life-time.",
        ),
        sa.Column(
            "avg_f_per_1k",
            sa.Double(),
            nullable=True,
            comment="Followers per 1000 impressions, life-time (ratio of sums).",
        ),
        sa.Column(
            "avg_engagement_rate",
            sa.Double(),
            nullable=True,
            comment="(likes + 2 retweets + 3 replies) / impressions.",
        ),
        sa.Column("avg_likes", sa.Double(), nullable=True, comment="Mean likes of measured posts."),
        sa.Column(
            "avg_retweets", sa.Double(), nullable=True, comment="Mean retweets of measured posts."
        ),
        sa.Column(
            "avg_replies", sa.Double(), nullable=True, comment="Mean replies of measured posts."
        ),
        sa.Column(
            "avg_quality_score",
            sa.Double(),
            nullable=True,
            comment="Mean quality score that the engine gave its posts.",
        ),
        sa.Column(
            "viral_post_count",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Posts above 5 F/1K.",
        ),
        sa.Column(
            "failed_post_count",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Posts without followers.",
        ),
        sa.Column(
            "times_selected",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Posts that went live.",
        ),
        sa.Column(
            "last_used",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Latest time that a post of it went live.",
        ),
        sa.Column(
            "last_updated",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When weight or status last changed.",
        ),
        sa.Column(
            "stats_as_of",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Time of the data behind the life-time figures.",
        ),
        sa.Column(
            "status",
            sa.Text(),
            server_default=sa.text("'active'"),
            nullable=False,
            comment="active, testing, disabled or archived.",
        ),
        sa.Column(
            "optimization_locked",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="A locked weight is changed by nothing but an override.",
        ),
        sa.Column(
            "notes",
            sa.Text(),
            nullable=True,
            comment="Free text, with the reason of the last manual change.",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the generator was registered.",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When this row last changed.",
        ),
        sa.CheckConstraint(
            "status IN ('active', 'testing') OR weight = 0",
            name=op.f("ck_generator_weights_only_drawn_generators_have_weight"),
        ),
        sa.CheckConstraint(
            "status IN ('active', 'testing', 'disabled', 'archived')",
            name=op.f("ck_generator_weights_known_status"),
        ),
        sa.CheckConstraint(
            "weight >= 0 AND weight <= 1", name=op.f("ck_generator_weights_weight_is_a_probability")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["genopt.accounts.account_id"],
            name=op.f("fk_generator_weights_account_id_accounts"),
        ),
        sa.PrimaryKeyConstraint("account_id", "generator_name", name=op.f("pk_generator_weights")),
        schema="genopt",
        comment="One row a generator: live weight, status, life-time figures. The weights of an account sum to exactly 1 at every commit, and equal those of its newest weight event.",
    )
    op.create_index(
        "ix_generator_weights_f_per_1k",
        "generator_weights",
        [sa.literal_column("avg_f_per_1k DESC")],
        unique=False,
        schema="genopt",
    )
    op.create_index(
        "ix_generator_weights_status",
        "generator_weights",
        ["account_id", "status"],
        unique=False,
        schema="genopt",
    )
    op.create_table(
        "optimization_events",
        sa.Column(
            "id",
            sa.BigInteger(),
            sa.Identity(always=True),
            nullable=False,
            comment="Order of writing.",
        ),
        sa.Column(
            "account_id",
            sa.Text(),
            server_default=sa.text("'main'"),
            nullable=False,
            comment="The account.",
        ),
        sa.Column("event_type", sa.Text(), nullable=False, comment="What happened; see the check."),
        sa.Column("posts_analyzed", sa.Integer(), nullable=True, comment="Posts in the window."),
        sa.Column(
            "period_days", sa.Double(), nullable=True, comment="Length of the window that was read."
        ),
        sa.Column(
            "generators_updated",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Generators whose weight changed.",
        ),
        sa.Column(
            "top_performer", sa.Text(), nullable=True, comment="Generator with the highest F/1K."
        ),
        sa.Column("top_performer_f_per_1k", sa.Double(), nullable=True, comment="Its F/1K."),
        sa.Column(
            "bottom_performer", sa.Text(), nullable=True, comment="Generator with the lowest F/1K."
        ),
        sa.Column("bottom_performer_f_per_1k", sa.Double(), nullable=True, comment="Its F/1K."),
        sa.Column(
            "changes",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
            comment="List of {generator, old_weight, new_weight, reason}.",
        ),
        sa.Column(
            "execution_time_ms",
            sa.Double(),
            nullable=True,
            comment="Time that the computation took.",
        ),
        sa.Column(
            "success",
            sa.Boolean(),
            server_default=sa.text("true"),
            nullable=False,
            comment="Whether what was tried was done.",
        ),
        sa.Column("error_message", sa.Text(), nullable=True, comment="Why not."),
        sa.Column(
            "reason", sa.Text(), nullable=True, comment="Why it was done or skipped, in words."
        ),
        sa.Column(
            "window_start",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Start of the window behind it.",
        ),
        sa.Column(
            "window_end",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="End of the window behind it.",
        ),
        sa.Column(
            "weights_version",
            sa.Integer(),
            nullable=True,
            comment="Version that this event put in force; null if none.",
        ),
        sa.Column(
            "weights_after",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="All weights from effective_at on; null if unchanged.",
        ),
        sa.Column(
            "states_after",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="Status and lock of every generator; null if unchanged.",
        ),
        sa.Column(
            "effective_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="From when it holds.",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was written.",
        ),
        sa.Column(
            "created_by",
            sa.Text(),
            server_default=sa.text("'system'"),
            nullable=False,
            comment="Who or what did it.",
        ),
        sa.CheckConstraint(
            "event_type IN ('initial_weights', 'weight_update', 'generator_added', 'generator_disabled', 'generator_enabled', 'generator_archived', 'viral_boost', 'failure_detected', 'recovered', 'manual_override', 'locked', 'unlocked', 'rollback', 'skipped', 'refused')",
            name=op.f("ck_optimization_events_known_event_type"),
        ),
        sa.CheckConstraint(
            "num_nulls(weights_version, weights_after, states_after) IN (0, 3)",
            name=op.f("ck_optimization_events_a_version_has_weights_and_states"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["genopt.accounts.account_id"],
            name=op.f("fk_optimization_events_account_id_accounts"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_optimization_events")),
        sa.UniqueConstraint(
            "account_id",
            "weights_version",
            name=op.f("uq_optimization_events_account_id_weights_version"),
        ),
        schema="genopt",
        comment="Every change of weights, and every decision not to change them.",
    )
    op.create_index(
        "ix_optimization_events_effective",
        "optimization_events",
        ["account_id", sa.literal_column("effective_at DESC")],
        unique=False,
        schema="genopt",
        postgresql_where=sa.text("weights_after IS NOT NULL"),
    )
    op.create_index(
        "ix_optimization_events_type_time",
        "optimization_events",
        ["account_id", "event_type", sa.literal_column("created_at DESC")],
        unique=False,
        schema="genopt",
    )
    op.create_index(
        "ux_optimization_events_window",
        "optimization_events",
        ["account_id", "window_start"],
        unique=True,
        schema="genopt",
        postgresql_where=sa.text("event_type = 'weight_update'"),
    )
    op.create_table(
        "quarantine",
        sa.Column(
            "id",
            sa.BigInteger(),
            sa.Identity(always=True),
            nullable=False,
            comment="Order of writing.",
        ),
        sa.Column(
            "account_id",
            sa.Text(),
            server_default=sa.text("'main'"),
            nullable=False,
            comment="The account.",
        ),
        sa.Column(
            "kind",
            sa.Text(),
            nullable=False,
            comment="What kind of record: generator_name, export_row, reading ...",
        ),
        sa.Column("source", sa.Text(), nullable=False, comment="File or source it came from."),
        sa.Column(
            "place", sa.Text(), nullable=False, comment="Row and column, or key, inside the source."
        ),
        sa.Column("reason", sa.Text(), nullable=False, comment="Why it could not be used."),
        sa.Column(
            "raw",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="The record as delivered.",
        ),
        sa.Column(
            "fingerprint",
            sa.Text(),
            nullable=False,
            comment="Hash that keeps a repeated delivery from a second row.",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was put here.",
        ),
        sa.Column(
            "resolved_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When it was dealt with.",
        ),
        sa.Column("resolution", sa.Text(), nullable=True, comment="How it was dealt with."),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["genopt.accounts.account_id"],
            name=op.f("fk_quarantine_account_id_accounts"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quarantine")),
        sa.UniqueConstraint(
            "account_id", "fingerprint", name=op.f("uq_quarantine_account_id_fingerprint")
        ),
        schema="genopt",
        comment="Records that could not be used, with the reason; nothing is dropped.",
    )
    op.create_table(
        "source_states",
        sa.Column(
            "account_id",
            sa.Text(),
            server_default=sa.text("'main'"),
            nullable=False,
            comment="The account.",
        ),
        sa.Column("source", sa.Text(), nullable=False, comment="The source."),
        sa.Column("key", sa.Text(), nullable=False, comment="What is remembered."),
        sa.Column(
            "value",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="Its value; never a secret.",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it last changed.",
        ),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["genopt.accounts.account_id"],
            name=op.f("fk_source_states_account_id_accounts"),
        ),
        sa.PrimaryKeyConstraint("account_id", "source", "key", name=op.f("pk_source_states")),
        schema="genopt",
        comment="What a source remembers between windows: deleted posts, absent endpoints, budgets.",
    )
    op.create_table(
        "weight_snapshots",
        sa.Column(
            "account_id",
            sa.Text(),
            server_default=sa.text("'main'"),
            nullable=False,
            comment="The account.",
        ),
        sa.Column(
            "window_start",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="Start of the window (UTC, inclusive).",
        ),
        sa.Column(
            "window_end",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="End of the window (UTC, exclusive).",
        ),
        sa.Column(
            "decision", sa.Text(), nullable=False, comment="proposed, or skipped with its reason."
        ),
        sa.Column(
            "reason", sa.Text(), nullable=True, comment="Why it was skipped; null if proposed."
        ),
        sa.Column("policy", sa.Text(), nullable=False, comment="The policy that proposed."),
        sa.Column(
            "weights",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="Proposed weights, 4 decimals, sum exactly 1.",
        ),
        sa.Column(
            "proposal",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="The whole proposal: changes, explanations, diagnostics.",
        ),
        sa.Column(
            "shadow",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="The other policy's proposal.",
        ),
        sa.Column(
            "base_version",
            sa.Integer(),
            nullable=False,
            comment="Version of the weights it starts from.",
        ),
        sa.Column(
            "inputs",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="What it was computed from: counts, times, a hash.",
        ),
        sa.Column(
            "code_version",
            sa.Text(),
            nullable=False,
            comment="Version of the code that computed it.",
        ),
        sa.Column(
            "backfilled",
            sa.Boolean(),
            nullable=False,
            comment="Computed by backfills only; such a snapshot is never published.",
        ),
        sa.CheckConstraint(
            "(decision = 'skipped') = (reason IS NOT NULL)",
            name=op.f("ck_weight_snapshots_a_skip_has_a_reason"),
        ),
        sa.CheckConstraint(
            "decision IN ('proposed', 'skipped')", name=op.f("ck_weight_snapshots_known_decision")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["genopt.accounts.account_id"],
            name=op.f("fk_weight_snapshots_account_id_accounts"),
        ),
        sa.PrimaryKeyConstraint("account_id", "window_start", name=op.f("pk_weight_snapshots")),
        schema="genopt",
        comment="Weights that the policy proposes for each six-hour window; no side effects.",
    )
    op.create_table(
        "content_metadata",
        sa.Column(
            "account_id",
            sa.Text(),
            server_default=sa.text("'main'"),
            nullable=False,
            comment="The account.",
        ),
        sa.Column(
            "decision_id",
            sa.Text(),
            nullable=False,
            comment="The content engine's key of the post.",
        ),
        sa.Column("tweet_id", sa.Text(), nullable=True, comment="X's id of the post, once live."),
        sa.Column(
            "generator_name",
            sa.Text(),
            nullable=True,
            comment="Registered generator; null if unknown or quarantined.",
        ),
        sa.Column(
            "generator_name_raw",
            sa.Text(),
            nullable=True,
            comment="The name as delivered, where it is not a registered one.",
        ),
        sa.Column(
            "generator_confidence",
            sa.Double(),
            nullable=True,
            comment="The engine's own confidence in its choice.",
        ),
        sa.Column(
            "selection_probability",
            sa.Double(),
            nullable=True,
            comment="Probability with which it was really drawn.",
        ),
        sa.Column(
            "weights_version",
            sa.Integer(),
            nullable=True,
            comment="Version of the weights it was drawn by.",
        ),
        sa.Column(
            "experiment_arm",
            sa.Text(),
            nullable=True,
            comment="control, variant_a, variant_b or holdout.",
        ),
        sa.Column(
            "quality_score",
            sa.Double(),
            nullable=True,
            comment="Quality score that the engine gave the post.",
        ),
        sa.Column(
            "status",
            sa.Text(),
            server_default=sa.text("'posted'"),
            nullable=False,
            comment="draft, scheduled, posted, failed or deleted.",
        ),
        sa.Column(
            "posted_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When the post went live.",
        ),
        sa.Column(
            "posted_at_precision",
            sa.Text(),
            server_default=sa.text("'exact'"),
            nullable=False,
            comment="exact, or day where only the day is known.",
        ),
        sa.Column(
            "source",
            sa.Text(),
            server_default=sa.text("'engine'"),
            nullable=False,
            comment="Who wrote the row: engine, import, sandbox, x_api.",
        ),
        sa.Column(
            "selection_counted",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="Whether the post was counted in times_selected.",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the row was written.",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the row last changed.",
        ),
        sa.CheckConstraint(
            "status <> 'posted' OR posted_at IS NOT NULL",
            name=op.f("ck_content_metadata_posted_has_a_time"),
        ),
        sa.CheckConstraint(
            "status IN ('draft', 'scheduled', 'posted', 'failed', 'deleted')",
            name=op.f("ck_content_metadata_known_status"),
        ),
        sa.CheckConstraint(
            "selection_probability > 0 AND selection_probability <= 1",
            name=op.f("ck_content_metadata_probability_in_range"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "generator_name"],
            ["genopt.generator_weights.account_id", "genopt.generator_weights.generator_name"],
            name=op.f("fk_content_metadata_account_id_generator_weights"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["genopt.accounts.account_id"],
            name=op.f("fk_content_metadata_account_id_accounts"),
        ),
        sa.PrimaryKeyConstraint("account_id", "decision_id", name=op.f("pk_content_metadata")),
        sa.UniqueConstraint(
            "account_id", "tweet_id", name=op.f("uq_content_metadata_account_id_tweet_id")
        ),
        schema="genopt",
        comment="Posts, written by the content engine, an import or the sandbox.",
    )
    op.create_index(
        "ix_content_metadata_arm",
        "content_metadata",
        ["account_id", "experiment_arm"],
        unique=False,
        schema="genopt",
    )
    op.create_index(
        "ix_content_metadata_generator_posted_at",
        "content_metadata",
        ["account_id", "generator_name", "posted_at"],
        unique=False,
        schema="genopt",
    )
    op.create_index(
        "ix_content_metadata_posted_at",
        "content_metadata",
        [sa.literal_column("posted_at DESC")],
        unique=False,
        schema="genopt",
    )
    op.create_index(
        "ix_content_metadata_status",
        "content_metadata",
        ["account_id", "status"],
        unique=False,
        schema="genopt",
    )
    op.create_table(
        "follower_baseline",
        sa.Column(
            "account_id",
            sa.Text(),
            server_default=sa.text("'main'"),
            nullable=False,
            comment="The account.",
        ),
        sa.Column(
            "window_start",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="Start of the window (UTC, inclusive).",
        ),
        sa.Column(
            "window_end",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="End of the window (UTC, exclusive).",
        ),
        sa.Column(
            "delta",
            sa.Double(),
            nullable=False,
            comment="The window's change, as in follower_deltas.",
        ),
        sa.Column(
            "followers",
            sa.Double(),
            nullable=False,
            comment="Net part that no post is credited with.",
        ),
        sa.Column(
            "organic", sa.Double(), nullable=True, comment="Estimated follows that no post brought."
        ),
        sa.Column("unfollows", sa.Double(), nullable=True, comment="Estimated unfollows."),
        sa.Column(
            "quarantined",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="An implausible jump, kept off the posts.",
        ),
        sa.Column(
            "parameters",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="Estimated parameters and the code's version.",
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "window_start"],
            ["genopt.follower_deltas.account_id", "genopt.follower_deltas.window_start"],
            name=op.f("fk_follower_baseline_account_id_follower_deltas"),
        ),
        sa.PrimaryKeyConstraint("account_id", "window_start", name=op.f("pk_follower_baseline")),
        schema="genopt",
        comment="The part of each window's follower change that no post is credited with.",
    )
    op.create_table(
        "generator_aliases",
        sa.Column(
            "account_id",
            sa.Text(),
            server_default=sa.text("'main'"),
            nullable=False,
            comment="The account.",
        ),
        sa.Column(
            "alias_key",
            sa.Text(),
            nullable=False,
            comment="Normalised spelling; see normalize_generator_name.",
        ),
        sa.Column(
            "generator_name",
            sa.Text(),
            nullable=False,
            comment="The registered generator it stands for.",
        ),
        sa.Column(
            "created_by",
            sa.Text(),
            server_default=sa.text("'system'"),
            nullable=False,
            comment="Who added it.",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was added.",
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "generator_name"],
            ["genopt.generator_weights.account_id", "genopt.generator_weights.generator_name"],
            name=op.f("fk_generator_aliases_account_id_generator_weights"),
        ),
        sa.PrimaryKeyConstraint("account_id", "alias_key", name=op.f("pk_generator_aliases")),
        schema="genopt",
        comment="Spellings of generator names and the generator they stand for.",
    )
    op.create_table(
        "generator_performance_history",
        sa.Column(
            "account_id",
            sa.Text(),
            server_default=sa.text("'main'"),
            nullable=False,
            comment="The account.",
        ),
        sa.Column("generator_name", sa.Text(), nullable=False, comment="The generator."),
        sa.Column(
            "period_start",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="Start of the period (UTC, inclusive).",
        ),
        sa.Column(
            "period_end",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="End of the period (UTC, exclusive).",
        ),
        sa.Column(
            "experiment_arm",
            sa.Text(),
            server_default=sa.text("'all'"),
            nullable=False,
            comment="Arm, or all.",
        ),
        sa.Column("posts_count", sa.Integer(), nullable=False, comment="Posts in the period."),
        sa.Column(
            "posts_measured",
            sa.Integer(),
            nullable=False,
            comment="Posts whose followers and impressions are known.",
        ),
        sa.Column(
            "followers_gained",
            sa.Double(),
            nullable=True,
            comment="Followers of measured posts; null if none is measured.",
        ),
        sa.Column(
            "impressions", sa.BigInteger(), nullable=True, comment="Impressions of measured posts."
        ),
        sa.Column(
            "f_per_1k",
            sa.Double(),
            nullable=True,
            comment="Followers per 1000 impressions; null if unknown.",
        ),
        sa.Column(
            "f_per_1k_low", sa.Double(), nullable=True, comment="Lower end of its 90 % interval."
        ),
        sa.Column(
            "f_per_1k_high", sa.Double(), nullable=True, comment="Upper end of its 90 % interval."
        ),
        sa.Column(
            "engagement_rate",
            sa.Double(),
            nullable=True,
            comment="(likes + 2 retweets + 3 replies) / impressions.",
        ),
        sa.Column("total_likes", sa.BigInteger(), nullable=True, comment="Likes."),
        sa.Column("total_retweets", sa.BigInteger(), nullable=True, comment="Retweets."),
        sa.Column("total_replies", sa.BigInteger(), nullable=True, comment="Replies."),
        sa.Column(
            "total_views",
            sa.BigInteger(),
            nullable=True,
            comment="Impressions of all posts that have any reading.",
        ),
        sa.Column("viral_posts", sa.Integer(), nullable=True, comment="Posts above 5 F/1K."),
        sa.Column("failed_posts", sa.Integer(), nullable=True, comment="Posts without followers."),
        sa.Column(
            "tier",
            sa.Text(),
            nullable=True,
            comment="viral, excellent, good, average, poor, failing; null if unknown.",
        ),
        sa.Column(
            "relative_tier",
            sa.Text(),
            nullable=True,
            comment="Tier relative to the account's own mean.",
        ),
        sa.Column(
            "rank",
            sa.Integer(),
            nullable=True,
            comment="Rank by F/1K, ties share a rank; null if unknown.",
        ),
        sa.Column(
            "trend",
            sa.Text(),
            nullable=True,
            comment="improving, stable, declining or not_enough_data.",
        ),
        sa.Column(
            "weight_used",
            sa.Numeric(precision=6, scale=4),
            nullable=True,
            comment="Weight in force at the period's end.",
        ),
        sa.Column("estimator", sa.Text(), nullable=False, comment="attributed or platform."),
        sa.CheckConstraint(
            "period_start < period_end",
            name=op.f("ck_generator_performance_history_period_is_not_empty"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "generator_name"],
            ["genopt.generator_weights.account_id", "genopt.generator_weights.generator_name"],
            name=op.f("fk_generator_performance_history_account_id_generator_weights"),
        ),
        sa.PrimaryKeyConstraint(
            "account_id",
            "generator_name",
            "period_start",
            "period_end",
            "experiment_arm",
            name=op.f("pk_generator_performance_history"),
        ),
        schema="genopt",
        comment="Per-generator performance of each period, one row a generator and period.",
    )
    op.create_index(
        "ix_generator_performance_history_arm",
        "generator_performance_history",
        ["account_id", "experiment_arm"],
        unique=False,
        schema="genopt",
    )
    op.create_index(
        "ix_generator_performance_history_period",
        "generator_performance_history",
        ["account_id", sa.literal_column("period_end DESC")],
        unique=False,
        schema="genopt",
    )
    op.create_table(
        "outcomes",
        sa.Column(
            "account_id",
            sa.Text(),
            server_default=sa.text("'main'"),
            nullable=False,
            comment="The account.",
        ),
        sa.Column("decision_id", sa.Text(), nullable=False, comment="The post."),
        sa.Column(
            "impressions",
            sa.BigInteger(),
            nullable=True,
            comment="Times the post was shown. Null: not measured.",
        ),
        sa.Column("likes", sa.BigInteger(), nullable=True, comment="Likes. Null: not measured."),
        sa.Column(
            "retweets", sa.BigInteger(), nullable=True, comment="Reposts. Null: not measured."
        ),
        sa.Column(
            "replies", sa.BigInteger(), nullable=True, comment="Replies. Null: not measured."
        ),
        sa.Column("quotes", sa.BigInteger(), nullable=True, comment="Quotes. Null: not measured."),
        sa.Column(
            "bookmarks", sa.BigInteger(), nullable=True, comment="Bookmarks. Null: not measured."
        ),
        sa.Column(
            "profile_clicks",
            sa.BigInteger(),
            nullable=True,
            comment="Clicks on the author's profile. Null: not measured.",
        ),
        sa.Column(
            "url_clicks",
            sa.BigInteger(),
            nullable=True,
            comment="Clicks on links. Null: not measured.",
        ),
        sa.Column(
            "engagements",
            sa.BigInteger(),
            nullable=True,
            comment="Engagements as the platform counts them. Null: not measured.",
        ),
        sa.Column(
            "platform_follows",
            sa.BigInteger(),
            nullable=True,
            comment="Follows that the platform itself ascribes to the post. Null: not measured.",
        ),
        sa.Column(
            "platform_unfollows",
            sa.BigInteger(),
            nullable=True,
            comment="Unfollows that the platform itself ascribes to the post. Null: not measured.",
        ),
        sa.Column(
            "views",
            sa.BigInteger(),
            nullable=True,
            comment="The same as impressions, under the name some queries use.",
        ),
        sa.Column(
            "engagement_rate",
            sa.Double(),
            nullable=True,
            comment="(likes + 2 retweets + 3 replies) / impressions.",
        ),
        sa.Column(
            "followers_gained",
            sa.Double(),
            nullable=True,
            comment="Followers gained, by the estimator that is in force.",
        ),
        sa.Column(
            "followers_attributed",
            sa.Double(),
            nullable=True,
            comment="Followers attributed from the account's changes.",
        ),
        sa.Column(
            "followers_variance",
            sa.Double(),
            nullable=True,
            comment="Variance of followers_attributed.",
        ),
        sa.Column(
            "followers_information",
            sa.Double(),
            nullable=True,
            comment="Share of a counted follower's information, 0 to 1.",
        ),
        sa.Column(
            "attributed_as_of",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="End of the window that attributed it.",
        ),
        sa.Column(
            "observed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When the metrics were observed.",
        ),
        sa.Column("source", sa.Text(), nullable=True, comment="Where the metrics came from."),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When this row last changed.",
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "decision_id"],
            ["genopt.content_metadata.account_id", "genopt.content_metadata.decision_id"],
            name=op.f("fk_outcomes_account_id_content_metadata"),
            onupdate="CASCADE",
        ),
        sa.PrimaryKeyConstraint("account_id", "decision_id", name=op.f("pk_outcomes")),
        schema="genopt",
        comment="Latest results of each post.",
    )
    op.create_table(
        "post_export_totals",
        sa.Column(
            "account_id",
            sa.Text(),
            server_default=sa.text("'main'"),
            nullable=False,
            comment="The account.",
        ),
        sa.Column("decision_id", sa.Text(), nullable=False, comment="The post."),
        sa.Column(
            "exported_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the export was made; the totals hold at that time.",
        ),
        sa.Column(
            "impressions",
            sa.BigInteger(),
            nullable=True,
            comment="Times the post was shown. Null: not measured.",
        ),
        sa.Column("likes", sa.BigInteger(), nullable=True, comment="Likes. Null: not measured."),
        sa.Column(
            "retweets", sa.BigInteger(), nullable=True, comment="Reposts. Null: not measured."
        ),
        sa.Column(
            "replies", sa.BigInteger(), nullable=True, comment="Replies. Null: not measured."
        ),
        sa.Column("quotes", sa.BigInteger(), nullable=True, comment="Quotes. Null: not measured."),
        sa.Column(
            "bookmarks", sa.BigInteger(), nullable=True, comment="Bookmarks. Null: not measured."
        ),
        sa.Column(
            "profile_clicks",
            sa.BigInteger(),
            nullable=True,
            comment="Clicks on the author's profile. Null: not measured.",
        ),
        sa.Column(
            "url_clicks",
            sa.BigInteger(),
            nullable=True,
            comment="Clicks on links. Null: not measured.",
        ),
        sa.Column(
            "engagements",
            sa.BigInteger(),
            nullable=True,
            comment="Engagements as the platform counts them. Null: not measured.",
        ),
        sa.Column(
            "platform_follows",
            sa.BigInteger(),
            nullable=True,
            comment="Follows that the platform itself ascribes to the post. Null: not measured.",
        ),
        sa.Column(
            "platform_unfollows",
            sa.BigInteger(),
            nullable=True,
            comment="Unfollows that the platform itself ascribes to the post. Null: not measured.",
        ),
        sa.Column("content_hash", sa.Text(), nullable=False, comment="The file it came from."),
        sa.ForeignKeyConstraint(
            ["account_id", "decision_id"],
            ["genopt.content_metadata.account_id", "genopt.content_metadata.decision_id"],
            name=op.f("fk_post_export_totals_account_id_content_metadata"),
            onupdate="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "account_id", "decision_id", "exported_at", name=op.f("pk_post_export_totals")
        ),
        schema="genopt",
        comment="Totals of posts at the date of an export; not a trajectory.",
    )
    op.create_table(
        "post_followers",
        sa.Column(
            "account_id",
            sa.Text(),
            server_default=sa.text("'main'"),
            nullable=False,
            comment="The account.",
        ),
        sa.Column(
            "window_start",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="Start of the window (UTC, inclusive).",
        ),
        sa.Column(
            "window_end",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="End of the window (UTC, exclusive).",
        ),
        sa.Column("decision_id", sa.Text(), nullable=False, comment="The post."),
        sa.Column(
            "followers",
            sa.Double(),
            nullable=False,
            comment="Share of the window's change credited to the post.",
        ),
        sa.Column("variance", sa.Double(), nullable=False, comment="Variance of that share."),
        sa.Column(
            "followers_to_date",
            sa.Double(),
            nullable=False,
            comment="All shares of the post, as seen at window_end.",
        ),
        sa.Column(
            "variance_to_date",
            sa.Double(),
            nullable=False,
            comment="Variance of followers_to_date.",
        ),
        sa.Column(
            "information",
            sa.Double(),
            nullable=True,
            comment="Share of a counted follower's information, 0 to 1.",
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "decision_id"],
            ["genopt.content_metadata.account_id", "genopt.content_metadata.decision_id"],
            name=op.f("fk_post_followers_account_id_content_metadata"),
            onupdate="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "account_id", "window_start", "decision_id", name=op.f("pk_post_followers")
        ),
        schema="genopt",
        comment="Follower change attributed to posts. With follower_baseline it sums to the delta of the window.",
    )
    op.create_index(
        "ix_post_followers_decision",
        "post_followers",
        ["account_id", "decision_id", "window_end"],
        unique=False,
        schema="genopt",
    )
    op.create_table(
        "post_metric_snapshots",
        sa.Column(
            "account_id",
            sa.Text(),
            server_default=sa.text("'main'"),
            nullable=False,
            comment="The account.",
        ),
        sa.Column("decision_id", sa.Text(), nullable=False, comment="The post."),
        sa.Column(
            "window_start",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="Start of the window that collected it.",
        ),
        sa.Column(
            "observed_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When it was observed.",
        ),
        sa.Column("source", sa.Text(), nullable=False, comment="Where it came from."),
        sa.Column(
            "impressions",
            sa.BigInteger(),
            nullable=True,
            comment="Times the post was shown. Null: not measured.",
        ),
        sa.Column("likes", sa.BigInteger(), nullable=True, comment="Likes. Null: not measured."),
        sa.Column(
            "retweets", sa.BigInteger(), nullable=True, comment="Reposts. Null: not measured."
        ),
        sa.Column(
            "replies", sa.BigInteger(), nullable=True, comment="Replies. Null: not measured."
        ),
        sa.Column("quotes", sa.BigInteger(), nullable=True, comment="Quotes. Null: not measured."),
        sa.Column(
            "bookmarks", sa.BigInteger(), nullable=True, comment="Bookmarks. Null: not measured."
        ),
        sa.Column(
            "profile_clicks",
            sa.BigInteger(),
            nullable=True,
            comment="Clicks on the author's profile. Null: not measured.",
        ),
        sa.Column(
            "url_clicks",
            sa.BigInteger(),
            nullable=True,
            comment="Clicks on links. Null: not measured.",
        ),
        sa.Column(
            "engagements",
            sa.BigInteger(),
            nullable=True,
            comment="Engagements as the platform counts them. Null: not measured.",
        ),
        sa.Column(
            "platform_follows",
            sa.BigInteger(),
            nullable=True,
            comment="Follows that the platform itself ascribes to the post. Null: not measured.",
        ),
        sa.Column(
            "platform_unfollows",
            sa.BigInteger(),
            nullable=True,
            comment="Unfollows that the platform itself ascribes to the post. Null: not measured.",
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "decision_id"],
            ["genopt.content_metadata.account_id", "genopt.content_metadata.decision_id"],
            name=op.f("fk_post_metric_snapshots_account_id_content_metadata"),
            onupdate="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "account_id",
            "decision_id",
            "observed_at",
            "source",
            name=op.f("pk_post_metric_snapshots"),
        ),
        schema="genopt",
        comment="Metric totals of posts as observed; append-only, one partition a month.",
        postgresql_partition_by="RANGE (observed_at)",
    )
    op.create_index(
        "ix_post_metric_snapshots_observed_at",
        "post_metric_snapshots",
        ["account_id", "observed_at"],
        unique=False,
        schema="genopt",
    )
    connection = op.get_bind().execution_options(no_parameters=True)
    connection.exec_driver_sql(FUNCTIONS.read_text(encoding="utf-8"))
    connection.exec_driver_sql(SEED)
    op.get_bind().execution_options(no_parameters=False)


def downgrade() -> None:
    """Undo: remove everything but the schema itself and the table of versions."""
    connection = op.get_bind().execution_options(no_parameters=True)
    connection.exec_driver_sql(REMOVE_ALL)
    op.get_bind().execution_options(no_parameters=False)
