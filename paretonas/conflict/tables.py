"""The tidy tables of a record: one row per step and pair, or per step and task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from paretonas.conflict.measures import alike, direction_shares, length_shares

if TYPE_CHECKING:
    import pandas as pd

    from paretonas.conflict.recorder import Recorder

STATES = ("conflict", "orthogonal", "synergy")


def pair_table(record: Recorder) -> pd.DataFrame:
    """One row per step and pair, in the whole network."""
    return _pair_table(record, record.cosines[:, :1], record.norms[:, :1], None)


def layer_table(record: Recorder) -> pd.DataFrame:
    """One row per step, layer and pair."""
    layers = () if record.layers is None else record.layers.names
    return _pair_table(record, record.cosines[:, 1:], record.norms[:, 1:], layers)


def task_table(record: Recorder) -> pd.DataFrame:
    """One row per step and task."""
    import pandas as pd

    names, entries = record.names or (), len(record)
    norms, weights = record.norms[:, 0], record.weights
    shares, brought = norms, norms
    if entries:
        shares = length_shares(norms)
        known = np.where(np.isnan(weights), 1.0, weights)
        brought = direction_shares(_square(record.cosines[:, 0], len(names)), norms, known)
    return pd.DataFrame(
        {
            **_clock(record, len(names)),
            "task": _named(np.tile(np.arange(len(names)), entries), names),
            "norm": norms.ravel(),
            "dominance": shares.ravel(),
            "weight": weights.ravel(),
            "contribution": brought.ravel(),
        }
    )


def codes(cosines: np.ndarray, tolerance: float) -> np.ndarray:
    """The index in ``STATES`` of each cosine."""
    return 1 + (cosines > tolerance).astype(int) - (cosines < -tolerance)


def pair_names(names: Sequence[str]) -> list[str]:
    """Join the names of each two tasks, in the order of the record."""
    return [f"{one} / {other}" for i, one in enumerate(names) for other in names[i + 1 :]]


def _pair_table(
    record: Recorder, cosines: np.ndarray, norms: np.ndarray, layers: Sequence[str] | None
) -> pd.DataFrame:
    import pandas as pd

    names = record.names or ()
    one, other = np.triu_indices(len(names), 1)
    entries, places, pairs = cosines.shape
    columns: dict[str, Any] = _clock(record, places * pairs)
    if layers is not None:
        columns["layer"] = _named(np.tile(np.repeat(np.arange(places), pairs), entries), layers)
    times = entries * places
    columns |= {
        "task": _named(np.tile(one, times), names),
        "other": _named(np.tile(other, times), names),
        "pair": _named(np.tile(np.arange(len(one)), times), pair_names(names)),
        "cosine": cosines.ravel(),
        "magnitude_similarity": alike(norms[..., one], norms[..., other]).ravel(),
        "state": _named(codes(cosines, record.tolerance).ravel(), STATES),
    }
    return pd.DataFrame(columns)


def _clock(record: Recorder, times: int) -> dict[str, np.ndarray]:
    columns = {"step": np.repeat(record.steps, times)}
    if (record.rays >= 0).any():
        columns["ray"] = np.repeat(record.rays, times)
    return columns


def _named(which: np.ndarray, names: Sequence[str]) -> Any:
    import pandas as pd

    # pandas would guess the type of an empty index; these are words.
    return pd.Categorical.from_codes(which.astype(np.int64), pd.Index(list(names), dtype="str"))


def _square(pairs: np.ndarray, m: int) -> np.ndarray:
    one, other = np.triu_indices(m, 1)
    full = np.broadcast_to(np.eye(m), (len(pairs), m, m)).copy()
    full[:, one, other] = full[:, other, one] = pairs
    return full
