"""The table of finished runs: every metric, delta-m against single-task networks, mean rank.

    python experiments/conflict/multi_task_benchmarks/report.py runs/nyu_v2-* [--csv table.csv]

The folders are runs, or folders of runs. Seeds of one method are averaged. The result of a run is
the same as in the papers: the mean over its last ten epochs on the test split (NYUv2, Cityscapes),
or the epoch that is best on the valid split (CelebA). delta-m is relative to the single-task runs
among the folders; a task without such a run uses the published numbers. Its spread is the standard
error over seeds. The rank is among the methods of the table, for each metric.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from benchmark import Benchmark
from metrics import delta_m, mean_rank
from train import BENCHMARKS, MEAN, _Parser

from paretonas.runs import Run

ALONE = "single task"
SHOWN = 9  # metrics in the printed table; more are averaged


def main(
    arguments: Sequence[str] | None = None, benchmarks: Mapping[str, Benchmark] = BENCHMARKS
) -> int:
    """Print the table; the exit code."""
    parser = _Parser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--csv", type=Path, help="write the whole table there")
    options = parser.parse_args(arguments)
    try:
        frame, reference = table(options.folders, benchmarks)
        if options.csv is not None:
            frame.to_csv(options.csv)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    metrics = [column for column in frame if " " in column]
    shown = frame
    if len(metrics) > SHOWN:
        mean = frame[metrics].mean(axis=1).rename("mean of metrics")
        shown = pd.concat([mean, frame.drop(columns=metrics)], axis=1)
    print(shown.round(4).to_string())
    print(reference)
    return 0


def table(
    folders: Sequence[Path], benchmarks: Mapping[str, Benchmark] = BENCHMARKS
) -> tuple[pd.DataFrame, str]:
    """A row per method, and what delta-m is against.

    Raises:
        ValueError: a folder without runs, a run that is not finished, runs of two benchmarks.
    """
    rows = [_counted(run, benchmarks) for run in map(Run.open, _runs(folders))]
    names = {str(row["benchmark"]) for row in rows}
    if len(names) > 1:
        raise ValueError(f"runs of several benchmarks cannot share a table: {sorted(names)}")
    benchmark = benchmarks[names.pop()]
    frame = pd.DataFrame(rows)
    twice = frame[frame.duplicated(["method", "tasks", "seed"])]
    if len(twice):
        raise ValueError(f"{twice['folder'].iloc[0]} repeats the method and the seed of another")

    metrics = benchmark.metrics()
    own = frame[frame["method"] == ALONE].reindex(columns=metrics).mean()
    missing = own.index[own.isna()]
    alone = own.fillna(pd.Series(benchmark.published))
    source = "the single-task runs given"
    if len(missing):
        known = "all" if len(missing) == len(metrics) else f"{len(missing)} of {len(metrics)}"
        source = f"the published single-task numbers for {known} metrics"
    zeros = [metric for metric in metrics if alone[metric] == 0]
    if zeros:
        source += f"; without {', '.join(zeros)}, which are 0 there"
    several = frame[frame["method"] != ALONE]
    full = several[several["tasks"] == len(benchmark.tasks)]
    if len(full) < len(several):
        raise ValueError("runs on a part of the tasks have no delta-m: leave them out")

    means = full.groupby("method", sort=False)[metrics].mean()
    judged = means.assign(
        seeds=full.groupby("method", sort=False).size(),
        delta_m=delta_m(means.drop(columns=zeros), alone),
        delta_m_error=delta_m(full[metrics].drop(columns=zeros), alone)
        .groupby(full["method"], sort=False)
        .sem(),
        mean_rank=mean_rank(means),
    )
    judged = judged.sort_values("delta_m")
    reference = pd.DataFrame([alone], index=[ALONE])[metrics].assign(delta_m=0.0)
    return pd.concat([judged, reference]), f"delta-m in percent, less is better; against {source}"


def _runs(folders: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for folder in folders:
        own = [folder] if (folder / "run.json").exists() else []
        below = sorted(path.parent for path in folder.glob("*/run.json"))
        if not own + below:
            raise ValueError(f"{folder} holds no run: there is no run.json in it or one below")
        found += own + below
    return list(dict.fromkeys(found))


def _counted(run: Run, benchmarks: Mapping[str, Benchmark]) -> dict[str, object]:
    """What the papers count of a run."""
    settings = run.settings
    benchmark = benchmarks.get(settings.get("benchmark", ""))
    if benchmark is None:
        raise ValueError(f"{run.folder} is no run of these benchmarks")
    history = pd.DataFrame(run.history())
    if len(history) < settings["epochs"]:
        raise ValueError(
            f"{run.folder} has {len(history)} of {settings['epochs']} epochs: finish it first, "
            "with the command that began it"
        )
    tasks = [task for task in benchmark.tasks if task.name in settings["tasks"]]
    metrics = benchmark.metrics(tasks)
    if benchmark.counted == "last ten":
        counted = history.tail(10)
    else:
        best = history[[f"valid {metric}" for metric in metrics]].mean(axis=1).idxmax()
        counted = history.loc[[best]]
    numbers = {metric: float(counted[f"test {metric}"].mean()) for metric in metrics}
    extra = ", ".join(f"{name}={value}" for name, value in settings["solver_settings"].items())
    method = "mean" if settings["solver"] == MEAN else settings["solver"]
    return {
        "folder": str(run.folder),
        "benchmark": benchmark.name,
        "method": ALONE if len(tasks) == 1 else method + (f"({extra})" if extra else ""),
        "tasks": len(tasks) if len(tasks) > 1 else tasks[0].name,
        "seed": run.about["seed"],
        **numbers,
    }


if __name__ == "__main__":
    sys.exit(main())
