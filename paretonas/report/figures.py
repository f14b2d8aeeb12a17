"""The figures of the report; each is a piece of HTML that needs plotly.js on the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from paretonas._front_figure import COLORS, styled
from paretonas._words import cell, pair_of
from paretonas.front import Front
from paretonas.objectives.calibration import Calibration
from paretonas.point import Cell, Point


def front_figure(front: Front, measured: Sequence[Point]) -> str:
    """The figure of `Front.plot`."""
    return as_html(front.plot(measured), "front", 520)


def hypervolume_figure(history: Sequence[Mapping[str, Cell]]) -> str | None:
    """The hypervolume over the run's seconds, or its steps; None if it was not logged."""
    import plotly.graph_objects as go

    clock = "seconds" if any("seconds" in row for row in history) else "step"
    x, y = series(history, clock, "hypervolume")
    if not x:
        return None
    figure = go.Figure()
    # The volume changes only when a point enters the front: draw steps, not slopes.
    figure.add_scatter(
        x=x, y=y, mode="lines", line={"color": COLORS[1], "width": 2.5, "shape": "hv"}
    )
    figure.update_xaxes(title="seconds since the start" if clock == "seconds" else "step")
    figure.update_yaxes(title="hypervolume")
    figure.update_layout(showlegend=False)
    return as_html(figure, "hypervolume", 340)


def calibration_figure(calibration: Calibration, name: str) -> str:
    """Measured against predicted milliseconds of whole networks, with the interval."""
    import plotly.graph_objects as go

    predicted, measured = calibration.predicted_ms, calibration.measured_ms
    ends = [min(*predicted, *measured), max(*predicted, *measured)]
    figure = go.Figure()
    if calibration.interval is not None:
        low, high = 1 + calibration.interval, max(1e-3, 1 - calibration.interval)
        figure.add_scatter(
            x=[*ends, *ends[::-1]],
            y=[ends[0] / low, ends[1] / low, ends[1] / high, ends[0] / high],
            mode="lines",
            fill="toself",
            fillcolor="rgba(86, 180, 233, 0.15)",
            line={"width": 0},
            hoverinfo="skip",
            name="9 of 10 networks",
        )
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": "#666", "width": 1}, showlegend=False
    )
    figure.add_scatter(
        x=predicted,
        y=measured,
        mode="markers",
        marker={"color": COLORS[0], "size": 8},
        name="networks",
        hovertemplate="predicted %{x:.3f} ms<br>measured %{y:.3f} ms<extra></extra>",
    )
    figure.update_xaxes(title="predicted, ms")
    figure.update_yaxes(title="measured, ms")
    return as_html(figure, name, 380)


def conflict_figure(history: Sequence[Mapping[str, Cell]], objectives: Sequence[str]) -> str | None:
    """The cosines between the objectives' gradients over the steps; None if none was logged."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for color, name in zip(COLORS, cosine_columns(history), strict=False):
        x, y = series(history, "step", name)
        smooth = _running_mean(y, max(1, len(y) // 30))
        if smooth != y:
            figure.add_scatter(
                x=x,
                y=y,
                mode="lines",
                line={"color": color, "width": 1},
                opacity=0.25,
                showlegend=False,
                hoverinfo="skip",
            )
        figure.add_scatter(
            x=x,
            y=smooth,
            mode="lines",
            name=between(name, objectives),
            line={"color": color, "width": 2.5},
            hovertemplate="step %{x}<br>cosine %{y:.2f}",
        )
    if not figure.data:
        return None
    figure.add_hrect(y0=-1.05, y1=0, fillcolor="#D55E00", opacity=0.06, line_width=0)
    figure.add_hline(y=0, line={"color": "#666", "width": 1})
    figure.update_xaxes(title="step")
    figure.update_yaxes(title="cosine", range=[-1.05, 1.05])
    return as_html(figure, "conflict", 380)


def cosine_columns(history: Sequence[Mapping[str, Cell]]) -> list[str]:
    """The columns that hold cosines and are not empty."""
    names = {name for row in history for name in row if name.startswith("cosine_")}
    return [name for name in sorted(names) if series(history, "step", name)[0]]


def between(column: str, objectives: Sequence[str]) -> str:
    """The two objectives whose gradients a column of the history compares.

    >>> between("cosine_error_latency", ["error_percent", "latency_ms"])
    'error and latency'
    """
    pair = pair_of(column.removeprefix("cosine_"), objectives)
    return " and ".join(cell(name.replace("_", " ")) for name in pair)


def series(
    history: Sequence[Mapping[str, Cell]], across: str, up: str
) -> tuple[list[float], list[float]]:
    """The values of two columns, in the rows that have both."""
    pairs = [(row.get(across), row.get(up)) for row in history]
    known = [
        (float(x), float(y))
        for x, y in pairs
        if isinstance(x, (int, float)) and isinstance(y, (int, float)) and math.isfinite(y)
    ]
    return [x for x, _ in known], [y for _, y in known]


def _running_mean(values: list[float], window: int) -> list[float]:
    """The mean of each value and those up to ``window - 1`` before it."""
    parts = [values[max(0, end - window) : end] for end in range(1, len(values) + 1)]
    return [sum(part) / len(part) for part in parts]


def as_html(figure: Any, name: str, height: int) -> str:
    """A figure as a part of a page, in the common style; `height` is in pixels."""
    html: str = styled(figure, height).to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        config={"responsive": True, "displayModeBar": False},
    )
    return html
