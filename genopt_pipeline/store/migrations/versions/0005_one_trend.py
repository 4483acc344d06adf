"""The summary shows the tested trend of the tables, not a rule of its own, and rounded figures."""

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    """Apply."""
    _run((SQL / "0005_performance_summary.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Undo."""
    first = (SQL / "0001_functions.sql").read_text(encoding="utf-8")
    begin = first.index("CREATE VIEW genopt.generator_performance_summary")
    comment = first.index("COMMENT ON VIEW genopt.generator_performance_summary")
    end = first.index(";", comment) + 1
    _run(first[begin:end].replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1))


def _run(sql: str) -> None:
    connection = op.get_bind().execution_options(no_parameters=True)
    connection.exec_driver_sql(sql)
    op.get_bind().execution_options(no_parameters=False)
