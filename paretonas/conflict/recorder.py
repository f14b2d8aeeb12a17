"""`Recorder`: the conflict of a training, recorded step by step."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from paretonas._atomic import replacing
from paretonas._spreadsheet import escaped_frame
from paretonas.conflict.layers import Layers
from paretonas.conflict.measures import TOLERANCE, check_tolerance
from paretonas.conflict.tables import layer_table, pair_table, task_table
from paretonas.gradients.gram import Gram
from paretonas.gradients.kind import check_kind
from paretonas.gradients.rows import Jacobian
from paretonas.solvers.problem import GradientProblem

if TYPE_CHECKING:
    import pandas as pd


class Recorder:
    """Record the angles and lengths of the gradients of a training, for tables and figures.

    Wrap a solver, `Recorded(UPGrad(), recorder)`, or call `record` in the training loop. A recorded
    step takes the time of one Gram matrix, or two to three with layers. It stores m (m + 3) / 2
    numbers, and nearly as many for each layer, but no gradient.

    Attributes:
        names: the names of the tasks, in the order of the rows; by default numbers.
        layers: the layer of each parameter; None records only the whole network.
        every: record every k-th call, starting with the first, where k is this number.
        tolerance: a pair counts as orthogonal up to this cosine, see `pair_states`.

    Raises:
        ValueError: the names are not distinct, or an argument is out of its range.

    >>> import torch
    >>> recorder = Recorder(("left", "right"))
    >>> for step in range(3):
    ...     recorder.record(torch.tensor([[1.0, 0.0], [1.0 - step, 1.0]]))
    >>> recorder.frame()[["step", "cosine", "state"]]
       step    cosine       state
    0     0  0.707107     synergy
    1     1  0.000000  orthogonal
    2     2 -0.707107    conflict
    """

    def __init__(
        self,
        names: Sequence[str] | None = None,
        *,
        layers: Layers | None = None,
        every: int = 1,
        tolerance: float = TOLERANCE,
    ) -> None:
        """Start with an empty record."""
        self.names = None if names is None else tuple(names)
        if self.names is not None and len({*self.names}) < len(self.names):
            raise ValueError(f"names of tasks must be distinct, got {list(self.names)}")
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        check_tolerance(tolerance)
        self.layers = layers
        self.every = every
        self.tolerance = tolerance
        self._calls = 0
        # One entry per recorded step and ray: first the whole network, then each layer.
        self._steps: list[int] = []
        self._rays: list[int] = []  # -1 for a jacobian without rays
        self._cosines: list[np.ndarray] = []  # (1 + layers, pairs)
        self._norms: list[np.ndarray] = []  # (1 + layers, m)
        self._weights: list[np.ndarray] = []  # (m,), NaN where unknown

    def __repr__(self) -> str:
        named = "any tasks" if self.names is None else ", ".join(self.names)
        return f"Recorder({named}: {len(set(self._steps))} steps recorded)"

    def __len__(self) -> int:
        """The number of recorded steps; each ray counts."""
        return len(self._steps)

    def record(
        self,
        jacobian: Jacobian,
        *,
        step: int | None = None,
        weights: Float[Tensor, "*r m"] | None = None,
    ) -> None:
        """Record the gradients of one step.

        Args:
            jacobian: the gradients of m tasks, in any form that a solver takes.
            step: the number of the step; None counts the calls from 0.
            weights: the weights of the gradients in the direction, such as those of a solver.

        Raises:
            TypeError: the jacobian or the weights are not made of floating point tensors.
            ValueError: an entry is not finite, or the jacobian does not fit the names, the layers
                or what was recorded before.
        """
        if self._calls % self.every == 0:
            self._keep(jacobian, self._calls if step is None else int(step), weights)
        self._calls += 1

    def latest(self) -> Float[Tensor, "*r pairs"]:
        """Return the cosines of the pairs in the last recorded step, for example for a schedule.

        If the jacobian has rays, return the cosines of each ray.

        Raises:
            ValueError: nothing was recorded.
        """
        if not self._steps:
            raise ValueError("there are no latest cosines: nothing was recorded")
        if self._rays[-1] < 0:
            return torch.from_numpy(self._cosines[-1][0].copy())
        rays = self._cosines[-1 - self._rays[-1] :]
        return torch.from_numpy(np.stack([cosines[0] for cosines in rays]))

    def frame(self) -> pd.DataFrame:
        """Return a row per step and pair, for the whole network.

        The columns are step, ray (if the jacobian has rays), task, other, pair, cosine,
        magnitude_similarity, state.
        """
        return pair_table(self)

    def layer_frame(self) -> pd.DataFrame:
        """Return a row per step, layer and pair, with the columns of `frame` and a column layer."""
        return layer_table(self)

    def task_frame(self) -> pd.DataFrame:
        """Return a row per step and task.

        The columns are step, ray (if the jacobian has rays), task, norm, dominance, weight (NaN if
        none was given), contribution (to the plain sum if no weight was given); see the functions
        `dominance` and `contribution`.
        """
        return task_table(self)

    def figure(self) -> Any:
        """Draw a plotly figure: the pairs over time, the layers, and the dominance of each task.

        Up to four tasks get a line per pair. More tasks get the share of pairs in conflict over
        time, and a heat map of the share of steps in which each pair was in conflict.

        Raises:
            ValueError: nothing was recorded, or there is only one task.
        """
        from paretonas.conflict.picture import draw

        return draw(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the figure (.html, one file that loads nothing) or the table (.csv).

        Raises:
            ValueError: the suffix is another one, there is nothing to draw, or the path cannot be
                written.
        """
        target = Path(path)
        if target.suffix not in (".html", ".csv"):
            raise ValueError(f"a record is saved as .html or .csv, got {target.name}")
        with replacing(target) as draft:
            if target.suffix == ".html":
                self.figure().write_html(
                    draft, config={"responsive": True, "displayModeBar": False}
                )
            else:
                escaped_frame(self.frame()).to_csv(draft, index=False)
        return target

    def state_dict(self) -> dict[str, object]:
        """Return the whole record as plain values and tensors, for a checkpoint."""
        return {
            "names": None if self.names is None else list(self.names),
            "layers": [] if self.layers is None else list(self.layers.names),
            "calls": self._calls,
            "steps": list(self._steps),
            "rays": list(self._rays),
            "cosines": torch.from_numpy(self.cosines),
            "norms": torch.from_numpy(self.norms),
            "weights": torch.from_numpy(self.weights),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the record by one that `state_dict` returned.

        Raises:
            ValueError: that record has other tasks or layers.
        """
        layers = [] if self.layers is None else list(self.layers.names)
        names = None if state["names"] is None else tuple(state["names"])
        if layers != state["layers"] or (None not in (names, self.names) and names != self.names):
            raise ValueError(
                f"the record is of tasks {names} and layers {state['layers']}, "
                f"this recorder of tasks {self.names} and layers {layers}"
            )
        self.names = names or self.names
        self._calls = state["calls"]
        self._steps, self._rays = list(state["steps"]), list(state["rays"])
        self._cosines = list(state["cosines"].double().cpu().numpy().copy())
        self._norms = list(state["norms"].double().cpu().numpy().copy())
        self._weights = list(state["weights"].double().cpu().numpy().copy())

    @property
    def steps(self) -> np.ndarray:
        """The step number of each entry, (entries,)."""
        return np.array(self._steps, dtype=np.int64)

    @property
    def rays(self) -> np.ndarray:
        """The ray of each entry, (entries,); -1 for a jacobian without rays."""
        return np.array(self._rays, dtype=np.int64)

    @property
    def cosines(self) -> Float[np.ndarray, "entries places pairs"]:
        """Cosines in the whole network, then in each layer; pairs in the order of `itertools`."""
        m = len(self.names or ())
        return _stacked(self._cosines, (self._places, m * (m - 1) // 2))

    @property
    def norms(self) -> Float[np.ndarray, "entries places m"]:
        """Lengths of the gradients of the whole network, then of each layer."""
        return _stacked(self._norms, (self._places, len(self.names or ())))

    @property
    def weights(self) -> Float[np.ndarray, "entries m"]:
        """Weights in the direction, NaN if unknown."""
        return _stacked(self._weights, (len(self.names or ()),))

    def _keep(self, jacobian: Jacobian, step: int, weights: Tensor | None) -> None:
        whole = GradientProblem(jacobian)
        m = whole.m
        names = tuple(str(i) for i in range(m)) if self.names is None else self.names
        if len(names) != m:
            raise ValueError(f"the recorder has {len(names)} tasks, the jacobian {m} rows")
        known = np.full((whole.r, m), np.nan)
        if weights is not None:
            check_kind("weights", weights)
            expected = (whole.r, m) if whole.batched else (m,)
            if weights.shape != expected:
                raise ValueError(
                    f"weights must have shape {expected} to fit the jacobian, "
                    f"got {tuple(weights.shape)}"
                )
            known[:] = weights.detach().to("cpu", torch.float64).numpy()
        if self.layers is None:
            grams = [whole.gram]
        else:
            parts = [GradientProblem(part).gram for part in self.layers.split(jacobian).values()]
            grams = [_sum(parts), *parts]
        one, other = np.triu_indices(m, 1)
        cosines = np.stack([gram.cosines[:, one, other] for gram in grams], axis=1)
        norms = np.stack([gram.norms for gram in grams], axis=1)
        self.names = names
        for ray in range(whole.r):
            self._steps.append(step)
            self._rays.append(ray if whole.batched else -1)
            self._cosines.append(cosines[ray])
            self._norms.append(norms[ray])
            self._weights.append(known[ray])

    @property
    def _places(self) -> int:
        return 1 + (0 if self.layers is None else len(self.layers.names))


def _sum(grams: Sequence[Gram]) -> Gram:
    """The Gram matrix of rows that are joined from the rows of the parts."""
    norms = np.stack([gram.norms for gram in grams])  # (parts, r, m)
    peaks = norms.max(0)
    parts = norms / np.where(peaks > 0, peaks, 1.0)
    cosines = np.stack([gram.cosines for gram in grams])
    products = (parts[..., :, None] * cosines * parts[..., None, :]).sum(0)
    whole = Gram.of_matrix(products)
    return Gram(whole.cosines, whole.norms * peaks)


def _stacked(entries: list[np.ndarray], empty: tuple[int, ...]) -> np.ndarray:
    return np.stack(entries) if entries else np.zeros((0, *empty))
