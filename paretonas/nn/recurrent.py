"""Elastic recurrent layers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from .elastic import Elastic


class _Recurrent(Elastic):
    """What recurrent layers have in common."""

    blocks: int  # of the hidden size, which a weight has for its gates

    @classmethod
    def signature(cls) -> inspect.Signature:
        base = inspect.signature(nn.RNNBase)
        named = [p for p in base.parameters.values() if p.name != "mode"]
        if cls.layer is not nn.LSTM:
            named = [p for p in named if p.name != "proj_size"]
        if cls.layer is nn.RNN:
            extra = inspect.Parameter(
                "nonlinearity", inspect.Parameter.POSITIONAL_OR_KEYWORD, default="tanh"
            )
            named.insert(3, extra)
        return base.replace(parameters=named)

    def axes(self, a: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
        hidden = a["hidden_size"]
        projected = a.get("proj_size") or hidden
        directions = ("", "_reverse") if a["bidirectional"] else ("",)
        below = a["input_size"]
        found: dict[str, Sequence[Any]] = {}
        for number in range(a["num_layers"]):
            for direction in directions:
                end = f"l{number}{direction}"
                found[f"weight_ih_{end}"] = [self.blocks * hidden, below]
                found[f"weight_hh_{end}"] = [self.blocks * hidden, projected]
                found[f"bias_ih_{end}"] = found[f"bias_hh_{end}"] = [self.blocks * hidden]
                if a.get("proj_size"):
                    found[f"weight_hr_{end}"] = [projected, hidden]
            below = len(directions) * projected
        return found

    def inputs(self, a: Mapping[str, Any]) -> Sequence[tuple[Any, int]]:
        return [(a["input_size"], -1), *self._states(a)]

    def outputs(self, a: Mapping[str, Any]) -> Sequence[tuple[Any, int]]:
        projected = a.get("proj_size") or a["hidden_size"]
        return [((2 if a["bidirectional"] else 1) * projected, -1), *self._states(a)]

    def _states(self, a: Mapping[str, Any]) -> list[tuple[Any, int]]:
        states = [(a.get("proj_size") or a["hidden_size"], -1), (a["hidden_size"], -1)]
        return states if self.layer is nn.LSTM else states[:1]

    def prepare(self, layer: nn.Module) -> None:
        assert isinstance(layer, nn.RNNBase)
        layer._flat_weights = [vars(layer)[name] for name in layer._flat_weights_names]

    def run(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().run(*args, **kwargs)
        finally:
            vars(self._shell().layer)["_flat_weights"] = []  # what is kept alive is in a graph

    def extracted(self, memo: Any) -> nn.Module:
        layer = super().extracted(memo)
        assert isinstance(layer, nn.RNNBase)
        layer._flat_weights = [getattr(layer, name) for name in layer._flat_weights_names]
        return layer


class RNN(_Recurrent):
    """`torch.nn.RNN` whose input and hidden size may be sizes."""

    layer, blocks = nn.RNN, 1


class LSTM(_Recurrent):
    """`torch.nn.LSTM` whose input, hidden and projected size may be sizes.

    >>> from paretonas.nn import Width
    >>> width = Width(16, 32)
    >>> lstm = LSTM(8, width, num_layers=2, batch_first=True, bidirectional=True)  # gives 2 * width
    """

    layer, blocks = nn.LSTM, 4


class GRU(_Recurrent):
    """`torch.nn.GRU` whose input and hidden size may be sizes."""

    layer, blocks = nn.GRU, 3


class _Cell(Elastic):
    """What the cells of recurrent layers have in common."""

    blocks: int  # of the hidden size, which a weight has for its gates

    def axes(self, a: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
        rows, hidden = self.blocks * a["hidden_size"], a["hidden_size"]
        weights = {"weight_ih": [rows, a["input_size"]], "weight_hh": [rows, hidden]}
        return {**weights, "bias_ih": [rows], "bias_hh": [rows]}

    def inputs(self, a: Mapping[str, Any]) -> Sequence[tuple[Any, int]]:
        return [(a["input_size"], -1), *self.outputs(a)]

    def outputs(self, a: Mapping[str, Any]) -> Sequence[tuple[Any, int]]:
        return [(a["hidden_size"], -1)] * (2 if self.layer is nn.LSTMCell else 1)

    mixture = Elastic.masked


class RNNCell(_Cell):
    """`torch.nn.RNNCell` whose input and hidden size may be sizes."""

    layer, blocks = nn.RNNCell, 1


class LSTMCell(_Cell):
    """`torch.nn.LSTMCell` whose input and hidden size may be sizes."""

    layer, blocks = nn.LSTMCell, 4


class GRUCell(_Cell):
    """`torch.nn.GRUCell` whose input and hidden size may be sizes."""

    layer, blocks = nn.GRUCell, 3
