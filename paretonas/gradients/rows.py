"""Gradients in the caller's memory: one tensor, rows, blocks, or pieces of rows.

Two of the three tiers of speed are here; ``Rows.few`` selects one. *Few*: up to 2^16 numbers per
ray are copied to the host (``host``, ``wide``). There numpy needs a third to a half of torch's
time, which is only call overhead. *Many*: longer rows are read on their device, in blocks of at
most 2^16 columns (``blocks``, ``parts``, ``weighted_sum``), at the speed of memory and without a
copy of the whole. The third tier, one small matrix in plain Python numbers, is in `gram`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch._utils import _flatten_dense_tensors

from paretonas.gradients.kind import FLOATS, check_kind

__all__ = ["Jacobian"]

SMALL = 2**16  # up to this many numbers per ray, all rows are copied to the host
NUMPY = {torch.float32: np.float32, torch.float64: np.float64, torch.float16: np.float16}
PACK = 2**16  # columns that are joined at once, so that the copy stays in the cache

Jacobian = Tensor | Sequence[Tensor] | Sequence[Sequence[Tensor | None]]
"""The forms of a jacobian: (m, n) or (r, m, n); a list of m rows (n,); a list of blocks (m, ...),
one per parameter; or a list of m lists with one tensor per parameter, None for zeros."""


class Rows:
    """The gradients of m objectives for each of r rays, read in blocks of columns.

    Attributes:
        r: the number of rays; a single jacobian counts as one.
        m: the number of objectives.
        n: the number of parameters.
        batched: whether the caller gave (r, m, n).
        dtype: the dtype of the rows and of the direction.
        device: the device of the rows.
        native: the numpy dtype of the rows if numpy can read them without a copy, else None.
    """

    _wide: np.ndarray | None = None

    def __init__(self, jacobian: Jacobian) -> None:
        """Accept every form of a jacobian.

        Raises:
            TypeError: it is not made of floating point tensors.
            ValueError: shapes or devices do not fit together.
        """
        if isinstance(jacobian, Tensor):
            check_kind("jacobian", jacobian)
            shape = jacobian.shape
            if len(shape) not in (2, 3):
                raise ValueError(
                    f"jacobian must have shape (m, n) or (r, m, n), got {tuple(shape)}"
                )
            if 0 in shape:
                raise ValueError(
                    "jacobian must have at least one ray, one row and one column, "
                    f"got shape {tuple(shape)}"
                )
            self.batched = len(shape) == 3
            whole = jacobian.detach() if jacobian.requires_grad else jacobian
            self._parts: list[Tensor | list[Tensor]] = [whole]
            self.r: int = shape[0] if self.batched else 1
            self.m: int = shape[-2]
            self.n: int = shape[-1]
            self.dtype, self.device = whole.dtype, whole.device
            self.native = NUMPY.get(whole.dtype) if whole.is_cpu else None
            return
        self.batched = False
        self.r = 1
        self._parts = _parts(jacobian)
        first = self._parts[0]
        self.m = first.shape[-2] if isinstance(first, Tensor) else len(first)
        self.n = sum(_width(part) for part in self._parts)
        leaves = [leaf for part in self._parts for leaf in _leaves(part)]
        self.dtype, self.device = leaves[0].dtype, leaves[0].device
        devices, dtypes = {leaf.device for leaf in leaves}, {leaf.dtype for leaf in leaves}
        if len(devices) > 1:
            raise ValueError(f"jacobian must be on one device, got {sorted(map(str, devices))}")
        for dtype in dtypes:
            self.dtype = torch.promote_types(self.dtype, dtype)
        self.native = NUMPY.get(self.dtype) if self.device.type == "cpu" else None
        if self.n <= PACK:
            self._parts = [self.dense()[0]]

    def blocks(self) -> Iterator[Float[Tensor, "r m b"]]:
        """Iterate over the columns from left to right.

        A part that is one tensor is returned without a copy. Other parts are copied, at most 2^16
        columns at a time; each copy is valid until the next one is read.
        """
        if len(self._parts) == 1 and isinstance(self._parts[0], Tensor):
            yield self.dense()
            return
        scratch = torch.empty(1, self.m, min(self.n, PACK), dtype=self.dtype, device=self.device)
        waiting: list[Tensor | list[Tensor]] = []
        filled = 0
        for part in self.parts():
            width = _width(part)
            whole = isinstance(part, Tensor) and width > PACK // 2 and part.dtype == self.dtype
            if waiting and (whole or filled + width > PACK):
                yield self._packed(waiting, scratch[..., :filled])
                waiting, filled = [], 0
            if whole:
                assert isinstance(part, Tensor)
                yield part
            else:
                waiting.append(part)
                filled += width
        if waiting:
            yield self._packed(waiting, scratch[..., :filled])

    def parts(self) -> Iterator[Float[Tensor, "r m b"] | list[Float[Tensor, " b"]]]:
        """Iterate over the columns from left to right without a copy.

        A part is a block of all rows, or a list of m pieces of at most 2^16 columns each.
        """
        for part in self._parts:
            if isinstance(part, Tensor):
                whole = part if part.ndim == 3 else part.unsqueeze(0)
                yield from (whole,) if part.dtype == self.dtype else whole.split(PACK, dim=-1)
            elif _width(part) <= PACK:
                yield part
            else:
                yield from (list(cut) for cut in zip(*(p.split(PACK) for p in part), strict=True))

    @property
    def few(self) -> bool:
        """Whether there are so few numbers that numpy on the host is faster."""
        return self.m * self.n <= SMALL

    def host(self) -> Float[np.ndarray, "*r m n"]:
        """Return few rows on the host, in their dtype if numpy has it; do not write to it."""
        only = self._parts[0]
        assert isinstance(only, Tensor)
        if self.native is not None:
            return only.numpy()
        if self.dtype in NUMPY:
            return only.cpu().numpy()
        return only.to("cpu", torch.float64).numpy()

    def wide(self) -> Float[np.ndarray, "*r m n"]:
        """Return few rows on the host in float64; do not write to the result."""
        if self._wide is None:
            self._wide = self.host().astype(np.float64, copy=False)
        return self._wide

    def dense(self) -> Float[Tensor, "r m n"]:
        """Return one tensor: the caller's own tensor if there is one, else a copy."""
        first = self._parts[0]
        if len(self._parts) == 1 and isinstance(first, Tensor):
            return first if first.ndim == 3 else first.unsqueeze(0)
        whole = torch.empty(1, self.m, self.n, dtype=self.dtype, device=self.device)
        return self._packed(self._parts, whole)

    def check_finite(self) -> None:
        """Refuse entries that are not finite.

        Raises:
            ValueError: a row has an entry that is NaN or infinite; the message names the row.
        """
        found: dict[str, float] = {}
        for block in self.blocks():
            broken = ~block.isfinite()
            for ray, i in broken.any(-1).nonzero().tolist():
                where = f"row {i}" + (f" of ray {ray}" if self.batched else "")
                found.setdefault(where, block[ray, i][broken[ray, i]][0].item())
        if found:
            named = ", ".join(list(found)[:8]) + (", ..." if len(found) > 8 else "")
            raise ValueError(
                f"jacobian must be finite, got {next(iter(found.values()))} in {named}"
            )

    def buffer(self, out: Tensor | None) -> Float[Tensor, "r n"]:
        """Return the memory for a direction: the caller's, or new memory.

        Raises:
            ValueError: the buffer does not fit.
        """
        if out is None:
            return torch.empty(self.r, self.n, dtype=self.dtype, device=self.device)
        check_kind("out", out)
        expected = (self.r, self.n) if self.batched else (self.n,)
        if out.shape != expected or out.dtype != self.dtype or out.device != self.device:
            raise ValueError(
                f"out must have shape {expected}, {self.dtype} on {self.device}, "
                f"got {tuple(out.shape)}, {out.dtype} on {out.device}"
            )
        memory = out.untyped_storage().data_ptr()
        leaves = (leaf for part in self._parts for leaf in _leaves(part))
        if any(leaf.untyped_storage().data_ptr() == memory for leaf in leaves):
            raise ValueError("out must not share memory with the jacobian")
        out = out.detach()
        return out if self.batched else out.unsqueeze(0)

    def _packed(self, parts: list[Tensor | list[Tensor]], into: Tensor) -> Tensor:
        if all(isinstance(part, Tensor) for part in parts):
            ends = list(accumulate(_width(part) for part in parts))
            for part, end in zip(parts, ends, strict=True):
                into[..., end - _width(part) : end] = part  # type: ignore[assignment]
            return into
        mixed = any(leaf.dtype != self.dtype for part in parts for leaf in _leaves(part))
        for i in range(self.m):
            pieces = [part[0, i] if isinstance(part, Tensor) else part[i] for part in parts]
            if mixed:
                pieces = [piece.to(self.dtype) for piece in pieces]
            torch.cat(pieces, out=into[0, i])
        return into


