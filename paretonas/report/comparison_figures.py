"""The figures of a comparison; each is a piece of HTML that needs plotly.js on the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paretonas._front_figure import COLORS, GRAY
from paretonas._words import axis, cell, picks, title
from paretonas.compare import Comparison
from paretonas.compare.anytime import Curve
from paretonas.compare.summary import TARGETS
from paretonas.direction import turned
from paretonas.front import quality
from paretonas.objectives.base import AnyObjective, maximizes
from paretonas.point import Point
from paretonas.report.figures import as_html
from paretonas.table import Table

Array = NDArray[np.float64]

_DASHES = ("solid", "dash", "dot")  # for more methods than colors
_SYMBOLS = ("circle", "diamond", "square", "cross", "x", "triangle-up")


def regret_figure(comparison: Comparison) -> str:
    """The share of hypervolume that is missing, by evaluation: median and quartiles over seeds."""
    return _anytime(
        comparison, lambda curve: 1 - curve.fraction, "regret", "hypervolume regret", "%"
    )


def distance_figure(comparison: Comparison) -> str:
    """IGD+ by evaluation: median and quartiles over seeds."""
    return _anytime(comparison, lambda curve: curve.igd_plus, "distance", "IGD+", "")


def fronts_figure(comparison: Comparison) -> str:
    """The front of each method over all its seeds, and the reference front.

    The quality, or the first objective if there is none, is drawn against every other objective,
    in one figure each.
    """
    from plotly.subplots import make_subplots

    columns, maximize = comparison.problem.columns, comparison.problem.maximize
    up = quality(columns, maximize) or columns[0]
    others = [column for column in columns if column != up]
    wide = min(2, len(others))
    high = -(-len(others) // wide)
    figure = make_subplots(high, wide, horizontal_spacing=0.12, vertical_spacing=0.18 / high)
    best = _in_their_units(comparison)
    fronts = {method: list(comparison.front(method)) for method in comparison.methods}
    whose = "true front" if comparison.reference.true else "best front of all"
    for number, other in enumerate(others):
        place = {"row": number // wide + 1, "col": number % wide + 1}
        figure.add_scatter(
            x=best[other].tolist(),
            y=best[up].tolist(),
            mode="markers",
            name=whose,
            legendgroup=whose,
            showlegend=number == 0,
            marker={"color": GRAY, "size": 15},
            hoverinfo="skip",
            **place,
        )
        for method, style in _markers(comparison):
            figure.add_scatter(
                x=[point.objectives[other] for point in fronts[method]],
                y=[point.objectives[up] for point in fronts[method]],
                mode="markers",
                name=escape(method),
                legendgroup=method,
                showlegend=number == 0,
                marker=style,
                hovertext=[_hover(method, point) for point in fronts[method]],
                hoverinfo="text",
                **place,
            )
        for update, column in ((figure.update_xaxes, other), (figure.update_yaxes, up)):
            positive = column in comparison.problem.log and (best[column] > 0).all()
            scale = "log" if positive else "linear"
            update(title=axis(column, column in maximize), type=scale, **place)
    return as_html(figure, "fronts", 520 if len(others) == 1 else 100 + 400 * high)


def targets_figure(comparison: Comparison) -> str:
    """The median evaluations that each method needs for 90, 95, 97 and 99 % of the hypervolume."""
    import plotly.graph_objects as go

    found = {(r.method, r.measure, r.statistic): r.value for r in comparison.summary}
    figure = go.Figure()
    for method, style in _styles(comparison):
        needed, reached = [], []
        for percent in TARGETS:
            measure = f"evaluations_to_{percent}_percent"
            needed.append(found[method, measure, "median"])
            reached.append(int(found[method, measure, "seeds_reached"] or 0))
        figure.add_bar(
            x=[f"{percent} %" for percent in TARGETS],
            y=needed,
            name=escape(method),
            marker={"color": style["color"]},
            text=["" if n is None else f"{n:g}" for n in needed],
            textposition="outside",
            cliponaxis=False,
            hovertext=[f"{escape(method)}: {n} of {comparison.seeds} seeds" for n in reached],
            hoverinfo="text",
        )
    figure.update_xaxes(title="share of the hypervolume", type="category")
    figure.update_yaxes(title="evaluations", range=[0, 1.1 * comparison.budget])
    figure.update_layout(barmode="group")
    return as_html(figure, "targets", 380)


def _anytime(
    comparison: Comparison, value: Callable[[Curve], Array], name: str, label: str, unit: str
) -> str:
    import plotly.graph_objects as go

    x = list(range(1, comparison.budget + 1))
    runs = {
        method: np.array(
            [value(curve) for (m, _), curve in comparison.curves.items() if m == method]
        )
        for method in comparison.methods
    }
    floor = _floor(np.concatenate([found.ravel() for found in runs.values() if len(found)]))
    figure = go.Figure()
    for method, style in _styles(comparison):
        if not len(runs[method]):
            continue
        low, middle, high = np.maximum(np.percentile(runs[method], [25, 50, 75], axis=0), floor)
        edge = {
            "x": x,
            "mode": "lines",
            "line": {"width": 0, "shape": "hv"},
            "legendgroup": method,
            "showlegend": False,
            "hoverinfo": "skip",
        }
        figure.add_scatter(y=low.tolist(), **edge)
        band = _faint(style["color"])
        figure.add_scatter(y=high.tolist(), fill="tonexty", fillcolor=band, **edge)
        figure.add_scatter(
            x=x,
            y=middle.tolist(),
            mode="lines",
            name=escape(method),
            legendgroup=method,
            line={**style, "width": 2.5, "shape": "hv"},
            hovertemplate=f"{escape(method)} after %{{x}}: %{{y:.3g}}<extra></extra>",
        )
    figure.update_xaxes(title="evaluations", range=[0, comparison.budget])
    ticks = [digit * 10.0**power for power in range(-9, 2) for digit in (1, 2, 5)]
    scale = 100 if unit == "%" else 1
    figure.update_yaxes(
        title=label,
        type="log",
        tickvals=ticks,
        ticktext=[f"{scale * tick:.6g} {unit}".strip() for tick in ticks],
    )
    return as_html(figure, name, 440)


def _faint(color: str) -> str:
    red, green, blue = (int(color[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.15)"


def _floor(values: Array) -> float:
    """The position of 0 on a logarithmic axis: just below the smallest other value."""
    positive = values[values > 1e-12]
    return float(positive.min()) / 2 if len(positive) else 1e-3


def _styles(comparison: Comparison) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, method in enumerate(comparison.methods):
        dash = _DASHES[number // len(COLORS) % len(_DASHES)]
        yield method, {"color": COLORS[number % len(COLORS)], "dash": dash}


def _markers(comparison: Comparison) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, (method, style) in enumerate(_styles(comparison)):
        yield (
            method,
            {
                "color": style["color"],
                "symbol": f"{_SYMBOLS[number % len(_SYMBOLS)]}-open",
                "size": 8 + 2 * (number % 3),
                "line": {"width": 2},
            },
        )


def _hover(method: str, point: Point) -> str:
    found = (f"{title(name)}: {cell(value)}" for name, value in point.objectives.items())
    return "<br>".join([f"<b>{escape(method)}</b>", *found, *picks(point.architecture)])


def _in_their_units(comparison: Comparison) -> dict[str, Array]:
    """The reference front in the user's values: without logarithms, scaling and signs of costs."""
    problem, reference = comparison.problem, comparison.reference
    costs = reference.low + reference.front * (reference.high - reference.low)
    values = {}
    for objective, column in zip(problem.objectives, costs.T, strict=True):
        if objective.column in problem.log:
            sign = _sign(comparison, objective)
            column = sign * np.exp(sign * column)
        values[objective.column] = turned(column, maximizes(objective))
    return values


def _sign(comparison: Comparison, objective: AnyObjective) -> int:
    """The sign of the costs of an objective on a log scale, which is the same for all of them."""
    space, column = comparison.problem.space, objective.column
    if isinstance(space, Table) and column in space.columns:
        values = space.costs[space.allowed, space.columns.index(column)]
        return int(np.sign(values[0]))
    outcomes = (outcome for record in comparison.records.values() for outcome in record.outcomes)
    value = next(o.objectives[column] for o in outcomes if isinstance(o, Point))
    return int(np.sign(turned(value, maximizes(objective))))
