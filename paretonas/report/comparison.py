"""The report of a comparison."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paretonas._words import cell, title
from paretonas.compare import Comparison
from paretonas.compare.summary import TARGETS, disagreement, feasibility, objectives_of
from paretonas.report.comparison_figures import (
    distance_figure,
    fronts_figure,
    regret_figure,
    targets_figure,
)
from paretonas.report.frame import section, write_page

Values = Mapping[tuple[str, str, int | None, str], float | None]


def write_comparison(
    comparison: Comparison,
    out: str | os.PathLike[str],
    settings: Mapping[str, Any] | None = None,
    started: str = "",
) -> Path:
    """Write a page with scores, anytime curves, fronts and the ledger of all methods.

    The page is one file: it contains its figures and the code that draws them, and loads nothing.

    Args:
        comparison: a comparison with at least one finished run.
        out: the file, usually ``report.html`` in the comparison's folder.
        settings: the user's settings, plain values by name; shown at the end.
        started: the start time; shown at the top.

    Raises:
        ValueError: no run has ended, or the path cannot be written.
    """
    if not comparison.records:
        raise ValueError("no run has ended: there is nothing to show")
    name = cell(comparison.problem.space.name)
    values = {
        (r.method, r.measure, r.evaluations, r.statistic): r.value for r in comparison.summary
    }
    quartiles = "Median over seeds; the band shows the first and third quartile; lower is better."
    sections = [
        section("Summary", _scores(comparison, values), _scores_note(comparison)),
        section(
            "Hypervolume regret",
            regret_figure(comparison),
            f"The share of the hypervolume of {_best(comparison)} that is still missing. "
            f"{quartiles} A run without regret is drawn at the lower edge.",
        ),
        section(
            "Evaluations to reach a share of the hypervolume",
            targets_figure(comparison) + _targets(comparison, values),
            "Median over seeds. There is no bar if half of the seeds did not reach the share.",
        ),
        section(
            "IGD+",
            distance_figure(comparison),
            f"For each point of {_best(comparison)}, how much worse the closest found point is, in "
            f"objectives scaled to [0, 1]; the mean over these points. {quartiles}",
        ),
        section("Fronts", fronts_figure(comparison), _fronts_note(comparison)),
        section("Ledger", _ledger(comparison, values), _ledger_note(comparison)),
        section("Settings", _facts(comparison, settings or {}), ""),
    ]
    return write_page(
        out,
        title=f"paretonas compare: {name}",
        head=f"{', '.join(map(cell, comparison.methods))} on {name}",
        started=cell(started) or "some time ago",
        sections=sections,
    )


def _best(comparison: Comparison) -> str:
    true = comparison.reference.true
    return "the true front" if true else "the best front of all runs together"


def _scores_note(comparison: Comparison) -> str:
    first, *others = comparison.methods
    test = (
        f" The p-value is from Wilcoxon's signed-rank test against {cell(first)} on the same "
        "seeds, with Holm's correction for the number of methods."
        if others
        else ""
    )
    unknown = (
        ""
        if comparison.reference.true
        else " The true front is not known. All scores are relative to the best front of all "
        "runs together, so they would change with other methods or seeds."
    )
    seeds = f"{comparison.seeds} seeds" if comparison.seeds > 1 else "one seed"
    doubt, limits = disagreement(comparison), feasibility(comparison)
    return (
        f"Share of the hypervolume of {_best(comparison)}, median over {seeds}. Quartiles and the "
        f"worst seed are given after all {comparison.budget} evaluations."
        f"{f' <b>{cell(doubt)}</b>' if doubt else ''}{f' {cell(limits)}' if limits else ''}"
        f"{test}{unknown}"
    )


def _scores(comparison: Comparison, values: Values) -> str:
    share, last = "hypervolume_fraction", comparison.budget
    places = sorted({at for _, measure, at, _ in values if measure == share and at is not None})
    head = [
        "method",
        *(f"after {at}" for at in places),
        "quartiles",
        "worst seed",
        f"p against {cell(comparison.methods[0])}",
        "front points",
        "found by it alone",
    ]
    rows = []
    for method in comparison.methods:

        def get(measure: str, statistic: str, at: int | None = None) -> float | None:
            return values.get((method, measure, at, statistic))  # noqa: B023

        low, high = get(share, "q1", last), get(share, "q3", last)
        rows.append(
            [
                method,
                *(_digits(get(share, "median", at)) for at in places),
                "" if low is None else f"{_digits(low)} to {_digits(high)}",
                _digits(get(share, "min", last)),
                _number(get(share, "p_holm", last), ".3g"),
                _number(get("front_points", "found"), ".0f"),
                _number(get("front_points", "found_alone"), ".0f"),
            ]
        )
    return _table(head, rows)


def _targets(comparison: Comparison, values: Values) -> str:
    rows = []
    for method in comparison.methods:
        cells = []
        for percent in TARGETS:
            measure = f"evaluations_to_{percent}_percent"
            middle = values[method, measure, None, "median"]
            reached = values[method, measure, None, "seeds_reached"] or 0
            seeds = f"{reached:.0f} of {comparison.seeds} seeds"
            cells.append(seeds if middle is None else f"{middle:g} ({seeds})")
        rows.append([method, *cells])
    return _table(["method", *(f"{percent} %" for percent in TARGETS)], rows)


def _ledger_note(comparison: Comparison) -> str:
    broken = "".join(
        f" The run of {cell(b.method)} with seed {b.seed} failed: {cell(b.reason)}."
        for b in comparison.broken
    )
    free = comparison.problem.free
    weights = any(record.ledger.weight_steps for record in comparison.records.values())
    supernet = (
        " The steps that train a supernet count as evaluations, before all others: as many steps "
        "as one training takes count as one. Proxy evaluations are not charged."
        if weights
        else ""
    )
    known = (
        f" Known without an evaluation, to every method that can use it: "
        f"{', '.join(map(title, free))}."
        if free
        else ""
    )
    return (
        "Medians over seeds. A run pays for an architecture when it first asks for it. If it asks "
        "again, this is a duplicate and free. A failure, such as a row that is not allowed, costs "
        "an evaluation too. Method overhead is the time that the method itself takes."
        f"{supernet}"
        f"{known}{broken}"
    )


def _ledger(comparison: Comparison, values: Values) -> str:
    head = [
        "method",
        "runs",
        "evaluations",
        "failures",
        "duplicates",
        "method overhead (s)",
        "overhead per evaluation (ms)",
        "evaluations (s)",
    ]
    rows = []
    for method in comparison.methods:

        def median(measure: str) -> float | None:
            return values.get((method, measure, None, "median"))  # noqa: B023

        each = median("thinking_seconds_per_evaluation")
        runs = values[method, "runs", None, "finished"]
        rows.append(
            [
                method,
                f"{runs:.0f} of {comparison.seeds}",
                *(_number(median(m), "g") for m in ("evaluations", "failures", "duplicates")),
                _number(median("thinking_seconds"), ".2f"),
                "" if each is None else f"{1000 * each:.1f}",
                _number(median("evaluation_seconds"), ".2f"),
            ]
        )
    return _table(head, rows) + _supernets(comparison, values)


def _supernets(comparison: Comparison, values: Values) -> str:
    """What the methods that train a supernet were charged for it; nothing if there is none."""
    measures = {
        "supernet (evaluations)": "weight_evaluations",
        "weight steps": "weight_steps",
        "proxy evaluations": "proxy_evaluations",
    }
    rows = [
        [method, *(_number(values[method, m, None, "median"], "g") for m in measures.values())]
        for method in comparison.methods
        if values.get((method, "weight_steps", None, "total"))
    ]
    return _table(["method", *measures], rows) if rows else ""


def _fronts_note(comparison: Comparison) -> str:
    several = len(comparison.problem.columns) > 2
    also = " A point that seems dominated in one figure is better in another." if several else ""
    return (
        "The front of each method over all its seeds. Gray points are "
        f"{_best(comparison)}. Each axis says which values are better.{also}"
    )


def _facts(comparison: Comparison, settings: Mapping[str, Any]) -> str:
    problem = comparison.problem
    facts = {
        "objectives": objectives_of(comparison, title),
        "on a log scale": ", ".join(map(title, problem.log)) or "none",
        **({"limits": cell(str(problem.constraint))} if problem.constraint else {}),
        "known without evaluation": ", ".join(map(title, problem.free)) or "none",
        "choices": cell(len(problem.choices)),
        "budget": cell(comparison.budget),
        "seeds": cell(comparison.seeds),
        **{name: cell(value) for name, value in settings.items()},
    }
    rows = "".join(
        f"<tr><th>{cell(name)}</th><td>{value}</td></tr>" for name, value in facts.items()
    )
    return f"<div class=wide><table class=facts>{rows}</table></div>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{text}</th>" for text in head)
    body = "".join(
        f"<tr><td><b>{cell(row[0])}</b></td>"
        + "".join(f"<td class=number>{text}</td>" for text in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f"<div class=wide><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _digits(value: float | None) -> str:
    return _number(value, ".4f")


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
