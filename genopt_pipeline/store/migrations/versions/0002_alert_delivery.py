"""Alerts: whether the beginning and the end of an episode were told, and one episode at a time."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BEFORE = "When the webhook took it."
BEGINNING = "When its beginning was told: to the log, and to the webhook if one is set."
END = "When its end was told, likewise."


def upgrade() -> None:
    """Add the time at which the end was told; refuse a second open episode of an alert."""
    op.add_column(
        "alert_states",
        sa.Column("closing_notified_at", sa.DateTime(timezone=True), nullable=True, comment=END),
        schema="genopt",
    )
    op.alter_column(
        "alert_states",
        "notified_at",
        comment=BEGINNING,
        existing_comment=BEFORE,
        existing_type=sa.DateTime(timezone=True),
        existing_nullable=True,
        schema="genopt",
    )
    op.create_index(
        "ix_alert_states_open",
        "alert_states",
        ["account_id", "alert_key"],
        unique=True,
        postgresql_where=sa.text("closed_at IS NULL"),
        schema="genopt",
    )


def downgrade() -> None:
    """Take both back."""
    op.drop_index("ix_alert_states_open", "alert_states", schema="genopt")
    op.alter_column(
        "alert_states",
        "notified_at",
        comment=BEFORE,
        existing_comment=BEGINNING,
        existing_type=sa.DateTime(timezone=True),
        existing_nullable=True,
        schema="genopt",
    )
    op.drop_column("alert_states", "closing_notified_at", schema="genopt")
