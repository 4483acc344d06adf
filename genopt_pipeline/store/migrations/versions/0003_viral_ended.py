"""The kind of event that says when a viral episode is over."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KNOWN = (
    "event_type IN ('initial_weights', 'weight_update', 'generator_added', "
    "'generator_disabled', 'generator_enabled', 'generator_archived', 'viral_boost', {}"
    "'failure_detected', 'recovered', 'manual_override', 'locked', 'unlocked', 'rollback', "
    "'skipped', 'refused')"
)
NEW = "'viral_ended', "
NAME = "ck_optimization_events_known_event_type"


def upgrade() -> None:
    """Apply."""
    _replace(f"CHECK ({KNOWN.format(NEW)})")


def downgrade() -> None:
    """Undo; events of the new kind stay, since events are never deleted."""
    _replace(f"CHECK ({KNOWN.format('')}) NOT VALID")


def _replace(constraint: str) -> None:
    op.drop_constraint(op.f(NAME), "optimization_events", schema="genopt", type_="check")
    op.execute(f"ALTER TABLE genopt.optimization_events ADD CONSTRAINT {NAME} {constraint}")
