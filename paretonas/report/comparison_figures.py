"""The figures of a comparison; each is a piece of HTML that needs plotly.js on the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paretonas._front_figure import COLORS, GRAY
from paretonas._words import cell, picks
from paretonas.compare import Comparison
from paretonas.compare.anytime import Curve
from paretonas.compare.summary import TARGETS
from paretonas.point import Point
from paretonas.report.figures import as_html
from paretonas.report.objectives import quality_first, shown_objectives
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

    The quality is drawn against every other objective, in one figure each. A maximized objective
    has the user's name and sign.
    """
    from plotly.subplots import make_subplots

    quality, *others = quality_first(shown_objectives(comparison.problem.objectives))
    wide = min(2, len(others))
    high = -(-len(others) // wide)
    figure = make_subplots(high, wide, horizontal_spacing=0.12, vertical_spacing=0.18 / high)
    best = _in_their_units(comparison)
    fronts = {method: list(comparison.front(method)) for method in comparison.methods}
    whose = "true front" if comparison.reference.true else "best front of all"
    for number, other in enumerate(others):
        place = {"row": number // wide + 1, "col": number % wide + 1}
        figure.add_scatter(
            x=best[other.column].tolist(),
            y=best[quality.column].tolist(),
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
                x=[other.value(point.objectives[other.column]) for point in fronts[method]],
                y=[quality.value(point.objectives[quality.column]) for point in fronts[method]],
                mode="markers",
                name=escape(method),
                legendgroup=method,
                showlegend=number == 0,
                marker=style,
                hovertext=[_hover(comparison, method, point) for point in fronts[method]],
                hoverinfo="text",
                **place,
            )
        for axis, shown in ((figure.update_xaxes, other), (figure.update_yaxes, quality)):
            positive = shown.column in comparison.problem.log and (best[shown.column] > 0).all()
            words = f"{shown.title}, {shown.better} is better"
            axis(title=words, type="log" if positive else "linear", **place)
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


def _hover(comparison: Comparison, method: str, point: Point) -> str:
    found = (
        f"{shown.title}: {cell(shown.value(point.objectives[shown.column]))}"
        for shown in shown_objectives(comparison.problem.objectives)
    )
    return "<br>".join([f"<b>{escape(method)}</b>", *found, *picks(point.architecture)])


def _in_their_units(comparison: Comparison) -> dict[str, Array]:
    """The reference front in the user's values, before logarithms, scaling and signs."""
    problem, reference = comparison.problem, comparison.reference
    costs = reference.low + reference.front * (reference.high - reference.low)
    measured = {}
    for shown, column in zip(shown_objectives(problem.objectives), costs.T, strict=True):
        if shown.column in problem.log:
            negative = _is_negative(comparison, shown.column)  # its logarithm was -log(-cost)
            column = -np.exp(-column) if negative else np.exp(column)
        measured[shown.column] = 0.0 - column if shown.maximized else column
    return measured


def _is_negative(comparison: Comparison, column: str) -> bool:
    """Whether a cost on a log scale is negative; then all its values are."""
    space = comparison.problem.space
    if isinstance(space, Table) and column in space.columns:
        return bool((space.costs[space.allowed, space.columns.index(column)] < 0).all())
    outcomes = (outcome for record in comparison.records.values() for outcome in record.outcomes)
    return all(o.objectives[column] < 0 for o in outcomes if isinstance(o, Point))