def _parts(jacobian: object) -> list[Tensor | list[Tensor]]:
    if not isinstance(jacobian, Sequence) or isinstance(jacobian, str):
        raise TypeError(
            "jacobian must be a torch.Tensor, a list of rows, a list of blocks or a list of lists, "
            f"got {type(jacobian).__name__}"
        )
    if not jacobian:
        raise ValueError("jacobian must have at least one row, got an empty list")
    if all(isinstance(entry, Sequence) for entry in jacobian):
        return _pieces([list(entry) for entry in jacobian])
    for i, entry in enumerate(jacobian):
        check_kind(f"jacobian[{i}]", entry)
    detached = [entry.detach() for entry in jacobian]
    sizes = [tuple(entry.shape) for entry in detached]
    if all(entry.ndim == 1 for entry in detached):
        if len(set(sizes)) > 1 or sizes[0] == (0,):
            raise ValueError(f"the rows of a jacobian must be equally long, got {sizes}")
        return [detached]
    if any(entry.ndim < 2 or entry.shape[0] != sizes[0][0] for entry in detached):
        raise ValueError(
            "a jacobian of blocks must have shapes (m, ...), one per parameter, with the same "
            f"m, got {sizes}"
        )
    filled = [entry for entry in detached if entry.numel() > 0]
    if not filled:
        raise ValueError(f"jacobian must have at least one row and one column, got shapes {sizes}")
    return [entry.flatten(1).unsqueeze(0) for entry in filled]


