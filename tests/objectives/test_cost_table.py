"""Laws of cost tables, against sums over all architectures."""

import json
from math import inf, nan, prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paretonas.objectives import CostTable, Slot
from paretonas.objectives.table_objective import TableObjective
from paretonas.relaxation import probabilities
from paretonas.space import Choice, encode, every

CHOICES = (Choice("op", ("conv", "skip", "pool")), Choice("w", ("4", "8")), Choice("d", ("1", "2")))
SLOTS = [
    Slot("fixed", {}, torch.tensor(0.25)),
    Slot("stem", {"w": (("4",), ("8",))}, torch.tensor([1.0, 3.0])),
    Slot(
        "block",
        {"op": (("skip",), ("conv", "pool")), "w": (("8",), ("4",)), "d": (("1",), ("2",))},
        torch.arange(8.0).reshape(2, 2, 2),
    ),
]
K = 7


def table() -> CostTable:
    return CostTable(CHOICES, SLOTS, unit="ms", about={"device": "test"})


def random_rows(seed: int, r: int = 5) -> torch.Tensor:
    alpha = torch.randn(r, K, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return probabilities(alpha, (3, 2, 2))


def chance(row: torch.Tensor, architecture) -> float:
    picks = encode(CHOICES, architecture)
    starts = (0, 3, 5)
    return prod(float(row[start + pick]) for start, pick in zip(starts, picks, strict=True))


def test_lookups_by_hand():
    architecture = {"op": "pool", "w": "4", "d": "2"}
    assert table().at(architecture) == [0.25, 1.0, 7.0]
    assert table().total_at(architecture) == 8.25
    assert table().peak_at(architecture) == 7.0
    energy = TableObjective(table(), name="energy", unit="mJ")
    assert energy.column == "energy_mJ" and energy.exact(architecture) == 8.25


@given(st.integers(0, 1000))
def test_expected_is_the_mean_over_all_architectures(seed):
    rows = random_rows(seed)
    costs = table()
    for row, expected in zip(rows, costs.expected(rows), strict=True):
        mean = sum(
            chance(row, a) * torch.tensor(costs.at(a), dtype=torch.float64) for a in every(CHOICES)
        )
        torch.testing.assert_close(expected, mean)
    torch.testing.assert_close(costs.total(rows), costs.expected(rows).sum(dim=1))
    torch.testing.assert_close(costs.peak(rows), costs.expected(rows).amax(dim=1))


def test_one_hot_rows_give_the_exact_cost():
    costs = table()
    for architecture in every(CHOICES):
        row = torch.zeros(K)
        for start, pick in zip((0, 3, 5), encode(CHOICES, architecture), strict=True):
            row[start + pick] = 1
        assert costs.total(row).item() == costs.total_at(architecture)
        assert costs.peak(row).item() == costs.peak_at(architecture)


def test_gradients_are_exact():
    rows = random_rows(0).requires_grad_()
    assert torch.autograd.gradcheck(table().total, rows)
    assert torch.autograd.gradcheck(table().expected, rows)


@pytest.mark.parametrize("shape", [(K,), (2, K), (2, 3, K), (0, K)])
def test_any_number_of_rays(shape):
    rows = torch.full(shape, 0.5)
    assert table().expected(rows).shape == (*shape[:-1], 3)
    assert table().total(rows).shape == shape[:-1]
    assert table().total(rows).dtype == torch.float32


def test_a_table_survives_the_disk_and_reordered_options(tmp_path):
    table().write(tmp_path / "costs.json")
    reordered = (Choice("d", ("2", "1")), Choice("op", ("pool", "conv", "skip")), CHOICES[1])
    again = CostTable.read(tmp_path / "costs.json", reordered)
    assert again.unit == "ms"
    assert again.about == {"device": "test"}
    for architecture in every(CHOICES):
        assert again.at(architecture) == table().at(architecture)
    row = torch.tensor([1.0, 0, 1, 0, 0, 0, 1])  # d=2 op=pool w=8, in the new order
    assert again.total(row).item() == table().total_at({"d": "2", "op": "pool", "w": "8"})


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (
            (Choice("op", ("conv", "skip")), *CHOICES[1:]),
            r"of another space: for choice 'op' it has the options \['conv', 'skip', 'pool'\], the "
            r"space has \['conv', 'skip'\]",
        ),
        ((*CHOICES, Choice("x", ("1", "2"))), r"for choice 'x' it has the options \[\]"),
        (CHOICES[:2], "it has the choice 'd', the space has not"),
    ],
)
def test_a_table_of_another_space_is_refused(tmp_path, choices, message):
    table().write(tmp_path / "costs.json")
    with pytest.raises(ValueError, match=message):
        CostTable.read(tmp_path / "costs.json", choices)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "[" * 100_000, '{"format": 2}', '{"format": 1, "choices": {}, "slots": [3]}'],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, text):
    (tmp_path / "costs.json").write_text(text)
    with pytest.raises(ValueError, match=r"costs\.json is (no cost t|not a whole|of format 2)"):
        CostTable.read(tmp_path / "costs.json", CHOICES)


