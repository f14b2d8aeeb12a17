"""Cost tables: a sum or a maximum over slots; each slot depends on few choices."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from .._atomic import replacing
from .._json_file import check_format, read_json
from ..space import Choice, nearest

FORMAT = 1
Groups = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class Slot:
    """One part of the cost.

    Attributes:
        name: the module that has this cost.
        groups: for each choice that it depends on, groups of options that cost the same.
        values: the cost of each combination of groups, (groups of the 1st choice, of the 2nd, ...).
    """

    name: str
    groups: Mapping[str, Groups]
    values: Tensor


class CostTable:
    """Costs of an architecture's parts, and their exact expectation over distributions.

    >>> choices = (Choice("op", ("conv", "skip")), Choice("width", ("4", "8")))
    >>> conv = Slot("conv", {"op": (("conv",), ("skip",)), "width": (("4",), ("8",))},
    ...             torch.tensor([[1.0, 3.0], [0.0, 0.0]]))
    >>> table = CostTable(choices, [conv], unit="ms")
    >>> table.total_at({"op": "conv", "width": "8"})
    3.0
    >>> table.total(torch.tensor([[0.5, 0.5, 0.0, 1.0]]))
    tensor([1.5000])

    Args:
        choices: the choices of the space, in its order.
        slots: the parts; every choice that they name is in `choices`, every option in one group.
        unit: the unit of the values.
        about: the origin of the numbers: device, versions, shapes, calibration.

    Raises:
        ValueError: a slot does not fit the choices, or a value is not finite.
    """

    def __init__(
        self,
        choices: Sequence[Choice],
        slots: Sequence[Slot],
        *,
        unit: str,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.choices = tuple(choices)
        self.slots = tuple(slots)
        self.unit = unit
        self.about = dict(about or {})
        for slot in self.slots:
            _check(slot, self.choices)
        self._lookups = [_lookup(slot) for slot in self.slots]
        self._arrays = _arrays(self.choices, self.slots)

    def __repr__(self) -> str:
        unit = f" in {self.unit}" if self.unit else ""
        return f"CostTable({len(self.slots)} parts, {len(self.choices)} choices{unit})"

    def expected(self, probabilities: Float[Tensor, "*r K"]) -> Float[Tensor, "*r s"]:
        """The expected cost of each slot, if every choice is drawn from its distribution."""
        return self._combinations(probabilities) @ self._arrays.values.to(probabilities)

    def total(self, probabilities: Float[Tensor, "*r K"]) -> Float[Tensor, "*r"]:
        """The expected sum over the slots."""
        totals = self._arrays.values.sum(dim=1).to(probabilities)
        return self._combinations(probabilities) @ totals

    def peak(self, probabilities: Float[Tensor, "*r K"]) -> Float[Tensor, "*r"]:
        """The largest expected cost of a slot: a lower bound on the expected largest cost."""
        return self.expected(probabilities).amax(dim=-1)

    def _combinations(self, probabilities: Tensor) -> Tensor:
        """(..., N): the probability of each combination of groups of each slot."""
        members, factors = self._arrays.members, self._arrays.factors
        if probabilities.shape[-1] != len(members):
            raise ValueError(
                f"probabilities must have one column per option, K = {len(members)}, "
                f"got shape {tuple(probabilities.shape)}"
            )
        groups = functional.pad(probabilities @ members.to(probabilities), (0, 1), value=1.0)
        likely = groups.index_select(-1, factors[0].to(groups.device))
        for factor in factors[1:]:
            likely = likely * groups.index_select(-1, factor.to(groups.device))
        return likely

    def at(self, architecture: Mapping[str, str]) -> list[float]:
        """The cost of each slot of one architecture; this takes microseconds.

        Raises:
            ValueError: a pick is missing or unknown.
        """
        try:  # not by `places`, since a search asks for thousands
            return [
                values[sum([place[architecture[name]] for name, place in lookup])]
                for lookup, values in self._lookups
            ]
        except KeyError:
            raise ValueError(_misfit(self.choices, architecture)) from None

    def places(self, architecture: Mapping[str, str]) -> list[int]:
        """Where the cost of an architecture is in the flat values of each slot.

        Raises:
            ValueError: a pick is missing or unknown.
        """
        try:
            return [
                sum([place[architecture[name]] for name, place in lookup])
                for lookup, _ in self._lookups
            ]
        except KeyError:
            raise ValueError(_misfit(self.choices, architecture)) from None

    def total_at(self, architecture: Mapping[str, str]) -> float:
        """The sum over the slots of one architecture."""
        return math.fsum(self.at(architecture))

    def peak_at(self, architecture: Mapping[str, str]) -> float:
        """The largest cost of a slot of one architecture."""
        return max(self.at(architecture))

    def same(self, other: CostTable) -> bool:
        """Whether another table has the same costs, whatever it tells about their origin."""
        ours, theirs = ([*map(_told, table.slots)] for table in (self, other))
        return self.unit == other.unit and ours == theirs

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the table as JSON, options by name."""
        text = json.dumps(
            {
                "format": FORMAT,
                "unit": self.unit,
                "about": self.about,
                "choices": {choice.name: choice.options for choice in self.choices},
                "slots": [*map(_told, self.slots)],
            },
            indent=1,
        )
        with replacing(path) as draft:
            draft.write_text(text)

    @classmethod
    def read(cls, path: str | os.PathLike[str], choices: Sequence[Choice]) -> CostTable:
        """Read a table that was written for these choices; their order may have changed.

        Raises:
            ValueError: the file is not a cost table, a newer version has written it, or it has
                other choices or options.
        """
        try:
            content = read_json(Path(path))
        except OSError as error:
            raise ValueError(f"cannot read the cost table {path}: {error.strerror}") from error
        check_format(Path(path), content, FORMAT)
        try:
            found = {name: _words(options) for name, options in content["choices"].items()}
            slots = [_slot(told) for told in content["slots"]]
            unit, about = content["unit"], content["about"]
            if not isinstance(unit, str) or not isinstance(about, dict):
                raise ValueError("unit must be a text, and about a mapping")
        except _NO_TABLE as error:
            raise ValueError(f"{path} is no cost table: {error!s:.200}") from error
        for choice in choices:
            if set(found.get(choice.name, ())) != set(choice.options):
                raise ValueError(
                    f"the cost table {path} is of another space: for choice {choice.name!r} it "
                    f"has the options {list(found.get(choice.name, ()))!s:.200}, "
                    f"the space has {list(choice.options)!s:.200}"
                )
        extra = found.keys() - {choice.name for choice in choices}
        if extra:
            raise ValueError(
                f"the cost table {path} is of another space: it has the choice {min(extra)!r:.80}, "
                "the space has not"
            )
        try:
            return cls(choices, slots, unit=unit, about=about)
        except ValueError as error:
            raise ValueError(f"{path} is no cost table: {error!s:.400}") from error


