"""A pretended CUDA device: real numbers in the host's memory, at a place that is only noted.

So whole searches run on it, and what a GPU would refuse is refused: tensors of two devices in one
operation, numpy on a tensor of the device, a generator of the other device. What a GPU would wait
for is counted, by the function of the project that asks for it: copies between host and device,
and numbers that are read.

Two modes of torch do this. The one of functions sees what Python calls: it answers `.device`, and
takes the device out of the arguments. The one of operators sees what torch runs, also in backward
passes, and notes the place of each result. A place belongs to memory, so views share it.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils import _device
from torch.utils._python_dispatch import TorchDispatchMode

HERE = Path(__file__)
ROOT = HERE.parents[2]
INSIDE = ("<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>")  # of the function that is named
CUDA = torch.device("cuda", 0)
aten = torch.ops.aten
READS = {  # operators that wait for the device, to know a number or a size
    aten._local_scalar_dense,
    aten.equal,
    aten.nonzero,
    aten.masked_select,
    aten.unique_consecutive,
    aten._unique2,
    aten.bincount,
}
ALL_ON_ONE = {aten.cat, aten.stack}  # others take tensors of no dimension from the host
FROM_DATA = {torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor}
ON_HOST_ONLY = {Tensor.numpy, Tensor.__array__}
ANSWERS = {  # of a tensor on the device
    Tensor.device.__get__: CUDA,
    Tensor.is_cuda.__get__: True,
    Tensor.is_cpu.__get__: False,
}


class PretendedCuda(TorchFunctionMode):
    """Inside, ``torch.device("cuda")`` is there.

    Attributes:
        crossings: how often the host and the device exchanged something, by what it was, ``read``,
            ``to host`` or ``to device``, and by the function that did it.
    """

    def __init__(self) -> None:
        self.crossings: Counter[str] = Counter()
        self._held: dict[int, StorageWeakRef] = {}  # what is on the device; keeps addresses taken
        self._creating = False  # whether what is made from nothing is made on the device
        self.copying = False  # whether a tensor of the device is copied, to new memory there
        self._operators = _Operators(self)

    def __enter__(self) -> PretendedCuda:
        super().__enter__()
        self._operators.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._operators.__exit__(*error)
        super().__exit__(*error)

    def since(self) -> Counter[str]:
        """The crossings since this was asked last."""
        found, self.crossings = self.crossings, Counter()
        return found

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor is on the device."""
        with torch._C.DisableTorchFunction():
            return (key := _key(tensor)) is not None and key in self._held

    def put(self, tensor: Tensor, there: bool) -> None:
        """Note that a tensor is on the device, or that it is not."""
        with torch._C.DisableTorchFunction():
            if tensor.is_meta or (key := _key(tensor)) is None:
                return
            if there:
                self._held[key] = StorageWeakRef(tensor.untyped_storage())
            else:
                self._held.pop(key, None)

    def crosses(self, what: str) -> None:
        """Count a crossing."""
        frame, place = sys._getframe(1), "elsewhere"
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            ours = path.is_relative_to(ROOT) and path != HERE and ".venv" not in path.parts
            if ours and frame.f_code.co_name not in INSIDE:
                place = f"{path.relative_to(ROOT).as_posix()} {frame.f_code.co_name}"
                break
            frame = frame.f_back
        self.crossings[f"{what}: {place}"] += 1

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in ANSWERS and self.holds(args[0]):
            return ANSWERS[func]
        if func in ON_HOST_ONLY and self.holds(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if func is Tensor.tolist and self.holds(args[0]):
            self.crosses("read")
        if func in (Tensor.to, Tensor.cpu, Tensor.cuda):
            return self._moved(func, list(args), kwargs)
        wanted = kwargs.get("device")
        if wanted is None and func in _device._device_constructors():
            wanted = _device.CURRENT_DEVICE  # of ``with device:``
        if wanted is None and func is Tensor.new_tensor and self.holds(args[0]):
            wanted = CUDA
        if wanted is None or torch.device(wanted).type == "meta":
            return self._run(func, args, kwargs, any(map(self.holds, _tensors(args, kwargs))))
        there = torch.device(wanted).type == "cuda"
        kwargs["device"] = "cpu"
        generator = kwargs.get("generator")
        if generator is not None and there:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        if func in (torch.as_tensor, torch.asarray) and isinstance(args[0], Tensor):
            return self._moved(Tensor.to, [args[0]], {**kwargs, "device": wanted})
        made = self._run(func, args, kwargs, there)
        if func in FROM_DATA and there:
            self.crosses("to device")
            made = made.clone()  # it may share the memory of an array
        for tensor in _tensors((made,), {}):
            self.put(tensor, there)
        return made

    def _run(self, func: Any, args: Any, kwargs: dict[str, Any], creating: bool) -> Any:
        before = self._creating, self.copying
        self._creating, self.copying = creating, creating and func is Tensor.__deepcopy__
        try:
            return func(*args, **kwargs)
        finally:
            self._creating, self.copying = before

    def _moved(self, func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """`Tensor.to` and the like."""
        there = here = self.holds(args[0])
        other = kwargs.pop("other", args[1] if len(args) > 1 else None)
        if func is not Tensor.to:
            there = func is Tensor.cuda
            args, kwargs = args[:1], {}
        elif isinstance(other, Tensor):
            there = self.holds(other)
            args, kwargs = args[:1], kwargs | {"dtype": other.dtype}
        elif isinstance(other, str | torch.device) and torch.device(other).type != "meta":
            there, args[1] = torch.device(other).type == "cuda", "cpu"
        elif torch.device(kwargs.get("device") or "meta").type != "meta":
            there = torch.device(kwargs["device"]).type == "cuda"
            kwargs["device"] = "cpu"
        if there != here:
            self.crosses("to device" if there else "to host")
            args[0] = _Moved.apply(args[0], there, self)
        return self._run(Tensor.to, args, kwargs, there) if args[1:] or kwargs else args[0]


class _Operators(TorchDispatchMode):
    """Refuses operators on tensors of two devices, and notes where results are."""

    def __init__(self, device: PretendedCuda) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        with torch._C.DisableTorchFunction():
            return self._run(func, args, kwargs or {})

    def _run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        device = self._device
        found = [t for t in _tensors(args, kwargs) if not t.is_meta]
        there = [device.holds(t) for t in found]
        what = func.overloadpacket
        if what is aten.copy_:
            if device.copying:
                device.put(args[0], True)
            elif there[0] != there[1]:
                device.crosses("to device" if there[0] else "to host")
            return func(*args, **kwargs)
        if any(there):
            lone = what not in ALL_ON_ONE and not (func._schema.is_mutable and not there[0])
            if not all(
                here or (lone and t.ndim == 0) for t, here in zip(found, there, strict=True)
            ):
                raise RuntimeError(
                    "Expected all tensors to be on the same device, but found at least two devices,"
                    f" cuda:0 and cpu! (when checking arguments of {func})"
                )
            if what in READS or _by_a_mask(what, args):
                device.crosses("read")
        made = func(*args, **kwargs)
        known = {_key(t) for t in found}
        if any(there) or (not found and device._creating):
            for tensor in _tensors((made,), {}):
                if _key(tensor) not in known:
                    device.put(tensor, True)
        return made


class _Moved(torch.autograd.Function):
    """A copy at the other place; its gradient goes back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, there: bool, device: PretendedCuda) -> Tensor:
        ctx.there, ctx.device = there, device
        copy = tensor.detach().clone()
        device.put(copy, there)
        return copy

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        ctx.device.crosses("to host" if ctx.there else "to device")
        copy = gradient.clone()
        ctx.device.put(copy, not ctx.there)
        return copy, None, None


def _by_a_mask(what: Any, args: Any) -> bool:
    """Whether an index is a mask, of which the device counts what it takes."""
    if what not in (aten.index, aten.index_put, aten.index_put_):
        return False
    return any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1])


def _key(tensor: Tensor) -> int | None:
    """The memory of a tensor."""
    try:
        key: int = tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):  # it has none
        return None
    return key


def _tensors(args: Any, kwargs: dict[str, Any]) -> Iterator[Tensor]:
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value, {})


@pytest.fixture
def cuda() -> Iterator[PretendedCuda]:
    """A machine with a GPU, for the time of a test."""
    with PretendedCuda() as device:
        yield device
