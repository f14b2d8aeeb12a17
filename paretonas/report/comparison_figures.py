"""The figures of a comparison, each a piece of HTML that needs plotly.js on the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paretonas.compare import Comparison
from paretonas.compare.anytime import Curve
from paretonas.compare.summary import TARGETS
from paretonas.report.figures import COLORS, GRAY, as_html
from paretonas.report.words import cell, picks, title

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
    """What each method found with all its seeds, over the reference front, in two objectives."""
    import plotly.graph_objects as go

    vertical, horizontal = comparison.task.columns[:2]
    figure = go.Figure()
    best = _in_their_units(comparison)
    whose = "true front" if comparison.reference.true else "best front of all"
    figure.add_scatter(
        x=best[:, 1].tolist(),
        y=best[:, 0].tolist(),
        mode="markers",
        name=whose,
        marker={"color": GRAY, "size": 15},
        hoverinfo="skip",
    )
    for number, (method, style) in enumerate(_styles(comparison)):
        front = list(comparison.front(method))
        figure.add_scatter(
            x=[point.objectives[horizontal] for point in front],
            y=[point.objectives[vertical] for point in front],
            mode="markers",
            name=escape(method),
            marker={
                "color": style["color"],
                "symbol": f"{_SYMBOLS[number % len(_SYMBOLS)]}-open",
                "size": 8 + 2 * (number % 3),
                "line": {"width": 2},
            },
            hovertext=[
                "<br>".join(
                    [
                        f"<b>{escape(method)}</b>",
                        *(f"{title(name)}: {cell(value)}" for name, value in p.objectives.items()),
                        *picks(p.architecture),
                    ]
                )
                for p in front
            ],
            hoverinfo="text",
        )
    for axis, column in ((figure.update_xaxes, horizontal), (figure.update_yaxes, vertical)):
        positive = column in comparison.task.log and (best > 0).all()
        axis(title=title(column), type="log" if positive else "linear")
    return as_html(figure, "fronts", 520)


def targets_figure(comparison: Comparison) -> str:
    """Evaluations that each method needs for 90, 95, 97 and 99 % of the hypervolume: medians."""
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
    """Where 0 is drawn on a logarithmic axis: just below the smallest other value."""
    positive = values[values > 1e-12]
    return float(positive.min()) / 2 if len(positive) else 1e-3


def _styles(comparison: Comparison) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, method in enumerate(comparison.methods):
        dash = _DASHES[number // len(COLORS) % len(_DASHES)]
        yield method, {"color": COLORS[number % len(COLORS)], "dash": dash}


def _in_their_units(comparison: Comparison) -> Array:
    """The reference front as it was before logarithms and scaling."""
    task, reference = comparison.task, comparison.reference
    costs = reference.low + reference.front * (reference.high - reference.low)
    for index, column in enumerate(task.columns):
        if column in task.log:
            negated = column.startswith("minus_")  # a gain: its cost was -log(gain)
            costs[:, index] = -np.exp(-costs[:, index]) if negated else np.exp(costs[:, index])
    return costs
