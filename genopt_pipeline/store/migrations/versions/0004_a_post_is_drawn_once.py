"""The draw of a post is recorded once; a correction is an event of its own kind."""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SQL = Path(__file__).parent.parent / "sql"

KNOWN = (
    "event_type IN ('initial_weights', 'weight_update', 'generator_added', "
    "'generator_disabled', 'generator_enabled', 'generator_archived', 'viral_boost', "
    "'viral_ended', 'failure_detected', 'recovered', 'manual_override', 'locked', 'unlocked', "
    "'rollback', 'skipped', 'refused'{})"
)
NEW = ", 'post_corrected'"
NAME = "ck_optimization_events_known_event_type"


def upgrade() -> None:
    """Apply."""
    _run((SQL / "0004_record_post.sql").read_text(encoding="utf-8"))
    _replace(f"CHECK ({KNOWN.format(NEW)})")


def downgrade() -> None:
    """Undo; events of the new kind stay, since events are never deleted."""
    first = (SQL / "0001_functions.sql").read_text(encoding="utf-8")
    begin = first.index("CREATE FUNCTION genopt.record_post(")
    end = first.index("END $$;", begin) + len("END $$;")
    _run(first[begin:end].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1))
    _replace(f"CHECK ({KNOWN.format('')}) NOT VALID")


def _run(sql: str) -> None:
    connection = op.get_bind().execution_options(no_parameters=True)
    connection.exec_driver_sql(sql)
    op.get_bind().execution_options(no_parameters=False)


def _replace(constraint: str) -> None:
    op.drop_constraint(op.f(NAME), "optimization_events", schema="genopt", type_="check")
    op.execute(f"ALTER TABLE genopt.optimization_events ADD CONSTRAINT {NAME} {constraint}")
