"""The experiment on chance in a benchmark pairs the right cells and counts right."""

import pandas as pd
import pytest


@pytest.fixture(scope="module")
def noise(experiment):
    return experiment("samplers/measured_noise")


@pytest.fixture(scope="module")
def cells(noise, shared_data):
    return noise.paired(pd.read_parquet(shared_data / "nb201.parquet"))


def test_mirror_images_do_the_same_work(cells):
    groups = cells.groupby("pair")
    assert groups.size().value_counts().to_dict() == {1: 15284 - 2 * 1464, 2: 1464}
    assert (groups[["class_id", "params_M", "flops_M"]].nunique() == 1).all(axis=None)


def test_chance_is_smaller_than_what_dead_operations_cost(noise, cells):
    found = noise.chance(cells)
    gpus = [name for name in found.index if "80ti" in name or "edge" in name]
    assert (found.pairs_apart < found.classes_apart / 3)[gpus].all()


def test_averaging_changes_points_more_than_worth(noise, cells):
    found = noise.averaged(cells)
    assert found.of_the_measured_front["as measured"] == found.points["as measured"]
    assert found.of_the_measured_front["class_id"] < 0.5 * found.points["as measured"]
    assert (found.fraction_of_the_measured_front > 0.99).all()
