"""Replace the layers of a network by elastic ones, given the size of each axis of their tensors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.parametrize import is_parametrized

from ..elastic import Elastic, kind_of, sizes_in, tensor_of
from ..extraction import HOOKS
from ..norms import LayerNorm, RMSNorm
from ..sizes import Kernel, Size
from .cut import Around, Cut
from .recording import WHOLE
from .units import Axis

Sizing = Callable[[Axis], int | Size]


class RefusedError(ValueError):
    """A layer has no elastic form."""

    def __init__(self, path: str, tensors: Sequence[str], reason: str) -> None:
        super().__init__(reason)
        self.path, self.tensors = path, tensors


def elasticize(
    network: nn.Module,
    held: Mapping[str, Sequence[Axis]],
    sizing: Sizing,
    kernels: Mapping[str, Kernel],
    numbers: Mapping[str, Mapping[str, Any]],
    read: Collection[str],
    places: Mapping[str, int],
    around: Mapping[str, Around],
) -> nn.Module:
    """The network with elastic layers; it is changed, and returned unless it is one layer itself.

    Args:
        network: the network.
        held: the units along each axis of its tensors, by name; a shared tensor has its first name.
        sizing: the size of an axis.
        kernels: the kernel of convolutions, by their path.
        numbers: attributes of modules, by path and name, with the units that they count in place
            of numbers.
        read: the paths of modules whose tensors are used by others, such as the module around them.
        places: the axis of the input that a norm's channels are, by the path of the norm.
        around: the sizes around modules that are a sum over picks in a mixture, by their paths.

    Raises:
        RefusedError: a layer has no elastic form for these sizes.
    """
    named = [*network.named_parameters(), *network.named_buffers()]
    first = {id(tensor): name for name, tensor in named}
    elastic: dict[nn.Module, nn.Module] = {}
    skipped: set[nn.Module] = set()
    others: set[nn.Module] = {network.get_submodule(path) for path in read}
    for path, module in list(network.named_modules()):
        if isinstance(module, nn.TransformerEncoderLayer):  # which hands their tensors on
            others |= {*module.modules()}
        if module in skipped:
            continue
        if isinstance(module, WHOLE) and module not in others:
            skipped |= {*module.modules()}
        whole = isinstance(module, WHOLE) and module not in others
        names = [n for n, _ in _own_tensors(module, whole)]
        names += [n for n in ("weight",) if getattr(module, n, 0) is None]  # norms without one
        own = {}
        for name in names:
            tensor = tensor_of(module, name)
            known = first.get(id(tensor), f"{path}.{name}".lstrip("."))
            if known in held:
                own[name] = held[known]
        try:
            found = {n: _sized(nest, sizing) for n, nest in numbers.get(path, {}).items()}
            found = {n: nest for n, nest in found.items() if sizes_in(nest)}
            beside = around.get(path)
            made = _elastic(module, own, sizing, kernels.get(path), found, module in others, beside)
        except (ValueError, TypeError) as error:
            tensors = [first.get(id(tensor_of(module, n)), f"{path}.{n}".lstrip(".")) for n in own]
            raise RefusedError(path, tensors, str(error)) from error
        if isinstance(made, LayerNorm | RMSNorm) and path in places:
            made.axis = places[path]
        if made is not module:
            elastic[module] = made
    for parent in [*network.modules()]:
        for name, child in parent._modules.items():
            if child in elastic:
                parent._modules[name] = elastic[child]
    for path in around:
        summed = elastic.get(network, network).get_submodule(path)
        assert isinstance(summed, Elastic)
        for inner in summed.modules():
            if isinstance(inner, Elastic):
                summed.leaves = {**inner.leaves, **summed.leaves}
    return elastic.get(network, network)


def _sized(nest: Any, sizing: Sizing) -> Any:
    if isinstance(nest, list | tuple):
        return type(nest)(_sized(part, sizing) for part in nest)
    return sizing(nest) if isinstance(nest, np.ndarray) else nest


def _own_tensors(module: nn.Module, whole: bool) -> list[tuple[str, Any]]:
    found = [*module.named_parameters(recurse=whole), *module.named_buffers(recurse=whole)]
    return [(n, t) for n, t in found if t is not None]


def _elastic(
    module: nn.Module,
    own: Mapping[str, Sequence[Axis]],
    sizing: Sizing,
    kernel: Kernel | None,
    numbers: Mapping[str, Any],
    read: bool,
    around: Around | None,
) -> nn.Module:
    arguments = {k: v for k, v in arguments_of(module, own, sizing).items() if sizes_in(v)}
    axes = {
        name: [sizing(axis) for axis in each]
        for name, each in own.items()
        if tensor_of(module, name) is not None
    }
    if kernel is not None:
        arguments |= _with_kernel(module, kernel)
        if "weight" in axes:
            axes["weight"][2:] = arguments["kernel_size"]
    axes = {name: each for name, each in axes.items() if sizes_in(each)}
    if not axes and not arguments and not numbers and around is None:
        return module
    try:
        kind = kind_of(module)
    except TypeError:
        return Cut.of(module, axes, numbers, around)
    own_way = is_parametrized(module) or any(vars(module)[hooks] for hooks in HOOKS)
    if read or numbers or own_way or around is not None:
        return Cut.of(module, axes, arguments | {**numbers}, around)
    if axes.keys() <= kind.__new__(kind).axes(kind.arguments_of(module)).keys():
        return Elastic.of(module, **arguments)
    return Cut.of(module, axes, arguments)


def arguments_of(
    layer: nn.Module, own: Mapping[str, Sequence[Axis]], sizing: Sizing
) -> dict[str, Any]:
    """The arguments of a torch layer that the sizes of its tensors stand for."""
    weight = own.get("weight")
    match layer:
        case _ConvNd() if weight is not None:
            outs, ins = weight[:2] if not isinstance(layer, _ConvTransposeNd) else weight[1::-1]
            if layer.groups == 1:
                return {"in_channels": sizing(ins), "out_channels": sizing(outs)}
            return _grouped(layer, weight, sizing)
        case nn.Linear() if weight is not None:
            return {"in_features": sizing(weight[1]), "out_features": sizing(weight[0])}
        case nn.Bilinear() if weight is not None:
            names = ("out_features", "in1_features", "in2_features")
            return dict(zip(names, map(sizing, weight), strict=True))
        case nn.Embedding() | nn.EmbeddingBag() if weight is not None:
            return {"embedding_dim": sizing(weight[1])}
        case nn.PReLU() if weight is not None:
            return {"num_parameters": sizing(weight[0])}
        case _NormBase():
            units = weight or own.get("running_mean")
            return {} if units is None else {"num_features": sizing(units[0])}
        case nn.LayerNorm() | nn.RMSNorm() if weight is not None:
            return {"normalized_shape": tuple(map(sizing, weight))}
        case nn.GroupNorm() if weight is not None:
            groups, channels = _blocks(weight[0], layer.num_groups, sizing)
            return {"num_groups": groups, "num_channels": channels}
        case nn.RNNBase() if "weight_hh_l0" in own:
            proj = own.get("weight_hr_l0")
            found = {"input_size": sizing(own["weight_ih_l0"][1])}
            if proj is None:
                return found | {"hidden_size": sizing(own["weight_hh_l0"][1])}
            return found | {"proj_size": sizing(proj[0]), "hidden_size": sizing(proj[1])}
        case nn.RNNCellBase() if "weight_hh" in own:
            hidden = sizing(own["weight_hh"][1])
            return {"input_size": sizing(own["weight_ih"][1]), "hidden_size": hidden}
        case nn.MultiheadAttention() if {"in_proj_weight", "q_proj_weight"} & own.keys():
            rows = (own.get("in_proj_weight") or own["q_proj_weight"])[0]
            heads, embed = _blocks(rows[: layer.embed_dim], layer.num_heads, sizing)
            found = {"num_heads": heads, "embed_dim": embed}
            if layer._qkv_same_embed_dim:
                return found | {"kdim": embed, "vdim": embed}
            return found | {f"{n}dim": sizing(own[f"{n}_proj_weight"][1]) for n in ("k", "v")}
    return {}


def _blocks(units: Axis, count: int, sizing: Sizing) -> tuple[int | Size, int | Size]:
    """The number of blocks and the channels of all of them: whole blocks are cut, or each alike."""
    blocks = units.reshape(count, -1)
    if (blocks == blocks[:, :1]).all():
        number = sizing(blocks[:, 0])
        return number, number * blocks.shape[1]
    return count, count * sizing(blocks[0])


def _grouped(layer: Any, weight: Sequence[Axis], sizing: Sizing) -> dict[str, Any]:
    groups, whole = _blocks(weight[0], layer.groups, sizing)
    each = len(weight[1]) if isinstance(groups, Size) else sizing(weight[1])
    inside = groups * each
    ins, outs = (whole, inside) if isinstance(layer, _ConvTransposeNd) else (inside, whole)
    return {"groups": groups, "in_channels": ins, "out_channels": outs}


def _with_kernel(layer: Any, kernel: Kernel) -> dict[str, Any]:
    padding = tuple(kernel // 2 * each if each > 1 else kernel // 2 for each in layer.dilation)
    return {"kernel_size": (kernel,) * len(padding), "padding": padding}
