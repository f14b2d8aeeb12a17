"""Which channels belong together in the operations that have weights, and in attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from .recording import Held, Operation
from .units import Axis, Units


class CoupledLayers(Units):
    """The rules of convolutions, products of matrices, embeddings, norms and attention.

    A rule has the name of torch's operation after ``_op_``, takes its arguments, and gives the
    units along the axes of its results.
    """

    def _unknown(self, step: Operation) -> list[tuple[Axis, ...]]:
        factory = step.name.startswith("new_") or step.name in ("_local_scalar_dense", "item")
        for held in () if factory else step.tensors:
            for axis in self.of(held):
                self._fix(axis, f"{self._here} is not known to treat channels alike")
        return []

    def _spatial(self, count: int) -> list[tuple[Axis, ...]]:
        step = self._step
        held = step.tensors[0]
        label = self.of(held)
        for axis in label[len(label) - count :]:
            self._fix(axis, f"its positions are mixed by {self._here}")
        result = step.results[0].shape
        kept = label[: len(label) - count]
        return [(*kept, *map(self._nothing, result[len(kept) :]))] * len(step.results)

    def _op_convolution(
        self, input: Held, weight: Held, bias: Held | None, transposed: bool, groups: int, **_: Any
    ) -> list[tuple[Axis, ...]]:
        x, w = self.of(input), self.of(weight)
        batched = len(x) == len(w)
        channels = x[1] if batched else x[0]
        for axis in (*w[2:], *(x[2:] if batched else x[1:])):
            self._fix(axis, f"its positions are mixed by {self._here}")
        ins, outs = (w[0], w[1]) if transposed else (w[1], w[0])
        if groups > 1:
            outs = self._grouped(channels, w[0], w[1], transposed, groups)
        else:
            self._tie(channels, ins)
        if bias is not None:
            self._tie(outs, self.of(bias)[0])
        result = self._step.results[0].shape
        label = [x[0], outs] if batched else [outs]
        return [(*label, *map(self._nothing, result[len(label) :]))]

    def _grouped(self, channels: Axis, w0: Axis, w1: Axis, transposed: bool, groups: int) -> Axis:
        """Tie the channels of a grouped convolution; the units of the output."""
        inside = len(channels) // groups
        least = min(inside, len(w1) if transposed else len(w0) // groups)
        by_group = self._turn([groups, least], w0) == 0 if least > 1 else True
        ins = channels.reshape(groups, inside)
        whole = w0.reshape(groups, -1)
        if by_group:  # whole groups are cut
            self._alike(ins, 1)
            self._alike(whole, 1)
            self._tie(ins[:, 0], whole[:, 0])
            self._fix(w1, f"it is inside a group of {self._here}")
            return np.repeat(whole[:, 0], len(w1)) if transposed else w0
        self._alike(ins, 0)
        self._alike(whole, 0)
        if transposed:
            self._tie(ins[0], whole[0])
            return np.tile(w1, groups)
        self._tie(ins[0], w1)
        return w0

    def _op__convolution(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        return self._op_convolution(**arguments)

    def _op_tril(self, **_: Any) -> list[tuple[Axis, ...]]:
        return self._spatial(2)

    _op_triu = _op_tril

    _op_mkldnn_convolution = _op_convolution_overrideable = _op__convolution

    def _op_linear(
        self, input: Held, weight: Held, bias: Held | None = None, **_: Any
    ) -> list[tuple[Axis, ...]]:
        x, w = self.of(input), self.of(weight)
        self._tie(x[-1], w[-1])
        if bias is not None:
            self._tie(w[0], self.of(bias)[0])
        return [(*x[:-1], w[0])] if len(w) > 1 else [x[:-1]]

    def _op_mm(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        a, b = (self.of(held) for held in list(arguments.values())[:2])
        self._tie(a[-1], b[-2] if len(b) > 1 else b[0])
        for one, other in zip(a[:-2], b[:-2], strict=True):
            self._tie(one, other)
        batch = [self._first(pair) for pair in zip(a[:-2], b[:-2], strict=True)]
        rows = a[-2:-1]
        return [(*batch, *rows, *(b[-1:] if len(b) > 1 else ()))]

    def _op_bmm(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        return self._op_mm(**arguments)

    def _op_mv(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        return self._op_mm(**arguments)

    def _op_dot(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        return self._op_mm(**arguments)

    _op_vdot = _op_dot

    def _op_addmm(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        bias, *pair = list(arguments.values())[:3]
        (label,) = self._op_mm(a=pair[0], b=pair[1])
        given = self.of(bias)
        for place in range(-len(given), 0):
            if len(given[place]) > 1:
                self._tie(given[place], label[place])
        return [label]

    def _op_baddbmm(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        return self._op_addmm(**arguments)

    def _op__grouped_mm(self, input: Held, mat2: Held, **_: Any) -> list[tuple[Axis, ...]]:
        """Rows with a matrix for each group of rows, as in a mixture of experts."""
        x, w = self.of(input), self.of(mat2)
        if len(x) != 2 or len(w) != 3:
            return self._unknown(self._step)
        self._fix(w[0], f"one is taken by {self._here}")
        self._tie(x[1], w[1])
        return [(x[0], w[2])]

    def _op_addmv(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        return self._op_addmm(**arguments)

    def _op_addbmm(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        return self._unknown(self._step)

    def _op__trilinear(
        self, i1: Held, i2: Held, i3: Held, sumdim: Sequence[int], **others: Any
    ) -> list[tuple[Axis, ...]]:
        """A sum of products of three tensors, each with new axes: what `nn.Bilinear` calls."""
        label: list[Axis] = []
        wide = [list(self.of(held)) for held in (i1, i2, i3)]
        for each, name in zip(wide, ("expand1", "expand2", "expand3"), strict=True):
            for place in sorted(others[name]):
                each.insert(place, self._nothing(1))
        for axes in zip(*wide, strict=True):
            several = [axis for axis in axes if len(axis) > 1]
            for axis in several[1:]:
                self._tie(several[0], axis)
            label.append(self._first(several or axes))
        return [tuple(axis for place, axis in enumerate(label) if place not in sumdim)]

    def _op__cdist_forward(self, x1: Held, x2: Held, **_: Any) -> list[tuple[Axis, ...]]:
        one, other = self.of(x1), self.of(x2)
        self._tie(one[-1], other[-1])
        shape = self._step.results[0].shape
        batch = self._broadcast([x1, x2], (*shape[:-2], 1, 1))[:-2]
        return [(*batch, one[-2], other[-2])]

    def _op_embedding(self, weight: Held, indices: Held, **_: Any) -> list[tuple[Axis, ...]]:
        w = self.of(weight)
        self._fix(w[0], f"it is looked up by {self._here}")
        return [(*self.of(indices), w[1])]

    def _op__embedding_bag(self, weight: Held, **_: Any) -> list[tuple[Axis, ...]]:
        w = self.of(weight)
        self._fix(w[0], f"it is looked up by {self._here}")
        bags, *others = self._step.results
        return [(self._nothing(bags.shape[0]), w[1]), *map(self.of, others)]

    _op__embedding_bag_forward_only = _op__embedding_bag

    def _normed(self, input: Held, *held: Held | None) -> list[tuple[Axis, ...]]:
        """A norm whose tensors have the channels of axis 1."""
        x = self.of(input)
        for each in held:
            if each is not None and each.shape != (0,):
                self._tie(x[1] if len(x) > 1 else x[0], self.of(each)[0])
        saved = [self.of(h) for h in self._step.results[1:]]
        return [x, *saved]

    def _op_native_batch_norm(
        self, input: Held, weight: Held | None = None, bias: Held | None = None, **others: Any
    ) -> list[tuple[Axis, ...]]:
        running = [h for name, h in others.items() if name in ("running_mean", "running_var")]
        return self._normed(input, weight, bias, *running)

    _op__native_batch_norm_legit = _op_native_batch_norm
    _op__native_batch_norm_legit_no_training = _op_native_batch_norm
    _op_cudnn_batch_norm = _op_native_batch_norm
    _op__batch_norm_impl_index = _op_native_batch_norm
    _op__batch_norm_with_update = _op_native_batch_norm

    def _op_native_layer_norm(
        self,
        input: Held,
        normalized_shape: Sequence[int],
        weight: Held | None = None,
        bias: Held | None = None,
        **_: Any,
    ) -> list[tuple[Axis, ...]]:
        x = self.of(input)
        if weight is None and bias is None:
            for axis in x[-len(normalized_shape) :]:
                self._fix(axis, f"its size is a plain number of {self._here}")
        for held in (weight, bias):
            if held is not None:
                for one, other in zip(x[-len(normalized_shape) :], self.of(held), strict=True):
                    self._tie(one, other)
        return [x, *(self.of(h) for h in self._step.results[1:])]

    def _op__fused_rms_norm(
        self, input: Held, normalized_shape: Sequence[int], weight: Held | None = None, **_: Any
    ) -> list[tuple[Axis, ...]]:
        return self._op_native_layer_norm(input, normalized_shape, weight)

    def _op_native_group_norm(
        self, input: Held, weight: Held | None, bias: Held | None, group: int, **_: Any
    ) -> list[tuple[Axis, ...]]:
        x = self.of(input)
        if weight is None and bias is None:
            self._fix(x[1], f"the number of groups is a plain number of {self._here}")
        if group > 1:
            units = x[1].reshape(group, -1)
            by_group = units.shape[1] == 1 or self._turn(units.shape, x[1]) == 0
            self._alike(units, 1 if by_group else 0)
        return self._normed(input, weight, bias)

    def _op__scaled_dot_product_flash_attention_for_cpu(
        self, query: Held, key: Held, value: Held, attn_mask: Held | None = None, **_: Any
    ) -> list[tuple[Axis, ...]]:
        q, k, v = self.of(query), self.of(key), self.of(value)
        for place in range(len(q) - 2):
            self._tie(k[place], v[place])
            several = q[place].reshape(len(k[place]), -1)  # heads that share a key and a value
            self._alike(several, 1)
            self._tie(several[:, 0], k[place])
        self._tie(q[-1], k[-1])
        self._tie(k[-2], v[-2])
        if attn_mask is not None:
            mask = self.of(attn_mask)
            for place, axis in zip(range(-len(mask), 0), mask, strict=True):
                self._fix(axis)
                if len(axis) > 1:
                    self._fix(k[-2] if place == -1 else q[place])
        return [(*q[:-1], v[-1])]

    _op__scaled_dot_product_efficient_attention = _op__scaled_dot_product_flash_attention_for_cpu
    _op__scaled_dot_product_flash_attention = _op__scaled_dot_product_flash_attention_for_cpu

    def _op_RNNBase(  # noqa: N802
        self, layer: nn.RNNBase, given: Sequence[Held], own: Mapping[str, Held]
    ) -> list[tuple[Axis, ...]]:
        # A packed sequence also has sizes of batches and orders of examples.
        held = [h for h in given if len(h.shape) > 1]
        hidden = self.of(own["weight_hh_l0"])[1]
        inner = self.of(own["weight_hr_l0"])[1] if layer.proj_size else hidden
        self._tie(self.of(held[0])[-1], self.of(own["weight_ih_l0"])[1])
        for state, axis in zip(held[1:], (hidden, inner), strict=False):
            self._tie(self.of(state)[-1], axis)
        several = np.tile(hidden, 2 if layer.bidirectional else 1)
        for name, each in own.items():
            label = self.of(each)
            if name.startswith("weight_hr"):
                self._tie(label[0], hidden)
                self._tie(label[1], inner)
                continue
            for block in label[0].reshape(-1, len(inner)):  # of each gate
                self._tie(inner, block)
            if name.startswith("weight_hh"):
                self._tie(label[1], hidden)
            elif name.startswith("weight_ih") and "_l0" not in name:
                self._tie(label[1], several)
            elif name.startswith("weight_ih"):
                self._tie(label[1], self.of(own["weight_ih_l0"])[1])
        axes = iter((several, hidden, inner))
        return [
            (*map(self._nothing, each.shape[:-1]), next(axes))
            if len(each.shape) > 1
            else self.of(each)
            for each in self._step.results
        ]

    def _op__pack_padded_sequence(self, input: Held, **_: Any) -> list[tuple[Axis, ...]]:
        steps, *others = self._step.results
        return [(self._nothing(steps.shape[0]), *self.of(input)[2:]), *map(self.of, others)]

    def _op__pad_packed_sequence(self, data: Held, **_: Any) -> list[tuple[Axis, ...]]:
        padded, *others = self._step.results
        kept = self.of(data)[1:]
        return [(*map(self._nothing, padded.shape[:2]), *kept), *map(self.of, others)]

    def _op_MultiheadAttention(  # noqa: N802
        self,
        layer: nn.MultiheadAttention,
        given: Sequence[Held],
        own: Mapping[str, Held],
    ) -> list[tuple[Axis, ...]]:
        out = self.of(own["out_proj.weight"])
        embed, heads = out[0], layer.num_heads
        units = embed.reshape(heads, -1)
        self._alike(units, 1 if self._turn(units.shape[::-1], embed) else 0)
        for name, each in own.items():
            label = self.of(each)
            if name == "in_proj_weight":
                self._tie(label[1], embed)
            elif name in ("k_proj_weight", "v_proj_weight"):
                self._tie(label[1], self.of(given[1 if name[0] == "k" else 2])[-1])
            elif len(label) == 2:
                self._tie(label[1], embed)
            for block in label[-1 if name.startswith("bias_") else 0].reshape(-1, len(embed)):
                self._tie(block, embed)
        self._tie(self.of(given[0])[-1], embed)
        if layer._qkv_same_embed_dim:
            for other in given[1:3]:
                self._tie(self.of(other)[-1], embed)
        return [(*self.of(given[0])[:-1], embed)]

    def _op_glu(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        held, dim = list(arguments.values())[:2]
        label = list(self.of(held))
        halves = label[dim].reshape(2, -1)
        self._alike(halves, 0)
        label[dim] = halves[0]
        return [tuple(label)]

    def _op__weight_norm_interface(self, v: Held, g: Held, **_: Any) -> list[tuple[Axis, ...]]:
        return [self._broadcast([v, g], v.shape), self.of(g)]
