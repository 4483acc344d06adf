"""Commands that show: dashboard, one generator, history of events, the report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genopt_pipeline.cli import common
from genopt_pipeline.cli.common import AsJson, console
from genopt_pipeline.report.markdown import UNKNOWN, between, rate
from genopt_pipeline.settings import Settings

if TYPE_CHECKING:
    from genopt_pipeline.cli import render
    from genopt_pipeline.core.appraisal import Appraisal


def dashboard_data(settings: Settings) -> dict[str, Any]:
    """All that the dashboard shows of the account, as JSON values and times."""
    return _dashboard(settings)[0]


def _dashboard(settings: Settings) -> tuple[dict[str, Any], "render.DashboardView"]:
    from genopt_pipeline.cli import render
    from genopt_pipeline.core import performance as tables
    from genopt_pipeline.defs import evaluation, explain, steps
    from genopt_pipeline.defs.alerting import current_alerts
    from genopt_pipeline.defs.build import make_pipeline
    from genopt_pipeline.store import performance, quarantine
    from genopt_pipeline.store import weights as weight_store

    pipeline = make_pipeline(settings)
    now, account = pipeline.now(), settings.account
    with pipeline.read() as connection:
        live = weight_store.live_weights(connection, account)
        generators = performance.life_time_table(connection, account)
        table, history, period, as_of = explain.newest_figures(connection, account, settings, now)
        found, _ = evaluation.newest_appraisal(connection, account, settings, now)
        quarantined = quarantine.count_unresolved(connection, account)
        event = weight_store.recent_events(connection, account, 1)[0]
    alerts_now = current_alerts(pipeline, account)
    health, alerts = alerts_now.health, [item.as_dict() for item in alerts_now.open]
    rows = {row["generator_name"]: row for row in steps.records(table)}
    best = tables.performers(table)
    totals = tables.account_totals(table)
    top = (best.top, best.top_f_per_1k)
    bottom = (best.bottom, best.bottom_f_per_1k)
    data = {
        "account": account,
        "simulated": settings.source == "sandbox",
        "as_of": as_of,
        "period": period,
        "weights_version": live.version,
        "weights_sum": float(sum(row.weight for row in live.generators.values())),
        "estimator": settings.estimator,
        "totals": asdict(totals),
        "top_performer": best.top,
        "top_performer_f_per_1k": best.top_f_per_1k,
        "bottom_performer": best.bottom,
        "bottom_performer_f_per_1k": best.bottom_f_per_1k,
        "generators": [
            {**row, "performance": rows.get(row["generator_name"])} for row in generators
        ],
        "health": health.as_dict(),
        "alerts": alerts,
        "appraisal": found.to_dict(),
        "quarantine": quarantined,
        "newest_event": event,
    }
    view = render.DashboardView(
        account=account,
        as_of=as_of,
        weights_version=live.version,
        period=period,
        estimator=settings.estimator,
        generators=[
            _line(
                row,
                rows.get(row["generator_name"], {}),
                explain.over_time(history, row["generator_name"], render.SPARKLINE),
            )
            for row in generators
        ],
        posts_count=totals.posts_count,
        impressions=totals.impressions,
        followers_gained=totals.followers_gained,
        f_per_1k=totals.f_per_1k,
        alerts=alerts,
        latest_event=event,
        quarantined=sum(quarantined.values()),
        top=None if top[0] is None or top[1] is None else (top[0], top[1]),
        bottom=None if bottom[0] is None or bottom[1] is None else (bottom[0], bottom[1]),
        health=health,
        appraisal=found,
        simulated=settings.source == "sandbox",
    )
    return data, view


def _line(
    row: Mapping[str, Any], figures: Mapping[str, Any], history: Sequence[float | None]
) -> "render.GeneratorLine":
    from genopt_pipeline.cli import render

    return render.GeneratorLine(
        generator_name=row["generator_name"],
        weight=float(row["weight"]),
        status=row["status"],
        locked=row["optimization_locked"],
        posts_count=figures.get("posts_count"),
        f_per_1k=figures.get("f_per_1k"),
        f_per_1k_low=figures.get("f_per_1k_low"),
        f_per_1k_high=figures.get("f_per_1k_high"),
        tier=figures.get("tier"),
        relative_tier=figures.get("relative_tier"),
        rank=figures.get("rank"),
        trend=figures.get("trend"),
        engagement_rate=figures.get("engagement_rate"),
        viral_posts=figures.get("viral_posts"),
        failed_posts=figures.get("failed_posts"),
        history=history,
        total_posts=row["total_posts"],
        total_impressions=row["total_impressions"],
        total_f_per_1k=row["avg_f_per_1k"],
    )


def show_dashboard(settings: Settings) -> None:
    """Print the dashboard."""
    from genopt_pipeline.cli import render

    console.print(render.dashboard(_dashboard(settings)[1]))


def explain(
    generator: Annotated[
        str, typer.Argument(help="A generator, in any spelling that is an alias of it.")
    ],
    posts: Annotated[int, typer.Option(min=0, max=10_000, help="Newest posts to list.")] = 15,
    as_json: AsJson = False,
) -> None:
    """Everything about one generator: its figures, why its weight is what it is, its posts."""
    from genopt_pipeline.cli import render
    from genopt_pipeline.defs.build import make_pipeline
    from genopt_pipeline.defs.explain import explain_generator

    settings = common.settings()
    pipeline = make_pipeline(settings)
    with pipeline.read() as connection:
        found, worth = explain_generator(
            connection, settings.account, settings, generator, now=pipeline.now()
        )
    if as_json:
        common.emit(found)
    else:
        console.print(render.explain(_explain_view(found, posts, worth)))


_GUARDS = {
    "gate": "the gate: the weights stay",
    "not_drawn": "not drawn",
    "lock": "the lock",
    "floor": "the floor of {floor:.4g}",
    "cap": "the cap of {cap:.4g}",
    "room": "room for the floor or the cap of others",
    "step": "the step: {step:.0%} of the way to the target",
    "none": "none: it is where the policy wants it",
}


def _explain_view(
    found: Mapping[str, Any], most_posts: int, worth: "Appraisal"
) -> "render.ExplainView":
    from genopt_pipeline.cli import render

    state = found["status"] + (", locked" if found["locked"] else "")
    facts: dict[str, Any] = {
        "weight": f"{found['weight']:.4f} (version {found['weights_version']}), {state}",
        "also spelled": ", ".join(found["aliases"]) or UNKNOWN,
    }
    if found["simulated"]:
        facts["note"] = render.SIMULATED_ACCOUNT
    ever = found["life_time"]
    facts["life-time"] = (
        f"{ever['total_posts']:,d} posts, {render.number(ever['total_impressions'], ',d')} impr., "
        f"{render.number(ever['total_followers_gained'], ',.1f')} followers, F/1K "
        f"{rate(ever['avg_f_per_1k'])}"
    )
    if ever["notes"]:
        facts["note of the last change"] = ever["notes"]
    reasons = []
    decision = found["decision"]
    if decision is None:
        reasons.append(found["undecided"])
    else:
        engine = decision["engine"] or {}
        facts |= {
            "window": f"{decision['window_start']:%Y-%m-%d %H:%M} to "
            f"{decision['window_end']:%Y-%m-%d %H:%M} UTC, {decision['decision']}",
            decision["policy"]: f"weight {decision['weight_before']:.4f} → "
            f"{render.number(decision['weight_after'], '.4f')}, target "
            f"{render.number(decision['target'], '.4f')}",
            "decided by": _GUARDS[decision["guard"]].format(**decision["guard_settings"]),
            "P(best)": render.number(engine.get("p_best"), ".3f"),
            "P(rate changed)": render.number(engine.get("p_change"), ".2f"),
            "F/1K, shrunk": f"{rate(engine.get('f_per_1k'))} (90 % "
            f"{between(engine.get('f_per_1k_low'), engine.get('f_per_1k_high'))}), "
            f"{render.number(engine.get('posts'), 'd')} posts",
        }
        reasons.append(f"{decision['policy']}: {decision['explanation']}")
        if decision["reason"]:
            reasons.append(decision["reason"])
        shadow = decision["shadow"]
        if shadow is not None:
            facts[f"shadow, {shadow['policy']}"] = (
                f"weight {render.number(shadow['weight'], '.4f')}, target "
                f"{render.number(shadow['target'], '.4f')}"
            )
            reasons.append(f"{shadow['policy']}: {shadow['explanation']}")
    changes = [*found["weight_history"], *found["findings"]]
    changes.sort(key=lambda change: change["effective_at"], reverse=True)
    return render.ExplainView(
        generator_name=found["generator"],
        facts=facts,
        reasons=reasons,
        f_per_1k_history=found["f_per_1k_history"],
        weight_history=[change["new_weight"] for change in found["weight_history"]],
        changes=[
            {
                **change,
                "reason": f"{change['event_type'].replace('_', ' ')}: {change['reason'] or ''}",
            }
            for change in changes[:20]
        ],
        lookbacks=found["lookbacks"],
        posts=found["posts"][:most_posts],
        posts_left_out=max(len(found["posts"]) - most_posts, 0),
        posts_days=found["posts_days"],
        appraisal=worth,
    )


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
        raise common.CommandError(f"account {settings.account!r} is critical: {report.reasons[0]}")


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
    from genopt_pipeline.defs.reporting import report_data, write_report

    settings = common.settings()
    pipeline = make_pipeline(settings)
    path = write_report(pipeline, report_data(pipeline, settings.account))
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
