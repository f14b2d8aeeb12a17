"""The tables of docs/surgery.md, from the csv files of `surgery_vs_evolution.py`.

    python experiments/samplers/surgery_tables.py

Prints Markdown: the fraction of the true hypervolume for each method and number of evaluations, as
a mean over seeds, for surgery also the worst seed; and how many evaluations the mean over seeds
needs to reach a share of it. The mean over the devices of NAS-Bench-201 is included. A star marks
tables on which settings were chosen.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from surgery_vs_evolution import DEVICES, TARGETS, TUNED

HERE = Path(__file__).parent
MARKS = (24, 50, 100, 200, 500)
METHODS = (
    *("surgery", "nsga2", "nsga2-steady", "smsemoa", "tpe", "optuna-nsga2", "local", "random"),
    "ridge",
)
REACHING = ("surgery", "nsga2", "nsga2-steady", "smsemoa", "tpe")


def main() -> None:
    """Print them."""
    for text in tables():
        print(text, end="\n\n")


def tables() -> list[str]:
    """Devices, other tables; and for both, how many evaluations are needed."""
    scores = pd.read_csv(HERE / "surgery_vs_evolution.csv")
    reaches = pd.read_csv(HERE / "surgery_vs_evolution_reach.csv")
    devices = [f"nb201_{device}" for device in DEVICES]
    others = [name for name in scores["table"].unique() if name not in devices]
    found = [
        write(names, scores, reaches) for names in (devices, others) for write in (fractions, reach)
    ]
    return [*found, devices_together(scores)]


def fractions(names: list[str], scores: pd.DataFrame, _: pd.DataFrame) -> str:
    """A row per table and number of evaluations."""
    rows = [heading("table", "evaluations", *METHODS)]
    for name in names:
        own = scores[scores["table"] == name].set_index(["method", "evaluations"])
        for mark in (mark for mark in MARKS if ("nsga2", mark) in own.index):
            cells = [cell(own, method, mark) for method in METHODS]
            rows.append(line(called(name) if mark == MARKS[0] else "", str(mark), *cells))
    return "\n".join(rows)


def reach(names: list[str], _: pd.DataFrame, reaches: pd.DataFrame) -> str:
    """A row per table."""
    keys = [(target, method) for target in TARGETS for method in REACHING]
    rows = [heading("table", *(f"{target:.0%}: {method}" for target, method in keys))]
    for name in names:
        own = reaches[reaches["table"] == name].set_index(["target", "method"])
        rows.append(line(called(name), *(count(own, key) for key in keys)))
    return "\n".join(rows)


def devices_together(scores: pd.DataFrame) -> str:
    """The mean over the devices."""
    own = scores[scores["table"].isin([f"nb201_{device}" for device in DEVICES])]
    means = own.pivot_table(index="method", columns="evaluations", values="mean")
    marks = [mark for mark in MARKS if mark in means]
    rows = [heading("mean of the devices", *map(str, marks))]
    rows += [
        line(name, *(number(means.loc[name, mark]) for mark in marks))
        for name in METHODS
        if own.loc[own["method"] == name, "table"].nunique() == len(DEVICES)
    ]
    return "\n".join(rows)


def cell(own: pd.DataFrame, method: str, mark: int) -> str:
    """The mean, for surgery with the worst seed."""
    if (method, mark) not in own.index:
        return ""
    row = own.loc[(method, mark)]
    worst = f" ({number(row['worst'])})" if method == "surgery" else ""
    return number(row["mean"]) + worst


def number(fraction: float) -> str:
    """Three digits, no zero in front; nothing where nothing was measured."""
    return "" if pd.isna(fraction) else f"{fraction:.3f}".removeprefix("0")


def count(own: pd.DataFrame, key: tuple[float, str]) -> str:
    """A number of evaluations; more than the budget where that did not suffice."""
    if key not in own.index:
        return ""
    row = own.loc[key]
    if pd.isna(row["of_the_mean"]):
        return f"> {row['budget']}"
    return str(int(row["of_the_mean"]))


def called(name: str) -> str:
    """A short name, with its star."""
    return name.removeprefix("nb201_").removeprefix("graph_") + ("*" if name in TUNED else "")


def heading(*names: str) -> str:
    """The first two lines of a table."""
    return line(*names) + "\n" + "|" + "---|" * len(names)


def line(*cells: str) -> str:
    """A line of a table."""
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
