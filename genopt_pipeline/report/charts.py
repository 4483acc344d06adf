"""The charts of the report, as plotly figures.

What belongs here: frames in, figures out, for the HTML report and for notebooks. Every figure says
in its title what it shows and in its axes the units. Unknown values are gaps, never zeros; frames
without rows give a figure that says so.
"""

import itertools
import math
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

#: Twelve colours that stay apart on white, also for the colour-blind when neighbours differ.
LINE_COLOURS: Final = (
    "#4477aa",
    "#ee6677",
    "#228833",
    "#b8860b",
    "#009e9e",
    "#aa3377",
    "#555555",
    "#e07b00",
    "#332288",
    "#88aa00",
    "#882255",
    "#117733",
)

#: Small multiples beyond this many generators are too small to read; the table has the rest.
MOST_PANELS: Final = 24
_PANELS_A_ROW: Final = 4
_FONT: Final = {"family": "system-ui, sans-serif", "size": 13, "color": "#222"}


def f_per_1k_over_time(history: pd.DataFrame) -> go.Figure:
    """Return a panel a generator: F/1K of each period with its 90 % interval.

    Parameters
    ----------
    history
        period_end, generator_name, f_per_1k, f_per_1k_low, f_per_1k_high; a row a period and
        generator. All panels have one scale, up to 1.6 times the highest F/1K, so that one wild
        interval does not flatten the rest. Beyond ``MOST_PANELS`` generators those
        with the highest latest F/1K are shown, and the title says so.
    """
    known = history[history["f_per_1k"].notna()]
    if known.empty:
        return _empty("F/1K over time", "no generator has measured posts yet")
    latest = known.sort_values("period_end").groupby("generator_name")["f_per_1k"].last()
    order = sorted(latest.index, key=lambda name: (-latest[name], name))
    names = order[:MOST_PANELS]
    rows = math.ceil(len(names) / _PANELS_A_ROW)
    figure = make_subplots(
        rows=rows,
        cols=_PANELS_A_ROW,
        shared_xaxes=True,
        shared_yaxes=True,
        subplot_titles=[_text(name) for name in names],
        vertical_spacing=min(0.35 / rows, 0.16),
        horizontal_spacing=0.03,
    )
    for index, name in enumerate(names):
        one = history[history["generator_name"] == name].sort_values("period_end")
        place: dict[str, Any] = {
            "row": index // _PANELS_A_ROW + 1,
            "col": index % _PANELS_A_ROW + 1,
        }
        colour = LINE_COLOURS[index % len(LINE_COLOURS)]
        times = _times(one["period_end"])
        bounded = one[one["f_per_1k_low"].notna() & one["f_per_1k_high"].notna()]
        ends = _times(bounded["period_end"])
        figure.add_trace(
            go.Scatter(
                x=ends + ends[::-1],
                y=[*bounded["f_per_1k_high"], *bounded["f_per_1k_low"][::-1]],
                fill="toself",
                fillcolor=colour,
                opacity=0.2,
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
            ),
            **place,
        )
        figure.add_trace(
            go.Scatter(
                x=times,
                y=_values(one["f_per_1k"]),
                mode="lines+markers" if len(one) < 3 else "lines",
                line={"color": colour, "width": 2},
                name=_text(name),
                showlegend=False,
                hovertemplate="%{x|%Y-%m-%d %H:%M}<br>F/1K %{y:.3g}",
            ),
            **place,
        )
    top = 1.6 * float(known["f_per_1k"].max())
    bottom = min(0.0, 1.6 * float(known["f_per_1k"].min()))
    figure.update_yaxes(range=[bottom, top if top > bottom else 1.0])
    _make_room(figure, known["period_end"])
    left_out = len(order) - len(names)
    return _styled(
        figure,
        "F/1K over time by generator, with 90 % intervals"
        + (f" (the {MOST_PANELS} highest of {len(order)})" if left_out else ""),
        height=130 + 150 * rows,
    )


def weights_over_time(weights: pd.DataFrame) -> go.Figure:
    """Return the weights in force as stacked steps.

    Parameters
    ----------
    weights
        effective_at, generator_name, weight; all generators at every change.
    """
    if weights.empty:
        return _empty("Weights in force", "no weights have been published yet")
    wide = weights.pivot_table(
        index="effective_at", columns="generator_name", values="weight", aggfunc="last"
    ).sort_index()
    figure = go.Figure()
    # A generator that was not registered yet had no weight: zero is the fact here.
    filled = wide.fillna(0.0)
    for index, name in enumerate(filled.columns):
        figure.add_trace(
            go.Scatter(
                x=_times(filled.index.to_series()),
                y=filled[name].tolist(),
                name=_text(name),
                stackgroup="weights",
                mode="lines",
                line={"width": 0.5, "shape": "hv", "color": LINE_COLOURS[index % 12]},
                hovertemplate="%{y:.1%}",
            )
        )
    figure.update_yaxes(range=[0, 1], tickformat=".0%", title="probability of being drawn")
    figure.update_layout(hovermode="x unified", legend={"traceorder": "reversed"})
    _make_room(figure, weights["effective_at"])
    return _styled(figure, "Weights in force", height=420)


