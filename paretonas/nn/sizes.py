"""Sizes: numbers of channels, heads or kernel cells that are choices, and the arithmetic on them.

A size also knows which parts of the largest size a pick keeps. So a layer can cut its weights for
the pick: a `Width` keeps the first channels, a `Kernel` the center, a concatenation ``v + w`` the
first channels of both.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import product
from math import floor, inf, prod
from typing import Any, ClassVar, overload

import numpy as np
import torch
from torch import Tensor

from .choices import RECOMPUTED, Chooser
from .extraction import Extraction

Range = tuple[int, int]
Numbers = Callable[["SizeChoice"], int]
MOST_COMBINATIONS = 4096  # picks of the choices in one size, of which a mixture is made


class Size:
    """A number that depends on choices: a `Width`, a `Kernel`, `Heads`, or arithmetic on them.

    ``v + w``
        a concatenation: the channels of v, then those of w.
    ``w * 64``
        each channel becomes 64 features in a row, as in the flatten of (channels, 8, 8).
    ``64 * w``
        64 blocks of w each: ``3 * w`` is a query, a key and a value; ``groups * w`` the channels of
        a grouped convolution, w for each group.
    ``heads * w``
        of two sizes: w for each head.
    ``w // 4``, ``w * 0.25``, ``w * ratio``, ``largest(v, w)``, ``make_divisible(w * 0.25, 8)``
        the first channels, as many as the number says; a fraction is rounded down.

    In a forward pass it is also the number of the current pick, in a mixture the largest one:
    `int(size)`, ``x * size``, ``size == 8``, ``range(size)``, ``x.view(n, size, -1)``. So the code
    works in the supernet and in an extracted network, where each size is a plain number. Functions
    that take nothing but a number of Python, such as `torch.split` and `torch.arange`, members of a
    set and keys of a dict need `int(size)`.

    Outside of a forward pass two sizes are equal if they are the same arithmetic on the same
    choices.
    """

    @property
    def leaves(self) -> tuple[SizeChoice, ...]:
        """The choices that it depends on, each once."""
        raise NotImplementedError

    def exactly(self, numbers: Numbers) -> int | float:
        """The number, before a fraction is rounded down, for the numbers of the choices."""
        raise NotImplementedError

    def number(self, numbers: Numbers) -> int:
        """The number for the numbers of the choices."""
        return floor(self.exactly(numbers))

    def ranges(self, numbers: Numbers) -> tuple[Range, ...]:
        """What is kept of the largest size, as ranges [start, stop)."""
        return ((0, self.number(numbers)),)

    @property
    def largest(self) -> int:
        """The largest number."""
        return self.number(SizeChoice.most)

    @property
    def smallest(self) -> int:
        """The smallest number."""
        return self.number(SizeChoice.least)

    def values(self) -> tuple[int, ...]:
        """All numbers that it can be, increasing."""
        return tuple(sorted({self.number(numbers) for numbers, _ in self._combinations()}))

    def __int__(self) -> int:
        return self.number(SizeChoice.now)

    __index__ = __int__

    @property
    def channels(self) -> int:
        """The number of the current pick; in a mixture, the largest number."""
        return int(self)

    def kept(self) -> tuple[Range, ...]:
        """What the current pick keeps of the largest size; in a mixture, all of it."""
        return self.ranges(SizeChoice.now)

    def exists(self) -> Tensor | None:
        """The probability that each part exists, (largest,); None if all picks are decided."""
        if not any(isinstance(leaf.gate, Tensor) for leaf in self.leaves):
            return None
        return self._exists()

    def _exists(self) -> Tensor:
        combinations = list(self._combinations())
        chance = torch.stack([weight() for _, weight in combinations])
        rows = chance.new_zeros(len(combinations), self.largest)
        for row, (numbers, _) in zip(rows, combinations, strict=True):
            for start, stop in self.ranges(numbers):
                row[start:stop] = 1
        return chance @ rows

    def mask(self, y: Tensor, axis: int) -> Tensor:
        """`y`, with each part along `axis` multiplied by the probability that it exists."""
        exists = self.exists()
        return y if exists is None else y * _along(exists.to(y.dtype), y, axis)

    def possible(self, x: Tensor, axis: int) -> Tensor:
        """`x`, with zeros in the parts along `axis` that exist with probability zero.

        These parts are read by nobody, so they may have any value, and need not be finite.
        """
        exists = self.exists()
        return x if exists is None else x.masked_fill(_along(exists <= 0, x, axis), 0)

    def _combinations(self) -> Iterator[tuple[Numbers, Callable[[], Tensor]]]:
        """The numbers of all picks of the choices, and the probability of each combination."""
        leaves = self.leaves
        count = prod(len(leaf.numbers) for leaf in leaves)
        if count > MOST_COMBINATIONS:
            raise ValueError(
                f"a size may depend on at most {MOST_COMBINATIONS} combinations of picks, got "
                f"{count} of {len(leaves)} choices"
            )
        for picks in product(*(range(len(leaf.numbers)) for leaf in leaves)):
            found = {id(leaf): leaf.numbers[pick] for leaf, pick in zip(leaves, picks, strict=True)}

            def numbers(leaf: SizeChoice, found: dict[int, int] = found) -> int:
                return found[id(leaf)]

            def weight(picks: tuple[int, ...] = picks) -> Tensor:
                gates = [leaf.chances() for leaf in leaves]
                chosen = [gate[pick] for gate, pick in zip(gates, picks, strict=True)]
                return torch.stack(torch.broadcast_tensors(*chosen)).prod(0)

            yield numbers, weight

    def same(self, other: object) -> bool:
        """Whether the other is the same arithmetic on the same choices."""
        return isinstance(other, Size) and self._key() == other._key()

    def _key(self) -> tuple[Any, ...]:
        """Equal for the same arithmetic on the same choices."""
        return type(self), *(_key(getattr(self, part.name)) for part in fields(self))  # type: ignore[arg-type]

    def has_value(self) -> bool:
        """Whether it is a number now: all its choices have a pick or are mixed."""
        return all(leaf.gate is not None for leaf in self.leaves)

    def value(self) -> Any:
        """The number of the current pick; of a `Ratio`, the factor."""
        return int(self)

    # What is a size only makes sense of sizes and positive numbers. In a forward pass all else is
    # a number, as in an extracted network.

    def __add__(self, other: Any) -> Any:
        return _either(_Sum.of, operator.add, self, other)

    def __radd__(self, other: Any) -> Any:
        return _either(_Sum.of, operator.add, other, self)

    def __mul__(self, other: Any) -> Any:
        return _either(_times, operator.mul, self, other)

    def __rmul__(self, other: Any) -> Any:
        return _either(_times, operator.mul, other, self)

    def __floordiv__(self, other: Any) -> Any:
        return _either(_Quotient.of, operator.floordiv, self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return other // self.value()

    def __sub__(self, other: Any) -> Any:
        return self.value() - _value(other)

    def __rsub__(self, other: Any) -> Any:
        return other - self.value()

    def __truediv__(self, other: Any) -> Any:
        return self.value() / _value(other)

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.value()

    def __mod__(self, other: Any) -> Any:
        return self.value() % _value(other)

    def __rmod__(self, other: Any) -> Any:
        return other % self.value()

    def __pow__(self, exponent: Any) -> Any:
        return self.value() ** _value(exponent)

    def __rpow__(self, base: Any) -> Any:
        return base ** self.value()

    def __divmod__(self, other: Any) -> Any:
        return divmod(self.value(), _value(other))

    def __rdivmod__(self, other: Any) -> Any:
        return divmod(other, self.value())

    def __trunc__(self) -> int:
        return int(self.value())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self.value(), dtype)

    def __abs__(self) -> Any:
        return abs(self.value())

    def __round__(self, digits: int | None = None) -> Any:
        return round(self.value(), digits)

    def __neg__(self) -> Any:
        return -self.value()

    def __lt__(self, other: Any) -> Any:
        return self.value() < _value(other)

    def __le__(self, other: Any) -> Any:
        return self.value() <= _value(other)

    def __gt__(self, other: Any) -> Any:
        return self.value() > _value(other)

    def __ge__(self, other: Any) -> Any:
        return self.value() >= _value(other)

    def __eq__(self, other: object) -> Any:
        return self.value() == _value(other) if _have_values(self, other) else self.same(other)

    def __hash__(self) -> int:
        return hash(self._key())

    def __format__(self, form: str) -> str:
        return format(self.value() if self.has_value() else repr(self), form)

    def __str__(self) -> str:
        return format(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if isinstance(memo, Extraction):
            return Picked(int(self))
        twin = object.__new__(type(self))
        memo[id(self)] = twin
        # The parts of a size are sizes, tuples of sizes and plain numbers.
        for name, value in vars(self).items():
            object.__setattr__(twin, name, copy.deepcopy(value, memo))
        return twin


class Picked(int):
    """The number of a size in an extracted network: an integer with the arithmetic of sizes."""

    @property
    def channels(self) -> int:
        """The number itself."""
        return int(self)

    def __mul__(self, factor: Any) -> Any:  # a fraction is rounded down, as of a size
        fraction = isinstance(factor, float) and 0 < factor < inf
        return Picked(int(self) * factor) if fraction else int(self) * factor

    __rmul__ = __mul__

    def __deepcopy__(self, memo: object) -> Picked:
        return self


class SizeChoice(Chooser, Size):
    """The base of the choices among numbers: a gate, and the number of each option.

    Attributes:
        numbers: of the options, increasing; integers, except those of a `Ratio`.
    """

    _kind: ClassVar[Any] = int  # of the numbers

    def __init__(self, numbers: Sequence[Any], name: str | None = None) -> None:
        kind = type(self).__name__.lower()
        kind = kind if kind.endswith("s") else f"{kind}s"
        if any(not isinstance(n, self._kind) or isinstance(n, bool) for n in numbers):
            rule = "integers" if self._kind is int else "numbers"
            raise ValueError(f"{kind} must be {rule}, got {list(numbers)}")
        if not all(0 < n < inf for n in numbers) or list(numbers) != sorted(set(numbers)):
            raise ValueError(f"{kind} must be positive and increasing, got {list(numbers)}")
        super().__init__([str(number).removesuffix(".0") for number in numbers], name)
        self.numbers: tuple[Any, ...] = tuple(numbers)

    @property
    def leaves(self) -> tuple[SizeChoice, ...]:
        return (self,)

    def exactly(self, numbers: Numbers) -> int | float:
        return numbers(self)

    def gated(self) -> int | Tensor:
        if self.gate is None:
            kind = type(self).__name__
            raise RuntimeError(
                f"this {kind} has no pick yet, so it is no number: give it to the elastic layers "
                "of paretonas.nn, such as paretonas.nn.Conv2d, and call the network through "
                "paretonas.nn.Supernet(network); sizes have +, * and //, no - and /; "
                f"{RECOMPUTED}"
            )
        return self.gate

    def now(self) -> int:
        """The number of the current pick; in a mixture, the largest number."""
        gate = self.gated()
        number: int = self.numbers[gate if isinstance(gate, int) else -1]
        return number

    def most(self) -> int:
        """The largest number."""
        number: int = self.numbers[-1]
        return number

    def least(self) -> int:
        """The smallest number."""
        number: int = self.numbers[0]
        return number

    def chances(self) -> Tensor:
        """The probability of each option, (options,)."""
        gate = self.gated()
        return gate if isinstance(gate, Tensor) else torch.eye(len(self.numbers))[gate]

    def extracted(self, memo: Extraction) -> Any:
        """The number."""
        return Picked(int(self))

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.numbers))

    def _key(self) -> tuple[Any, ...]:
        return (id(self),)  # a module: two widths with the same numbers are two choices

    __hash__ = object.__hash__
    __deepcopy__ = Chooser.__deepcopy__


class Width(SizeChoice):
    """A choice among numbers of channels; all layers with the same object share the choice.

    >>> import paretonas
    >>> width = Width(8, 16)
    >>> stem = paretonas.nn.Conv2d(1, width, 3)

    In a mixture all channels run, each weighted by the probability that it exists. The arithmetic
    is that of `Size`.

    Args:
        widths: the numbers of channels, increasing.
        name: choices of the same name are one choice.
    """

    def __init__(self, *widths: int, name: str | None = None) -> None:
        super().__init__(widths, name)

    @property
    def widths(self) -> tuple[int, ...]:
        """The numbers of channels."""
        return self.numbers


class Heads(SizeChoice):
    """A choice among numbers of attention heads.

    >>> from paretonas.nn import Linear
    >>> heads = Heads(2, 4, 8)
    >>> qkv = Linear(64, 3 * (heads * 16))

    Args:
        heads: the numbers of heads, increasing; a pick keeps the first ones.
        name: choices of the same name are one choice.
    """

    def __init__(self, *heads: int, name: str | None = None) -> None:
        super().__init__(heads, name)


class Kernel(SizeChoice):
    """A choice among sizes of a convolution's kernel, which share weights.

    A smaller kernel is the center of the largest one. With ``padding=kernel // 2`` the size of the
    output is the same for each pick.

    >>> from paretonas.nn import Conv2d
    >>> kernel = Kernel(3, 5, 7)
    >>> conv = Conv2d(8, 8, kernel, padding=kernel // 2)

    Args:
        kernels: the sizes, increasing; all odd or all even, so that there is a center.
        transform: whether each layer learns a linear map from each size to the next smaller one. It
            begins as the identity.
        name: choices of the same name are one choice.

    References:
        Cai et al. 2020, "Once-for-All: Train One Network and Specialize it for Efficient
        Deployment" (arXiv 1908.09791), section 3.3, for the shared kernel and its transform.
    """

    def __init__(self, *kernels: int, transform: bool = False, name: str | None = None) -> None:
        super().__init__(kernels, name)
        if len({kernel % 2 for kernel in kernels}) > 1:
            raise ValueError(f"kernels must be all odd or all even, got {list(kernels)}")
        self.transform = transform

    def ranges(self, numbers: Numbers) -> tuple[Range, ...]:
        """The center."""
        start = (self.most() - numbers(self)) // 2
        return ((start, start + numbers(self)),)


class Ratio(SizeChoice):
    """A choice among factors of a size: the expansion of a bottleneck, the ratio of an MLP.

    >>> from torch import nn
    >>> from paretonas.nn import Linear
    >>> width, ratio = Width(16, 32), Ratio(2, 3.5, 4)
    >>> mlp = nn.Sequential(Linear(width, width * ratio), nn.GELU(), Linear(width * ratio, width))

    Args:
        ratios: the factors, increasing; a fraction of a channel is rounded down.
        name: choices of the same name are one choice.
    """

    _kind = (int, float)

    def __init__(self, *ratios: float, name: str | None = None) -> None:
        super().__init__(ratios, name)

    def number(self, numbers: Numbers) -> int:
        raise TypeError("a Ratio is a factor and no number: multiply it with a size, width * ratio")

    def value(self) -> Any:
        """The factor."""
        return self.now()

    def extracted(self, memo: Extraction) -> Any:
        """The factor."""
        return self.now()


@dataclass(frozen=True, repr=False, eq=False)
class _Sum(Size):
    """A concatenation."""

    parts: tuple[int | Size, ...]

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.parts))

    @classmethod
    def of(cls, *parts: int | Size) -> Size:
        flat: list[int | Size] = []
        for part in parts:
            _check(part, "+")
            flat += part.parts if isinstance(part, _Sum) else [part]
        return cls(tuple(flat))

    @cached_property
    def leaves(self) -> tuple[SizeChoice, ...]:
        return _leaves(self.parts)

    def exactly(self, numbers: Numbers) -> int | float:
        return sum(_number(part, numbers) for part in self.parts)

    def ranges(self, numbers: Numbers) -> tuple[Range, ...]:
        found, offset = [], 0
        for part in self.parts:
            found += [(offset + a, offset + b) for a, b in _ranges(part, numbers)]
            offset += _largest(part)
        return _merged(found)

    def _exists(self) -> Tensor:
        like = next(leaf.gate for leaf in self.leaves if isinstance(leaf.gate, Tensor))
        parts = []
        for part in self.parts:
            exists = None if isinstance(part, int) else part.exists()
            parts.append(like.new_ones(_largest(part)) if exists is None else exists)
        return torch.cat(parts)


@dataclass(frozen=True, repr=False, eq=False)
class _Product(Size):
    """For each of the outer parts, all of the inner parts."""

    outer: int | Size
    inner: int | Size

    def __repr__(self) -> str:
        each = (self.outer, self.inner)
        return " * ".join(f"({part!r})" if isinstance(part, _Sum) else repr(part) for part in each)

    @classmethod
    def of(cls, outer: int | Size, inner: int | Size) -> Size:
        _check(outer, "*")
        _check(inner, "*")
        if same(inner, 1) and isinstance(outer, Size):
            return outer
        if same(outer, 1) and isinstance(inner, Size):
            return inner
        return cls(outer, inner)

    @cached_property
    def leaves(self) -> tuple[SizeChoice, ...]:
        return _leaves((self.outer, self.inner))

    def exactly(self, numbers: Numbers) -> int | float:
        return _number(self.outer, numbers) * _number(self.inner, numbers)

    def ranges(self, numbers: Numbers) -> tuple[Range, ...]:
        step = _largest(self.inner)
        inner, outer = _ranges(self.inner, numbers), _ranges(self.outer, numbers)
        if inner == ((0, step),):
            return _merged((a * step, b * step) for a, b in outer)
        places = (i for a, b in outer for i in range(a, b))
        return _merged((i * step + a, i * step + b) for i in places for a, b in inner)


@dataclass(frozen=True, repr=False, eq=False)
class _Scaled(Size):
    """A fraction."""

    size: int | Size
    factor: float | Ratio

    def __repr__(self) -> str:
        return f"({self.size!r}) * {self.factor!r}"

    @cached_property
    def leaves(self) -> tuple[SizeChoice, ...]:
        return _leaves((self.size, self.factor))

    def exactly(self, numbers: Numbers) -> float:
        return _exactly(self.size, numbers) * _exactly(self.factor, numbers)


@dataclass(frozen=True, repr=False, eq=False)
class _Quotient(Size):
    """An integer division."""

    size: Size
    divisor: int

    def __repr__(self) -> str:
        return f"({self.size!r}) // {self.divisor}"

    @classmethod
    def of(cls, size: Size, divisor: Any) -> Size:
        if not isinstance(divisor, int) or divisor < 1:
            raise ValueError(f"a size is divided by a positive integer, got {_told(divisor)}")
        return cls(size, divisor)

    @property
    def leaves(self) -> tuple[SizeChoice, ...]:
        return self.size.leaves

    def exactly(self, numbers: Numbers) -> int:
        return self.size.number(numbers) // self.divisor


@dataclass(frozen=True, repr=False, eq=False)
class _Largest(Size):
    """The largest of several."""

    sizes: tuple[int | Size, ...]

    def __repr__(self) -> str:
        return f"largest({', '.join(map(repr, self.sizes))})"

    @cached_property
    def leaves(self) -> tuple[SizeChoice, ...]:
        return _leaves(self.sizes)

    def exactly(self, numbers: Numbers) -> int:
        return max(_number(size, numbers) for size in self.sizes)


@dataclass(frozen=True, repr=False, eq=False)
class _Divisible(Size):
    """A multiple of a divisor."""

    size: Size
    divisor: int

    def __repr__(self) -> str:
        return f"make_divisible({self.size!r}, {self.divisor})"

    @property
    def leaves(self) -> tuple[SizeChoice, ...]:
        return self.size.leaves

    def exactly(self, numbers: Numbers) -> int:
        return _near(self.size.exactly(numbers), self.divisor)


def largest(*sizes: int | Size) -> Size:
    """The largest of several sizes; the channels that are kept are the first ones."""
    for size in sizes:
        _check(size, "largest")
    return _Largest(sizes)


@overload
def make_divisible(size: float, divisor: int = 8) -> int: ...
@overload
def make_divisible(size: Size, divisor: int = 8) -> Size: ...
@overload
def make_divisible(size: float | Size, divisor: int = 8) -> int | Size: ...
def make_divisible(size: float | Size, divisor: int = 8) -> int | Size:
    """The multiple of a divisor that is nearest to a size, and at least nine tenths of it.

    References:
        Howard et al. 2019, "Searching for MobileNetV3" (arXiv 1905.02244), and the code of its
        authors, which rounds so.
    """
    if isinstance(size, Size):
        return _Divisible(size, divisor)
    if isinstance(size, bool) or not isinstance(size, int | float) or not 0 < size < inf:
        raise TypeError(f"make_divisible takes a size or a positive number, got {size!r}")
    return _near(size, divisor)


@contextmanager
def picked(leaves: Iterable[SizeChoice], picks: Iterable[int]) -> Iterator[None]:
    """Decide choices for a while."""
    before = [(leaf, leaf.gate) for leaf in leaves]
    for (leaf, _), pick in zip(before, picks, strict=True):
        leaf.gate = pick
    try:
        yield
    finally:
        for leaf, gate in before:
            leaf.gate = gate


def _along(factors: Tensor, x: Tensor, axis: int) -> Tensor:
    """One factor for each part of `x` along an axis, in a shape that broadcasts."""
    shape = [1] * x.ndim
    shape[axis] = -1
    return factors.reshape(shape)


def _check(part: Any, operation: str) -> None:
    if not isinstance(part, Size) and (not isinstance(part, int) or part < 1):
        raise ValueError(
            f"a size and {_told(part)} in {operation}: give a size or a positive integer"
        )


def same(one: int | Size, other: int | Size) -> bool:
    """Whether two sizes are one: the same number, or the same arithmetic on the same choices."""
    if isinstance(one, Size) or isinstance(other, Size):
        return isinstance(one, Size) and one.same(other)
    return one == other


def _either(
    size: Callable[[Any, Any], Size], number: Callable[[Any, Any], Any], one: Any, other: Any
) -> Any:
    """A size of two, or, in a forward pass, a number where that makes no size.

    Raises:
        TypeError, ValueError: it makes no size, and there are no picks.
    """
    try:
        return size(one, other)
    except (TypeError, ValueError):
        if not _have_values(one, other):
            raise
    return number(_value(one), _value(other))


def _value(part: Any) -> Any:
    return part.value() if isinstance(part, Size) else part


def _have_values(*parts: Any) -> bool:
    return all(part.has_value() for part in parts if isinstance(part, Size))


def _key(part: Any) -> Any:
    if isinstance(part, tuple):
        return tuple(map(_key, part))
    return part._key() if isinstance(part, Size) else part


def _told(part: Any) -> str:
    if isinstance(part, Tensor):
        return f"a tensor of shape {tuple(part.shape)}"
    return f"{' '.join(repr(part).split()):.60}"


def _times(one: float | Size, other: float | Size) -> Size:
    for size, factor in ((one, other), (other, one)):
        if not isinstance(factor, float | Ratio):
            continue
        if isinstance(size, float | Ratio):
            raise TypeError(f"one of two factors must be a size, got {one!r} * {other!r}")
        if isinstance(factor, float) and not 0 < factor < inf:
            raise ValueError(f"the factor of a size must be positive, got {factor}")
        _check(size, "*")
        return _Scaled(size, factor)
    return _Product.of(one, other)  # type: ignore[arg-type]  # no float is left


def _leaves(parts: Iterable[float | Size]) -> tuple[SizeChoice, ...]:
    found = (leaf for part in parts if isinstance(part, Size) for leaf in part.leaves)
    return tuple({id(leaf): leaf for leaf in found}.values())


def _exactly(part: float | Size, numbers: Numbers) -> int | float:
    return part.exactly(numbers) if isinstance(part, Size) else part


def _near(wanted: float, divisor: int) -> int:
    """The multiple of a divisor that is nearest, and at least nine tenths."""
    near = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return near + divisor if near < 0.9 * wanted else near


def _number(part: int | Size, numbers: Numbers) -> int:
    return part if isinstance(part, int) else part.number(numbers)


def _largest(part: int | Size) -> int:
    return part if isinstance(part, int) else part.largest


def _ranges(part: int | Size, numbers: Numbers) -> tuple[Range, ...]:
    return ((0, part),) if isinstance(part, int) else part.ranges(numbers)


def _merged(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Neighboring ranges become one."""
    found: list[Range] = []
    for start, stop in ranges:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], stop)
        elif stop > start:
            found.append((start, stop))
    return tuple(found)
