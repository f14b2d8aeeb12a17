"""Draw the front of a run, as on the first page of the README.

    paretonas search --out runs/readme
    python experiments/search/front_picture.py runs/readme docs/front.svg

The picture shows the trade-off of accuracy with latency and memory. Every finalist is a dot, points
that no other dominates have a color, and a line is the lower edge of the front in the plane of
error and latency.
"""

from __future__ import annotations

import argparse

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from paretonas.runs import Run


def main() -> None:
    """Read the run and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("out")
    args = parser.parse_args()
    run = Run.open(args.run)
    front = run.front()

    plt.rcParams.update({"svg.fonttype": "none", "font.size": 10, "svg.hashsalt": "paretonas"})
    figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    others = [p.objectives for p in run.evaluations() if p.architecture not in front]
    axes.scatter(
        [o["latency_ms"] for o in others],
        [o["error_percent"] for o in others],
        s=26,
        facecolors="none",
        edgecolors="0.65",
        label="trained, dominated",
    )
    points = [point.objectives for point in front]
    edge: list[tuple[float, float]] = []
    for latency, error in sorted((p["latency_ms"], p["error_percent"]) for p in points):
        if not edge or error < edge[-1][1]:
            edge.append((latency, error))
    axes.step(*zip(*edge, strict=True), where="post", color="0.75", lw=1, zorder=1)
    dots = axes.scatter(
        [p["latency_ms"] for p in points],
        [p["error_percent"] for p in points],
        c=[p["memory_kib"] for p in points],
        cmap="viridis_r",
        s=60,
        zorder=3,
        label="on the front",
    )
    knee = front.knee()
    axes.annotate(
        f"knee: {knee.id}",
        (knee.objectives["latency_ms"], knee.objectives["error_percent"]),
        xytext=(14, 18),
        textcoords="offset points",
        arrowprops={"arrowstyle": "-", "color": "0.4"},
    )
    figure.colorbar(dots, label="memory (KiB)")
    axes.set_xlabel("measured latency, batch 1, one thread (ms)")
    axes.set_ylabel("validation error (%)")
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    seconds = max(float(row["seconds"]) for row in run.history())
    axes.set_title(f"{front.objectives[0].split('_')[0]} against latency: {seconds:.0f} s, one run")
    figure.savefig(args.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