def posts_against_weights(draws: pd.DataFrame) -> go.Figure:
    """Return the posts of each generator beside those that its weights called for.

    Parameters
    ----------
    draws
        generator_name, posts, expected: posts whose draw is known, and the sum over them of the
        probability that the generator had when each was drawn. Not the weights of now: those were
        in force for none of these posts.
    """
    if draws.empty:
        return _empty(
            "Posts against weights", "of no post in the period is it known how it was drawn"
        )
    labels = [_text(name) for name in draws["generator_name"]]
    figure = go.Figure(
        [
            go.Bar(
                x=labels,
                y=draws["posts"].tolist(),
                name="posts",
                marker_color=LINE_COLOURS[0],
            ),
            go.Bar(
                x=labels,
                y=draws["expected"].tolist(),
                name="called for by the weights when they were drawn",
                marker_color=LINE_COLOURS[7],
            ),
        ]
    )
    figure.update_yaxes(rangemode="tozero", tickformat=",.0f", title="posts")
    figure.update_layout(barmode="group", hovermode="x unified")
    return _styled(figure, "Posts against the weights that drew them", height=380)


def attribution_over_time(windows: pd.DataFrame) -> go.Figure:
    """Return the followers credited to posts and to the baseline in each window.

    Parameters
    ----------
    windows
        window_start, posts, baseline: followers credited; the two add up to the account's change.
        The baseline is organic growth less unfollows and can be negative.
    """
    if windows.empty:
        return _empty("Where followers came from", "no follower change has been attributed yet")
    times = _times(windows["window_start"])
    figure = go.Figure(
        [
            go.Bar(
                x=times,
                y=_values(windows["posts"]),
                name="posts",
                marker_color=LINE_COLOURS[0],
            ),
            go.Bar(
                x=times,
                y=_values(windows["baseline"]),
                name="baseline (organic less unfollows)",
                marker_color="#b0b0b0",
            ),
        ]
    )
    figure.update_layout(barmode="relative", hovermode="x unified")
    figure.update_yaxes(title="followers a window")
    _make_room(figure, windows["window_start"])
    return _styled(figure, "Where followers came from", height=360)


def captured_over_time(results: pd.DataFrame) -> go.Figure:
    """Return the share of the possible gain that each policy captured by each day, by world.

    Parameters
    ----------
    results
        world, policy, day, captured, low, high: the frame of ``sandbox.simulate``, without worlds
        in which there is nothing to capture.
    """
    known = results[results["captured"].notna()]
    if known.empty:
        return _empty("Share captured", "in these worlds there is nothing to capture")
    worlds = list(dict.fromkeys(known["world"]))
    columns = min(len(worlds), 3)
    rows = math.ceil(len(worlds) / columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        shared_yaxes=True,
        subplot_titles=[_text(world) for world in worlds],
        vertical_spacing=min(0.35 / rows, 0.16),
        horizontal_spacing=0.04,
    )
    policies = list(dict.fromkeys(known["policy"]))
    for index, (world, policy) in enumerate(itertools.product(worlds, policies)):
        one = known[(known["world"] == world) & (known["policy"] == policy)].sort_values("day")
        position, number = divmod(index, len(policies))
        place: dict[str, Any] = {"row": position // columns + 1, "col": position % columns + 1}
        colour = LINE_COLOURS[number % len(LINE_COLOURS)]
        days = one["day"].tolist()
        figure.add_trace(
            go.Scatter(
                x=days + days[::-1],
                y=[*one["high"], *one["low"][::-1]],
                fill="toself",
                fillcolor=colour,
                opacity=0.15,
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
                legendgroup=policy,
            ),
            **place,
        )
        figure.add_trace(
            go.Scatter(
                x=days,
                y=_values(one["captured"]),
                mode="lines",
                line={"color": colour, "width": 2},
                name=_text(policy),
                legendgroup=policy,
                showlegend=position == 0,
                hovertemplate="day %{x}: %{y:.2f}",
            ),
            **place,
        )
    # the first days are noise about nothing: they must not set the scale
    figure.update_yaxes(range=[-0.3, 1.1], tickformat=".0%")
    figure.update_xaxes(title="day")
    return _styled(
        figure,
        "Share of the gap between equal weights and the oracle, from the start to each day",
        height=140 + 260 * rows,
    )


def _styled(figure: go.Figure, title: str, *, height: int) -> go.Figure:
    figure.update_layout(
        title={"text": title, "x": 0, "xanchor": "left", "font": {"size": 16}},
        template="plotly_white",
        font=_FONT,
        height=height,
        margin={"l": 60, "r": 20, "t": 70, "b": 40},
        colorway=list(LINE_COLOURS),
    )
    figure.update_annotations(font_size=12)
    return figure


def _empty(title: str, reason: str) -> go.Figure:
    figure = go.Figure()
    figure.add_annotation(
        text=reason, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper", font={"size": 14}
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return _styled(figure, title, height=200)


def _text(value: object) -> str:
    """Plotly reads a little HTML in labels; a name has none."""
    return str(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _make_room(figure: go.Figure, column: "pd.Series[Any]") -> None:
    """Give a single time a day around it; plotly's axis would be fractions of a millisecond."""
    times = pd.to_datetime(column, utc=True)
    if times.nunique() == 1:
        room = pd.Timedelta(hours=12)
        figure.update_xaxes(
            range=[(times.iloc[0] - room).isoformat(), (times.iloc[0] + room).isoformat()]
        )


def _times(column: "pd.Series[Any]") -> list[str]:
    return [time.isoformat() for time in pd.to_datetime(column, utc=True)]


def _values(column: "pd.Series[Any]") -> list[float | None]:
    return [None if pd.isna(value) else float(value) for value in column]
