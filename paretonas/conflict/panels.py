"""The panels of the figure of a record; each is drawn into one row of the figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paretonas.conflict.measures import length_shares
from paretonas.conflict.tables import STATES, codes, pair_names

if TYPE_CHECKING:
    from paretonas.conflict.recorder import Recorder

# Colors that color-blind people can distinguish (Okabe and Ito 2008).
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_STATE_COLORS = {"conflict": "#D55E00", "orthogonal": "#d9dde2", "synergy": "#0072B2"}
_DIVERGING = [[0.0, "#D55E00"], [0.5, "#ffffff"], [1.0, "#0072B2"]]
_CONFLICT = [[0.0, "#ffffff"], [0.5, "#f0a36b"], [1.0, "#a63d00"]]
_BINS = 120  # largest number of columns; a longer record is averaged over intervals of steps


class Times:
    """At most ``_BINS`` intervals of steps, of about equal length."""

    def __init__(self, steps: np.ndarray) -> None:
        distinct, which = np.unique(steps, return_inverse=True)
        self.count = min(len(distinct), _BINS)
        self.exact = self.count == len(distinct)
        place = which * self.count // len(distinct)
        self._order = np.argsort(place, kind="stable")
        self._starts = np.searchsorted(place[self._order], np.arange(self.count))
        self._sizes = np.bincount(place, minlength=self.count)
        self.steps = self.mean(steps.astype(float))

    def mean(self, values: np.ndarray) -> np.ndarray:
        sums = np.add.reduceat(values[self._order], self._starts, axis=0)
        return np.asarray(sums / self._sizes.reshape(-1, *[1] * (values.ndim - 1)))

    def span(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ordered = values[self._order]
        low = np.minimum.reduceat(ordered, self._starts, axis=0)
        return low, np.maximum.reduceat(ordered, self._starts, axis=0)


def lines(figure: Any, row: int, record: Recorder, times: Times) -> None:
    """Draw the cosine of each pair over time; a pale band shows the range in each interval."""
    cosines = record.cosines[:, 0]
    means = times.mean(cosines)
    low, high = times.span(cosines)
    there_and_back = np.concatenate([times.steps, times.steps[::-1]])
    for k, pair in enumerate(pair_names(record.names or ())):
        if not times.exact:
            figure.add_scatter(
                x=there_and_back,
                y=np.concatenate([high[:, k], low[::-1, k]]),
                fill="toself",
                fillcolor=COLORS[k],
                opacity=0.15,
                line={"width": 0},
                mode="lines",
                hoverinfo="skip",
                showlegend=False,
                row=row,
                col=1,
            )
        figure.add_scatter(
            x=times.steps,
            y=means[:, k],
            name=pair,
            showlegend=True,
            mode="lines" if times.count > 1 else "markers",
            line={"color": COLORS[k], "width": 2.5},
            hovertemplate=f"{pair}<br>step %{{x:.0f}}<br>cosine %{{y:.2f}}<extra></extra>",
            legend=nth("legend", row),
            row=row,
            col=1,
        )
    edge = record.tolerance
    figure.add_hrect(
        y0=-1.05, y1=-edge, fillcolor="#D55E00", opacity=0.07, line_width=0, row=row, col=1
    )
    figure.add_hline(y=0, line={"color": "#666", "width": 1}, row=row, col=1)
    for text, y in (("conflict", -0.97), ("synergy", 0.97)):
        figure.add_annotation(
            x=1,
            xref=f"{nth('x', row)} domain",
            y=y,
            xanchor="right",
            text=text,
            showarrow=False,
            font={"size": 12, "color": "#57606a"},
            row=row,
            col=1,
        )
    figure.update_yaxes(range=[-1.05, 1.05], title="cosine", row=row, col=1)


def states(figure: Any, row: int, record: Recorder, times: Times) -> None:
    """Draw the shares of conflict, orthogonality and synergy among the pairs over time."""
    state = codes(record.cosines[:, 0], record.tolerance)
    for k, name in enumerate(STATES):
        _area(figure, row, times, times.mean((state == k).mean(-1)), name, _STATE_COLORS[name])
    figure.update_yaxes(title="share of pairs", row=row, col=1)


def layer_cosines(figure: Any, row: int, record: Recorder, times: Times) -> None:
    """Draw layers over time, colored by the mean cosine of the pairs."""
    cosines = times.mean(record.cosines[:, 1:])  # (times, layers, pairs)
    _layers_over_time(
        figure,
        row,
        record,
        times,
        "cosine",
        z=cosines.mean(-1).T,
        customdata=cosines.min(-1).T,
        zmin=-1,
        zmax=1,
        colorscale=_DIVERGING,
        hovertemplate="%{y}, step %{x:.0f}<br>mean over pairs %{z:.2f}"
        "<br>worst pair %{customdata:.2f}<extra></extra>",
    )


def layer_conflicts(figure: Any, row: int, record: Recorder, times: Times) -> None:
    """Draw layers over time, colored by the share of pairs in conflict."""
    share = (record.cosines[:, 1:] < -record.tolerance).mean(-1)
    told = "%{y}, step %{x:.0f}<br>%{z:.0%} of the pairs in conflict<extra></extra>"
    cells = {"z": times.mean(share).T, "zmin": 0, "zmax": 1, "colorscale": _CONFLICT}
    _layers_over_time(figure, row, record, times, "share", **cells, hovertemplate=told)


def shares_of_length(figure: Any, row: int, record: Recorder, times: Times) -> None:
    """Draw the dominance of each task over time."""
    names = record.names or ()
    shares = times.mean(length_shares(record.norms[:, 0]))
    if len(names) <= len(COLORS):
        for k, name in enumerate(names):
            _area(figure, row, times, shares[:, k], name, COLORS[k])
        figure.update_yaxes(title="share of length", row=row, col=1)
        return
    _heatmap(
        figure,
        row,
        "share",
        x=times.steps,
        y=list(names),
        z=shares.T,
        zmin=0,
        colorscale="Cividis",
        hovertemplate="%{y}, step %{x:.0f}<br>share %{z:.3f}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", type="category", row=row, col=1)


def matrix(figure: Any, row: int, record: Recorder, times: Times) -> None:
    """Draw tasks against tasks, colored by how often they are in conflict."""
    names = list(record.names or ())
    share = (record.cosines[:, 0] < -record.tolerance).mean(0)
    table = np.full((len(names), len(names)), np.nan)
    one, other = np.triu_indices(len(names), 1)
    table[one, other] = table[other, one] = share
    _heatmap(
        figure,
        row,
        "share",
        x=names,
        y=names,
        z=table,
        zmin=0,
        zmax=1,
        xgap=1,
        ygap=1,
        colorscale=_CONFLICT,
        hovertemplate="%{y} / %{x}<br>in conflict in %{z:.0%} of the steps<extra></extra>",
    )
    small = {"size": 13 if len(names) <= 20 else 10}
    figure.update_xaxes(
        type="category", dtick=1, tickangle=-90, tickfont=small, showgrid=False, row=row, col=1
    )
    figure.update_yaxes(
        type="category",
        autorange="reversed",
        dtick=1,
        tickfont=small,
        showgrid=False,
        row=row,
        col=1,
    )


def nth(kind: str, row: int) -> str:
    """The name of an axis or a legend in plotly, which counts from 1 and omits the 1."""
    return kind if row == 1 else f"{kind}{row}"


def _area(figure: Any, row: int, times: Times, share: np.ndarray, name: str, color: str) -> None:
    figure.add_scatter(
        x=times.steps,
        y=share,
        name=name,
        stackgroup=f"row {row}",
        mode="lines",
        line={"color": "white", "width": 1},
        fillcolor=color,
        hovertemplate=f"{name}<br>step %{{x:.0f}}<br>share %{{y:.0%}}<extra></extra>",
        legend=nth("legend", row),
        row=row,
        col=1,
    )
    figure.update_yaxes(range=[0, 1], tickformat=".0%", row=row, col=1)


def _heatmap(figure: Any, row: int, title: str, **cells: Any) -> None:
    low, high = figure.layout[nth("yaxis", row)].domain
    bar = {
        "title": {"text": title, "side": "right"},
        "thickness": 14,
        "nticks": 4,
        "y": (low + high) / 2,
        "len": high - low,
    }
    figure.add_heatmap(**cells, colorbar=bar, row=row, col=1)


def _layers_over_time(
    figure: Any, row: int, record: Recorder, times: Times, title: str, **cells: Any
) -> None:
    assert record.layers is not None
    names = list(record.layers.names)
    every = 1 if len(names) <= 25 else None  # None lets plotly thin the labels out
    # The first layer on top, as in a listing of the network.
    figure.update_yaxes(autorange="reversed", type="category", dtick=every, row=row, col=1)
    _heatmap(figure, row, title, x=times.steps, y=names, **cells)