def _pieces(rows: Sequence[Sequence[Tensor | None]]) -> list[Tensor | list[Tensor]]:
    counts = [len(row) for row in rows]
    if len(set(counts)) > 1:
        raise ValueError(
            f"each row of a jacobian must have one tensor per parameter, got {counts} tensors"
        )
    full = _filled(rows)
    shapes = [piece.shape for piece in full[0]]
    for row in full[1:]:
        if [piece.shape for piece in row] != shapes:
            k = next(k for k, piece in enumerate(row) if piece.shape != shapes[k])
            raise ValueError(
                f"gradients of parameter {k} must have one shape, "
                f"got {tuple(shapes[k])} and {tuple(row[k].shape)}"
            )
    if sum(piece.numel() for piece in full[0]) == 0:
        raise ValueError("jacobian must have at least one column, got none")
    if sum(piece.numel() for piece in full[0]) <= PACK and len({p.dtype for p in full[0]}) == 1:
        with torch.no_grad():
            return [torch.stack([_flatten_dense_tensors(row) for row in full])]
    flat = [[piece.detach().reshape(-1) for piece in row] for row in full]
    return [list(column) for column in zip(*flat, strict=True) if column[0].numel() > 0]


def _filled(rows: Sequence[Sequence[Tensor | None]]) -> list[list[Tensor]]:
    # A missing gradient becomes zeros; everything else must be a tensor.
    full: list[list[Tensor]] = []
    for i, row in enumerate(rows):
        known: list[Tensor] = []
        for k, piece in enumerate(row):
            if piece is not None:
                known.append(piece)
                continue
            like = next((other[k] for other in rows if other[k] is not None), None)
            if like is None:
                raise ValueError(
                    f"no objective has a gradient for parameter {k}: leave it out of the jacobian"
                )
            check_kind(f"jacobian[{i}][{k}]", like)
            known.append(torch.zeros_like(like))
        full.append(known)
    for i, row in enumerate(full):
        for k, piece in enumerate(row):
            if not isinstance(piece, Tensor) or piece.dtype not in FLOATS or piece.is_sparse:
                check_kind(f"jacobian[{i}][{k}]", piece)
    return full


def _width(part: Tensor | list[Tensor]) -> int:
    return part.shape[-1] if isinstance(part, Tensor) else part[0].numel()


def _leaves(part: Tensor | list[Tensor]) -> list[Tensor]:
    return [part] if isinstance(part, Tensor) else part


def weighted_sum(
    rows: Rows,
    weights: Float[np.ndarray, "r m"],
    target: Float[Tensor, "r n"],
    wide: Bool[np.ndarray, " r"],
) -> Float[Tensor, "r n"]:
    """Write the weighted sum of the rows to ``target``; rays that are ``wide`` use float64."""
    halves = rows.dtype not in (torch.float32, torch.float64)
    exact = torch.from_numpy(weights).to(rows.device)
    start = 0
    for part in rows.parts():
        goal = target[:, start : start + _width(part)]
        start += _width(part)
        for k in range(rows.r):
            if isinstance(part, list):
                _add_up(part, weights[k].tolist(), goal[k], halves or bool(wide[k]))
            elif halves or wide[k]:
                for cut, piece in zip(
                    part[k].split(PACK, -1), goal[k].split(PACK, -1), strict=True
                ):
                    piece.copy_(exact[k] @ cut.double())
            else:
                torch.mv(part[k].T, exact[k].to(rows.dtype), out=goal[k])
    return target


def _add_up(terms: list[Tensor], weights: list[float], goal: Tensor, wide: bool) -> None:
    total = torch.zeros_like(goal, dtype=torch.float64) if wide else goal.zero_()
    for term, weight in zip(terms, weights, strict=True):
        total.add_(term, alpha=weight)
    if wide:
        goal.copy_(total)


def like(rows: Rows, array: Float[np.ndarray, "*r k"]) -> Float[Tensor, "*r k"]:
    """Return a tensor in the dtype and on the device of the rows."""
    if rows.native is not None:
        return torch.from_numpy(array.astype(rows.native, copy=False))
    return torch.from_numpy(array).to(rows.device, rows.dtype)


def weights_like(rows: Rows, weights: Float[np.ndarray, "*r m"]) -> Float[Tensor, "*r m"]:
    """Return weights of the rows on their device, in their dtype but at least float32."""
    if rows.native is np.float32 or rows.native is np.float64:
        return torch.from_numpy(weights.astype(rows.native, copy=False))
    if rows.dtype is torch.float32 or rows.dtype is torch.float64:
        return like(rows, weights)
    return torch.from_numpy(weights).to(rows.device, torch.float32)
