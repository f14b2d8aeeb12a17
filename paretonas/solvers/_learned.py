"""Numbers that a solver learns by Adam from call to call, and checks of a solver's state."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float

from paretonas.gradients.kind import check_kind
from paretonas.solvers._aim import refuse
from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.problem import GradientProblem

BETAS = (0.9, 0.999)
EPS = 1e-8
FARTHEST = 50.0  # largest absolute value of a learned exponent: weights stay within float32


@dataclass(frozen=True, eq=False)
class Learned:
    """One number per ray and objective, with Adam's two moments: torch.optim.Adam in numpy.

    Attributes:
        value: the numbers, (r, m).
        mean: running mean of their gradients.
        square: running mean of the squared gradients.
        steps: the number of steps so far.
    """

    value: Float[np.ndarray, "r m"]
    mean: Float[np.ndarray, "r m"]
    square: Float[np.ndarray, "r m"]
    steps: int

    @classmethod
    def start(cls, problem: GradientProblem, at: float) -> Learned:
        """Begin with the same number everywhere."""
        zeros = np.zeros((problem.r, problem.m))
        return cls(zeros + at, zeros, zeros, 0)

    @classmethod
    def of(cls, state: Mapping[str, object]) -> Learned:
        """Restore what ``plain`` returned, after the checks of ``recalled``."""
        steps = state["steps"]
        assert isinstance(steps, int)
        return cls(array(state["value"]), array(state["mean"]), array(state["square"]), steps)

    def stepped(
        self,
        gradient: Float[np.ndarray, "r m"],
        *,
        lr: float,
        weight_decay: float = 0.0,
        within: float = np.inf,
    ) -> Learned:
        """Take one step of Adam against the gradient; values stay in [-within, within]."""
        if weight_decay:
            gradient = gradient + weight_decay * self.value
        steps = self.steps + 1
        mean = BETAS[0] * self.mean + (1 - BETAS[0]) * gradient
        square = BETAS[1] * self.square + (1 - BETAS[1]) * (gradient * gradient)
        size = np.sqrt(square / (1 - BETAS[1] ** steps)) + EPS
        value = self.value - (lr / (1 - BETAS[0] ** steps)) * (mean / size)
        if within < np.inf:
            value = np.minimum(np.maximum(value, -within), within)
        return Learned(value, mean, square, steps)

    def plain(self) -> dict[str, object]:
        """Return plain values that a checkpoint can store."""
        return {
            "value": torch.from_numpy(self.value),
            "mean": torch.from_numpy(self.mean),
            "square": torch.from_numpy(self.square),
            "steps": self.steps,
        }


Kind = Literal["numbers", "sizes", "numbers or None", "sizes or None", "count", "inner"]
LEARNED: dict[str, Kind] = {"value": "numbers", "mean": "numbers", "square": "sizes"}
LEARNED["steps"] = "count"


def recalled(
    state: object, kinds: Mapping[str, Kind], shape: tuple[int, int] | None
) -> Mapping[str, object] | None:
    """Check that a solver of this kind returned this state for a problem of this shape.

    Args:
        state: the state from the caller; None on the first call.
        kinds: the kind of each entry: finite numbers or sizes (at least 0) per ray and objective, a
            count, or the state of an inner solver, which the inner solver checks.
        shape: (r, m), the shape of all tensors in it; None if unknown.

    Raises:
        TypeError: it comes from another kind of solver, or an entry is of another kind.
        ValueError: a tensor has another shape, or a number is not finite or out of range.
    """
    if state is None:
        return None
    if not isinstance(state, Mapping) or state.keys() != kinds.keys():
        found = sorted(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
        raise TypeError(
            f"state must be what the previous call returned, with {sorted(kinds)}, got {found}"
        )
    for name, entry in state.items():
        kind = kinds[name]
        if kind == "count":
            check_count(name, entry)
        elif kind != "inner" and not (entry is None and kind.endswith("None")):
            check_numbers(name, entry, shape, sizes=kind.startswith("sizes"))
    return state


def check_count(name: str, entry: object) -> None:
    """Refuse everything except a whole number of at least 0.

    Raises:
        TypeError: it is not an int.
        ValueError: it is below 0.
    """
    if not isinstance(entry, int) or isinstance(entry, bool):
        raise TypeError(f"state[{name!r}] must be an int, got {type(entry).__name__}")
    if entry < 0:
        raise ValueError(f"state[{name!r}] must be at least 0, got {entry}")


def check_numbers(
    name: str, entry: object, shape: tuple[int, ...] | None, *, sizes: bool = False
) -> None:
    """Refuse everything except a tensor of this shape with finite numbers (or sizes, at least 0).

    Raises:
        TypeError: it is not a tensor of a floating point dtype.
        ValueError: the shape is wrong, a number is not finite, or a size is below 0.
    """
    entry = check_kind(f"state[{name!r}]", entry)
    if shape is not None and entry.shape != shape:
        raise ValueError(
            f"state must fit the jacobian: state[{name!r}] must have shape {shape}, "
            f"got {tuple(entry.shape)}; start again with None if objectives or parameters change"
        )
    # Momenta are as large as a jacobian, so take one pass: min and max return NaN if there is one.
    ends = [end.item() for end in entry.detach().aminmax()] if entry.numel() else []
    floor = 0.0 if sizes else -sys.float_info.max
    wrong = [end for end in ends if not floor <= end <= sys.float_info.max]
    if wrong:
        rule = "finite and at least 0" if sizes else "finite"
        raise ValueError(f"state[{name!r}] must be {rule}, got {wrong[0]}")


def array(entry: object) -> np.ndarray:
    """Return a checked tensor of a state as float64 on the host."""
    assert isinstance(entry, torch.Tensor)
    if entry.is_cpu and entry.dtype == torch.float64 and not entry.requires_grad:
        return entry.numpy()  # the form in which this library returned it
    return entry.detach().to("cpu", torch.float64).numpy()


def positive(name: str, number: float) -> None:
    """Refuse a number that is not positive and finite.

    Raises:
        ValueError: the number is not positive and finite.
    """
    if not 0 < number < float("inf"):
        raise ValueError(f"{name} must be positive and finite, got {number}")


@dataclass(frozen=True, eq=False)
class LossBalancing(WeightingSolver):
    """Weigh each loss by base * exp(sign * s); learn s so that weight * loss approaches base.

    Attributes:
        lr: of the learned numbers' own Adam.
    """

    needs_gradients: ClassVar[bool] = False
    _level: ClassVar[float]
    _sign: ClassVar[float]

    lr: float = 0.025

    def __post_init__(self) -> None:
        """Refuse a learning rate that is none."""
        positive("lr", self.lr)

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Weigh by the numbers so far, then learn from the values.

        Raises:
            ValueError: a value is negative.
        """
        values = problem.values
        refuse(problem, values < 0, f"{type(self).__name__} needs values of at least 0")
        known = recalled(state, LEARNED, (problem.r, problem.m))
        learned = Learned.start(problem, 0.0) if known is None else Learned.of(known)
        weights = self._level * np.exp(self._sign * learned.value)
        gradient = self._sign * (weights * values - self._level)
        after = learned.stepped(gradient, lr=self.lr, within=FARTHEST)
        return Answer(weights, state=after.plain())
