"""Complex numbers and Fourier transforms for torch's older exporter to ONNX, which knows neither.

In ONNX a complex tensor is a real one whose last axis has the real and the imaginary parts, and one
operation, DFT, transforms along an axis. The newer exporter writes the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad


class Complex:
    """A complex tensor as pairs of numbers, with what networks mostly do with a spectrum.

    What it has not ends the export, and the other exporter is taken.

    Args:
        pairs: (..., 2) the real and the imaginary parts.
    """

    def __init__(self, pairs: Tensor) -> None:
        self.pairs = pairs

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the method of the same name, such as `abs` for ``torch.abs``."""
        places = [place for place, each in enumerate(args) if isinstance(each, cls)]
        if not places:  # it is in a list, as of `torch.cat`
            raise _unknown(function.__name__)
        place = places[0]
        method = getattr(args[place], function.__name__)
        return method(*args[:place], *args[place + 1 :], **(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        raise _unknown(name)

    def __getitem__(self, key: Any) -> Complex:
        keys = key if isinstance(key, tuple) else (key,)
        return Complex(self.pairs[(*keys, *([slice(None)] if Ellipsis in keys else []))])

    @property
    def shape(self) -> torch.Size:
        """That of the complex tensor."""
        return self.pairs.shape[:-1]

    @property
    def real(self) -> Tensor:
        """The real parts."""
        return self.pairs[..., 0]

    @property
    def imag(self) -> Tensor:
        """The imaginary parts."""
        return self.pairs[..., 1]

    def abs(self) -> Tensor:
        """The absolute values."""
        found: Tensor = torch.linalg.vector_norm(self.pairs, dim=-1)
        return found

    def angle(self) -> Tensor:
        """The phases."""
        return torch.atan2(self.imag, self.real)

    def view_as_real(self) -> Tensor:
        """The pairs."""
        return self.pairs

    def mul(self, other: Complex | Tensor | float) -> Complex:
        """The product with something complex or real."""
        if isinstance(other, Complex):
            real = self.real * other.real - self.imag * other.imag
            return _complex(real, self.real * other.imag + self.imag * other.real)
        return Complex(self.pairs * (other.unsqueeze(-1) if isinstance(other, Tensor) else other))

    __mul__ = __rmul__ = mul

    def transpose(self, dim0: int, dim1: int) -> Complex:
        """The same with two axes swapped."""
        rank = len(self.shape)
        return Complex(self.pairs.transpose(dim0 % rank, dim1 % rank))

    def fft_irfft(self, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
        """The real signal of half a spectrum."""
        _check(None, norm)
        length = 2 * (int(self.shape[dim]) - 1) if n is None else n
        return _transformed(self.pairs, dim, inverse=True, onesided=True, n=length)[..., 0]

    def fft_irfft2(
        self, s: Any = None, dim: Sequence[int] = (-2, -1), norm: str | None = None
    ) -> Tensor:
        """The real signal of half a spectrum in two dimensions."""
        _check(s, norm)
        return _along([dim[0]], inverse=True)(self).fft_irfft(dim=dim[1])


def _unknown(name: str) -> AttributeError:
    return AttributeError(f"operator 'aten::{name}' of complex numbers")  # in the words of torch


class _Dft(torch.autograd.Function):
    """A Fourier transform along one axis of pairs, or of single real numbers: ONNX's DFT."""

    @staticmethod
    def forward(
        ctx: Any, pairs: Tensor, axis: int, inverse: bool, onesided: bool, length: int
    ) -> Tensor:
        if pairs.shape[-1] == 1:
            transform = torch.fft.rfft if onesided else torch.fft.fft
            return torch.view_as_real(transform(pairs[..., 0], dim=axis))
        spectrum = torch.view_as_complex(pairs.contiguous())
        if onesided:
            signal: Tensor = torch.fft.irfft(spectrum, length, dim=axis)
            return signal.unsqueeze(-1)
        transform = torch.fft.ifft if inverse else torch.fft.fft
        return torch.view_as_real(transform(spectrum, dim=axis))

    @staticmethod
    def symbolic(g: Any, pairs: Any, axis: int, inverse: bool, onesided: bool, length: int) -> Any:
        size, along = (g.op("Constant", value_t=torch.tensor(n)) for n in (length, axis))
        told = {"inverse_i": int(inverse), "onesided_i": int(onesided)}
        if g.opset < 20:
            return g.op("DFT", pairs, size, axis_i=axis, **told)
        return g.op("DFT", pairs, size, along, **told)


def _transformed(
    pairs: Tensor, dim: int, *, inverse: bool = False, onesided: bool = False, n: int | None = None
) -> Tensor:
    axis = dim % (pairs.ndim - 1)
    if axis == 0:
        raise NotImplementedError("operator 'torch.fft' along the examples")
    length = int(pairs.shape[axis]) if n is None else n
    apply: Callable[..., Tensor] = _Dft.apply
    return apply(pairs, axis, inverse, onesided, length)


def _complex(real: Tensor, imag: Tensor) -> Complex:
    return Complex(torch.stack([real, imag], dim=-1))


def _polar(abs: Tensor, angle: Tensor) -> Complex:
    return _complex(abs * angle.cos(), abs * angle.sin())


def _stft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    **others: Any,  # of newer versions of torch
) -> Any:
    if center:
        input = pad(input.unsqueeze(-2), (n_fft // 2, n_fft // 2), pad_mode).squeeze(-2)
    given = (input, n_fft, hop_length, win_length, window, False, pad_mode, normalized, onesided)
    others = {name: value for name, value in others.items() if value is not None}
    pairs = torch.stft(*given, return_complex=False, **others)
    return Complex(pairs) if return_complex else pairs


def _along(dims: Sequence[int], inverse: bool = False) -> Callable[[Any], Complex]:
    """The transform of what is real or complex along some axes, the last one first."""

    def transformed(x: Any) -> Complex:
        pairs = x.pairs if isinstance(x, Complex) else x.unsqueeze(-1)
        for dim in reversed(dims):
            pairs = _transformed(pairs, dim, inverse=inverse)
        return Complex(pairs)

    return transformed


def _one(inverse: bool) -> Any:
    def transformed(input: Any, n: Any = None, dim: int = -1, norm: str | None = None) -> Complex:
        _check(n, norm)
        return _along([dim], inverse)(input)

    return transformed


def _two(inverse: bool) -> Any:
    def transformed(
        input: Any, s: Any = None, dim: Sequence[int] = (-2, -1), norm: str | None = None
    ) -> Complex:
        _check(s, norm)
        return _along(dim, inverse)(input)

    return transformed


def _rfft(input: Tensor, n: Any = None, dim: int = -1, norm: str | None = None) -> Complex:
    _check(n, norm)
    return Complex(_transformed(input.unsqueeze(-1), dim, onesided=True))


def _rfft2(
    input: Tensor, s: Any = None, dim: Sequence[int] = (-2, -1), norm: str | None = None
) -> Complex:
    _check(s, norm)
    return _along(dim[:-1])(_rfft(input, dim=dim[-1]))


def _check(size: Any, norm: str | None) -> None:
    """Leave other sizes and scales to the other exporter."""
    if size is not None or norm not in (None, "backward"):
        raise NotImplementedError(f"operator 'torch.fft' with the size {size} and norm {norm}")


FORMS: Mapping[Any, Any] = {
    torch.fft.fft: _one(inverse=False),
    torch.fft.ifft: _one(inverse=True),
    torch.fft.fft2: _two(inverse=False),
    torch.fft.ifft2: _two(inverse=True),
    torch.fft.rfft: _rfft,
    torch.fft.rfft2: _rfft2,
    torch.stft: _stft,
    torch.complex: _complex,
    torch.polar: _polar,
    torch.view_as_complex: lambda x: Complex(x),
}
"""The functions that give something complex, and their other forms."""
