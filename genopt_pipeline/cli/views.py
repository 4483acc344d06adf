"""Commands that show: dashboard, history of events, quarantine."""

from typing import Annotated, Any

import typer
from rich.table import Table

from genopt_pipeline.cli import common
from genopt_pipeline.cli.common import AsJson, console
from genopt_pipeline.settings import Settings


def _number(value: Any, form: str) -> str:
    return "–" if value is None else format(float(value), form)


def dashboard_data(settings: Settings) -> dict[str, Any]:
    """Live weights and figures of every generator of the account."""
    from genopt_pipeline.defs.build import make_pipeline
    from genopt_pipeline.store import performance, quarantine
    from genopt_pipeline.store import weights as weight_store

    pipeline = make_pipeline(settings)
    with pipeline.read() as connection:
        live = weight_store.live_weights(connection, settings.account)
        return {
            "account": settings.account,
            "weights_version": live.version,
            "weights_sum": float(sum(row.weight for row in live.generators.values())),
            "estimator": settings.estimator,
            "generators": performance.life_time_table(connection, settings.account),
            "quarantine": quarantine.count_unresolved(connection, settings.account),
            "newest_event": weight_store.recent_events(connection, settings.account, 1)[0],
        }


def show_dashboard(settings: Settings) -> None:
    """Print the dashboard."""
    data = dashboard_data(settings)
    table = Table(title=f"account {data['account']}, weights version {data['weights_version']}")
    for name in ("generator", "status"):
        table.add_column(name)
    for name in ("weight", "posts", "impr.", "followers", "F/1K", "F/1K 7d"):
        table.add_column(name, justify="right")
    for row in data["generators"]:
        table.add_row(
            row["generator_name"],
            row["status"] + (" locked" if row["optimization_locked"] else ""),
            _number(row["weight"], ".4f"),
            str(row["total_posts"]),
            _number(row["total_impressions"], ",.0f"),
            _number(row["total_followers_gained"], ",.1f"),
            _number(row["avg_f_per_1k"], ".3f"),
            _number(row["f_per_1k_7d"], ".3f"),
        )
    console.print(table)


def health(as_json: AsJson = False) -> None:
    """Is the loop healthy, degraded or critical, why, and what to do. Exits 1 if critical."""
    from genopt_pipeline.cli import render
    from genopt_pipeline.defs.build import make_pipeline
    from genopt_pipeline.defs.monitor import account_health

    settings = common.settings()
    report = account_health(make_pipeline(settings), settings.account)
    if as_json:
        common.emit(report.as_dict())
    else:
        console.print(render.health(report))
    if report.status == "critical":
        raise SystemExit(1)


def history(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Events to show.")] = 20,
    as_json: AsJson = False,
) -> None:
    """The newest events: every change of weights, and every decision not to change them."""
    from genopt_pipeline.cli import render
    from genopt_pipeline.defs.build import make_pipeline
    from genopt_pipeline.store import weights as weight_store

    settings = common.settings()
    with make_pipeline(settings).read() as connection:
        weight_store.live_weights(connection, settings.account)  # the account must be registered
        events = weight_store.recent_events(connection, settings.account, limit)
    if as_json:
        common.emit(events)
    else:
        console.print(render.history(events))


def report(as_json: AsJson = False) -> None:
    """Write the HTML report of the account and print where it is."""
    from genopt_pipeline.defs.build import make_pipeline
    from genopt_pipeline.defs.monitor import write_report

    settings = common.settings()
    path = write_report(make_pipeline(settings), settings.account)
    if as_json:
        common.emit({"report": path})
    else:
        console.print(str(path), soft_wrap=True)


def dashboard(as_json: AsJson = False) -> None:
    """Live weights and performance of every generator."""
    settings = common.settings()
    if as_json:
        common.emit(dashboard_data(settings))
    else:
        show_dashboard(settings)
