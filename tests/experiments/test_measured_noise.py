"""The experiment on chance in a benchmark pairs the right cells and counts right."""

import sys
from pathlib import Path

import pandas as pd
import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="module")
def experiment():
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        import measured_noise

        yield measured_noise
    finally:
        sys.path.remove(str(EXPERIMENTS))


@pytest.fixture(scope="module")
def cells(experiment, shared_data):
    return experiment.paired(pd.read_parquet(shared_data / "nb201.parquet"))


def test_mirror_images_do_the_same_work(cells):
    groups = cells.groupby("pair")
    assert groups.size().value_counts().to_dict() == {1: 15284 - 2 * 1464, 2: 1464}
    assert (groups[["class_id", "params_M", "flops_M"]].nunique() == 1).all(axis=None)


def test_chance_is_smaller_than_what_dead_operations_cost(experiment, cells):
    found = experiment.chance(cells)
    gpus = [name for name in found.index if "80ti" in name or "edge" in name]
    assert (found.pairs_apart < found.classes_apart / 3)[gpus].all()


def test_averaging_changes_points_more_than_worth(experiment, cells):
    found = experiment.averaged(cells)
    assert found.of_the_measured_front["as measured"] == found.points["as measured"]
    assert found.of_the_measured_front["class_id"] < 0.5 * found.points["as measured"]
    assert (found.fraction_of_the_measured_front > 0.99).all()