def _put(content, place, value):
    for key in place[:-1]:
        content = content[key]
    content[place[-1]] = value


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (["about"], True),
        (["about"], [["a"]]),
        (["unit"], 3),
        (["choices", "op", 0], ["conv"]),
        (["choices", "op"], "conv"),
        (["slots", 0, "name"], None),
        (["slots", 1, "groups", "w", 0, 0], 7),
        (["slots", 1, "groups"], {}),
        (["slots", 1, "values", 0], 10**400),
        (["slots", 1, "values", 0], "1" * 5000),
    ],
)
def test_a_file_with_something_of_another_kind_is_refused_in_a_short_line(tmp_path, place, value):
    table().write(tmp_path / "costs.json")
    content = json.loads((tmp_path / "costs.json").read_text())
    _put(content, place, value)
    (tmp_path / "costs.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"costs\.json(: .* finite| is no cost table)") as refused:
        CostTable.read(tmp_path / "costs.json", CHOICES)
    assert len(str(refused.value)) < 1000


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot read the cost table .*: No such file"):
        CostTable.read(tmp_path / "none.json", CHOICES)


def test_a_file_with_a_bad_number_is_refused(tmp_path):
    table().write(tmp_path / "costs.json")
    content = json.loads((tmp_path / "costs.json").read_text())
    content["slots"][1]["values"][0] = nan
    (tmp_path / "costs.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"slots\.1\.values\.0 must be finite, got nan"):
        CostTable.read(tmp_path / "costs.json", CHOICES)


@pytest.mark.parametrize(
    ("slot", "message"),
    [
        (Slot("s", {"ops": (("conv",),)}, torch.zeros(1)), "'ops', which is no choice; did you"),
        (Slot("s", {"w": (("4",),)}, torch.zeros(1)), "every option of 'w' in one group"),
        (Slot("s", {"w": (("4",), ("8",))}, torch.zeros(3)), r"shape \(2,\), .*got \(3,\)"),
        (Slot("s", {}, torch.tensor(inf)), "slot 's' holds a value that is not finite"),
    ],
)
def test_a_slot_that_does_not_fit_is_refused(slot, message):
    with pytest.raises(ValueError, match=message):
        CostTable(CHOICES, [slot], unit="ms")


def test_probabilities_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"one column per option, K = 7, got shape \(2, 6\)"):
        table().total(torch.ones(2, 6))


@pytest.mark.parametrize(
    ("picks", "message"),
    [
        ({"op": "conv", "w": "4"}, "no pick for choice 'd'"),
        ({"op": "convv", "w": "4", "d": "1"}, "no option 'convv'; did you mean 'conv'"),
    ],
)
def test_an_architecture_that_does_not_fit_is_refused(picks, message):
    with pytest.raises(ValueError, match=message):
        table().total_at(picks)
