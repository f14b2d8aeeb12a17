"""Which modules are something else as a mixture of picks than as the pick that it stands for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...arguments import call, mapped, tensors
from ...forward import evaluating, handed, held_generators, seeded
from ..choices import Chooser, Depth
from ..sizes import Size
from .cut import Around, filled, part_of, whole_of
from .trials import choosers

ROUNDING = 1e-5  # of the largest value
Calls = dict[str, tuple[Any, Any]]  # by path, the arguments, (args, kwargs), and the output


def differing(
    network: nn.Module, example: Any, around: Mapping[str, Around], known: Collection[str]
) -> dict[str, bool]:
    """Whether modules differ between their smallest picks and the one-hot mixture of these.

    Each module runs alone, on what it is given in a pass of the network with the smallest picks.
    One that differs looks across channels in a way that zeros in place of missing channels change:
    a mean over channels, a softmax, a division by the size of a head. A module around one that
    differs is not tried. The weights are random, since zeros, as at the beginning of a training,
    would hide a difference.

    Args:
        network: the network with choices, of which the weights are changed; the choices are at
            their largest afterwards.
        example: the arguments of a forward pass.
        around: by path, the sizes along the axes of what a module takes and gives.
        known: paths of modules that need not be tried.
    """
    picks = [each for each in choosers(network).values() if not isinstance(each, Depth)]
    found: dict[str, bool] = {}
    for precise in (network.double, network.float):  # which leave complex numbers
        try:
            found = _differing(precise(), example, around, known, picks)
            break
        except _FailedError:  # the user's code may need one precision
            continue
    for chooser in picks:
        chooser.gate = len(chooser.option_names) - 1
    return found


def _differing(
    network: nn.Module,
    example: Any,
    around: Mapping[str, Around],
    known: Collection[str],
    picks: Sequence[Chooser],
) -> dict[str, bool]:
    found: dict[str, bool] = {}
    held = held_generators(network)
    with evaluating(network), torch.no_grad():
        with seeded(0, held=held):
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        _decide(picks, hot=False)
        calls = _calls(network, example, {*around} - {*known})
        for path in sorted(calls, key=lambda path: -path.count(".") if path else 1):
            if any(differs and _inside(inner, path) for inner, differs in found.items()):
                continue
            nest, direct = calls[path]
            _decide(picks, hot=False)
            ins, outs = around[path]
            if not (_fit(nest, ins) and _fit(direct, outs)):
                continue
            args, kwargs = filled(nest, map(whole_of, tensors(nest), ins))
            _decide(picks, hot=True)
            with _their_code(), seeded(0, held=held):
                mixed = network.get_submodule(path)(*args, **kwargs)
            _decide(picks, hot=False)
            pairs = zip(map(part_of, tensors(mixed), outs), tensors(direct), strict=True)
            found[path] = not all(_same(one, other) for one, other in pairs)
    return found


class _FailedError(Exception):
    """The user's code does not run."""


@contextmanager
def _their_code() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of whatever kind
        raise _FailedError from error


def _decide(picks: Iterable[Chooser], *, hot: bool) -> None:
    for chooser in picks:
        chooser.gate = torch.eye(len(chooser.option_names))[0] if hot else 0


def _calls(network: nn.Module, example: Any, paths: Collection[str]) -> Calls:
    """The first call of each module, with copies of its tensors."""
    found: Calls = {}
    given: dict[str, Any] = {}

    def enter(_: nn.Module, args: Any, kwargs: Any, path: str) -> None:
        given.setdefault(path, mapped(Tensor.clone, (args, kwargs)))

    def leave(_: nn.Module, args: Any, kwargs: Any, output: Any, path: str) -> None:
        found.setdefault(path, (given[path], mapped(Tensor.clone, output)))

    with ExitStack() as hooks:
        for path, module in network.named_modules():
            if path in paths:
                for register, hook in (
                    (module.register_forward_pre_hook, enter),
                    (module.register_forward_hook, leave),
                ):
                    handle = register(partial(hook, path=path), with_kwargs=True)
                    hooks.callback(handle.remove)
        with _their_code(), seeded(0, network):
            call(network, handed(network, example))
    return found


def _fit(nest: Any, axes: Sequence[Sequence[int | Size]]) -> bool:
    return [[*t.shape] for t in tensors(nest)] == [[*map(int, each)] for each in axes]


def _same(one: Tensor, other: Tensor) -> bool:
    if not other.is_floating_point() or not other.numel():
        return True
    return bool((one - other).abs().max() <= ROUNDING * other.abs().max())


def _inside(path: str, outer: str) -> bool:
    return not outer or path.startswith(f"{outer}.")
