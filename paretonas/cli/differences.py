"""What differs between a run and its repetition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from paretonas.point import Point
from paretonas.runs import Run


def differences(first: Run, again: Run) -> Iterator[str]:
    """What a run and its repetition were made with, and what they found; a line for each part.

    The lines on points compare what the runs evaluated and their fronts, which they must have.
    """
    then, now = _conditions(first.about), _conditions(again.about)
    changed = [
        f"{name} was {then.get(name, 'not told')}, is {now.get(name, 'not told')}"
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    ]
    yield f"made with: {'; '.join(changed) or 'the same versions, on the same device and machine'}"
    yield f"evaluated: {_shared(first.evaluations(), again.evaluations())}"
    yield f"on the front: {_shared(list(first.front()), list(again.front()))}"


def _conditions(about: Mapping[str, Any]) -> dict[str, str]:
    """Versions, device and machine, by name; what ``run.json`` does not tell is left out."""
    versions = about.get("versions")
    told = {name: about.get(name) for name in ("device", "machine")}
    told |= versions if isinstance(versions, Mapping) else {}
    return {name: str(value) for name, value in told.items() if value is not None}


def _shared(first: Sequence[Point], again: Sequence[Point]) -> str:
    """How many architectures both have, and how far their values are apart."""
    then, now = ({point.architecture: point for point in points} for points in (first, again))
    both = [(then[architecture], now[architecture]) for architecture in then if architecture in now]
    told = f"{len(then)} architectures, now {len(now)}, {len(both)} of them the same"
    if not both:
        return told
    columns = [c for c in both[0][0].objectives if c in both[0][1].objectives]
    apart = {
        column: [_apart(one.objectives[column], other.objectives[column]) for one, other in both]
        for column in columns
    }
    values = [
        f"{column} differs for {sum(x > 0 for x in shares)}, by up to {max(shares):.2g} %"
        for column, shares in apart.items()
        if any(shares)
    ]
    return f"{told}; {'; '.join(values) or 'with equal objectives'}"


def _apart(one: float, other: float) -> float:
    """The difference as a percentage of the larger value."""
    return 100 * abs(one - other) / max(abs(one), abs(other)) if one != other else 0.0