# What reading a file may raise that is anything.
_NO_TABLE = (ValueError, KeyError, TypeError, AttributeError)


def _told(slot: Slot) -> dict[str, Any]:
    """A slot as a file tells it."""
    return {"name": slot.name, "groups": dict(slot.groups), "values": slot.values.tolist()}


def _slot(told: Any) -> Slot:
    """The slot that a file tells."""
    if not isinstance(told["name"], str):
        raise ValueError(f"the name of a slot must be a text, got {told['name']!r:.80}")
    groups = {name: tuple(map(_words, groups)) for name, groups in told["groups"].items()}
    return Slot(told["name"], groups, torch.tensor(told["values"], dtype=torch.float64))


def _words(told: Any) -> tuple[str, ...]:
    """Options as a file tells them."""
    if not isinstance(told, list) or not all(isinstance(word, str) for word in told):
        raise ValueError(f"options must be a list of texts, got {told!r:.80}")
    return tuple(told)


Lookup = tuple[list[tuple[str, dict[str, int]]], list[float]]


def _lookup(slot: Slot) -> Lookup:
    """For each choice, the number that each option adds to the index in the flat list of costs."""
    places = []
    stride = slot.values.numel()
    for name, groups in slot.groups.items():
        stride //= len(groups)
        places.append((name, {o: i * stride for i, group in enumerate(groups) for o in group}))
    return places, slot.values.flatten().tolist()


@dataclass(frozen=True, eq=False)
class _Arrays:
    """All slots in joint arrays, with G groups and N combinations of groups in total.

    Attributes:
        members: (K, G) 1 where an option is in a group.
        factors: arrays (N,) of groups; the product of their probabilities is that of a combination.
            If a slot depends on fewer choices, the group is G, a last column of ones.
        values: (N, s) the cost of a combination in its slot.
    """

    members: Tensor
    factors: tuple[Tensor, ...]
    values: Tensor


def _arrays(choices: Sequence[Choice], slots: Sequence[Slot]) -> _Arrays:
    places: dict[str, dict[str, int]] = {}
    count = 0
    for choice in choices:
        places[choice.name] = {o: count + i for i, o in enumerate(choice.options)}
        count += len(choice.options)
    columns: list[list[int]] = []
    combinations: list[tuple[int, ...]] = []
    sizes = []
    for slot in slots:
        ranges = []
        for name, groups in slot.groups.items():
            ranges.append(range(len(columns), len(columns) + len(groups)))
            columns += [[places[name][option] for option in group] for group in groups]
        sizes.append(slot.values.numel())
        combinations += product(*ranges)
    members = torch.zeros(count, len(columns), dtype=torch.float64)
    for column, options in enumerate(columns):
        members[options, column] = 1.0
    depth = max([1, *map(len, combinations)])
    rows = [(*c, *[len(columns)] * (depth - len(c))) for c in combinations]
    factors = torch.tensor(rows, dtype=torch.long).reshape(len(rows), depth)
    parts = [slot.values.double().reshape(-1, 1) for slot in slots]
    values = torch.block_diag(*parts) if parts else torch.zeros(0, 0, dtype=torch.float64)
    return _Arrays(members, tuple(factors.t().contiguous()), values)


def _check(slot: Slot, choices: Sequence[Choice]) -> None:
    known = {choice.name: choice.options for choice in choices}
    for name, groups in slot.groups.items():
        if name not in known:
            raise ValueError(
                f"slot {slot.name!r} depends on {name!r}, which is no choice"
                f"{nearest(name, [*known])}"
            )
        if sorted(o for group in groups for o in group) != sorted(known[name]):
            raise ValueError(
                f"slot {slot.name!r} must have every option of {name!r} in one group: "
                f"{list(known[name])}, got {[list(group) for group in groups]}"
            )
    shape = tuple(len(groups) for groups in slot.groups.values())
    if tuple(slot.values.shape) != shape:
        raise ValueError(
            f"the values of slot {slot.name!r} must have shape {shape}, one for each combination "
            f"of groups, got {tuple(slot.values.shape)}"
        )
    if not bool(torch.isfinite(slot.values).all()):
        raise ValueError(f"slot {slot.name!r} holds a value that is not finite")


def _misfit(choices: Sequence[Choice], architecture: Mapping[str, str]) -> str:
    for choice in choices:
        if choice.name not in architecture:
            return f"the architecture has no pick for choice {choice.name!r}"
        option = architecture[choice.name]
        if option not in choice.options:
            return (
                f"choice {choice.name!r} has no option {option!r}{nearest(option, choice.options)}"
            )
    raise AssertionError("a slot depends on no other choices than the table's")
