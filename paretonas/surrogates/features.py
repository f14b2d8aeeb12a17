"""The features of an architecture: its picks, and the operations on its routes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from paretonas.cell import Route, Structure
from paretonas.relaxation import one_hot_picks, sizes_of
from paretonas.space import Choice

CHUNK = 2_000_000  # numbers in the largest tensor that is made at once


class Encoded(NamedTuple):
    """The features of k architectures, or of k distributions over them.

    Attributes:
        picks: (k, K) one-hot picks, or probabilities.
        counts: (k, D) of options, and of routes by their length, scaled; see `Features`.
        present: (k, T) whether an option occurs at all, scaled.
        pairs: (k, E) counts of successive options on routes, scaled.
        alive: (k,) the number of routes without a dead option.
        sizes: the number of options of each choice.
    """

    picks: Float[Tensor, "k K"]
    counts: Float[Tensor, "k D"]
    present: Float[Tensor, "k T"]
    pairs: Float[Tensor, "k E"]
    alive: Float[Tensor, " k"]
    sizes: tuple[int, ...]


class Features:
    """Turns distributions over architectures into the expectation of their features.

    A route with a dead option passes nothing and is left out. Identity options are left out of
    their route. On the remaining routes these are counted: routes of each length; occurrences of
    each option; pairs of successive options, the input and the output included; choices that use
    each option; and whether any choice uses it. Options with the same name count as one.

    If the wiring is not known, there is one route. It consists of the choices that share their
    options with another choice, in their order; they may be layers.

    Counts on routes are sums of products over different choices. Their expectation under
    independent picks is therefore exact and differentiable, and for one-hot rows it is the count.
    Two expectations are approximate: whether a choice is used takes the routes through it as
    independent, and whether an option is used takes choices as independent. Counts are standardized
    by their mean and standard deviation over random architectures.

    Args:
        choices: of the space.
        structure: how they are wired, if known.
        seed: of the random architectures.
    """

    def __init__(
        self, choices: Sequence[Choice], structure: Structure | None = None, seed: int = 0
    ) -> None:
        self.sizes = sizes_of(choices)
        self._wire(choices, structure)
        generator = torch.Generator().manual_seed(seed)
        picks = [torch.randint(n, (1000,), generator=generator) for n in self.sizes]
        drawn = one_hot_picks(torch.stack(picks, 1), self.sizes).double()
        counts, present, pairs = self._counts(drawn)
        self._mean, self._scale = _standardizing(counts)
        self._mean_present, self._scale_present = _standardizing(present)
        self._mean_pairs = pairs.mean(0)
        energy = float((pairs - self._mean_pairs).square().sum(1).mean())
        self._scale_pairs = energy**-0.5 if energy > 1e-9 else 0.0

    def __call__(self, probabilities: Float[Tensor, "k K"]) -> Encoded:
        """The expected features of architectures drawn from each row."""
        p = probabilities.double()
        step = max(1, CHUNK // self._width)
        parts = zip(*map(self._counts, p.split(step)), strict=True)
        counts, present, pairs = map(torch.cat, parts)
        return Encoded(
            picks=p,
            counts=(counts - self._mean) * self._scale,
            present=(present - self._mean_present) * self._scale_present,
            pairs=(pairs - self._mean_pairs) * self._scale_pairs,
            alive=counts[:, : self._longest + 1].sum(1),
            sizes=self.sizes,
        )

    def _wire(self, choices: Sequence[Choice], structure: Structure | None) -> None:
        names = [choice.name for choice in choices]
        starts = [sum(self.sizes[:i]) for i in range(len(names))]
        if structure is None:
            offered = [choice.options for choice in choices]
            shared = (c.name for c in choices if offered.count(c.options) > 1)
            routes: Sequence[Route] = (Route(tuple(shared)),)
            dead: frozenset[str] = frozenset()
            identity = dead
        else:
            routes, dead, identity = structure.routes, structure.dead, structure.identity
        passed = {name for route in routes for name in route.choices}
        tokens: dict[object, int] = {}
        places = []  # (option's column, token) of what is counted
        for choice, start in zip(choices, starts, strict=True):
            for index, option in enumerate(choice.options):
                if choice.name in passed and option not in dead | identity:
                    key = option if structure is not None else (choice.options, option)
                    places.append((start + index, tokens.setdefault(key, len(tokens))))
        # Columns: the tokens, whether the option is alive, whether it is an identity. The last row
        # pads short routes; it changes nothing.
        meaning = torch.zeros(sum(self.sizes) + 1, len(tokens) + 2, dtype=torch.float64)
        for column, token in places:
            meaning[column, token] = 1.0
        for choice, start in zip(choices, starts, strict=True):
            for index, option in enumerate(choice.options):
                meaning[start + index, -2] = float(option not in dead)
                meaning[start + index, -1] = float(option in identity)
        self._meaning = meaning[:-1]
        self._tokens = len(tokens)
        longest = self._longest = max(1, *(len(route.choices) for route in routes))
        end = len(names)
        self._passes = torch.tensor(
            [
                [*(names.index(name) for name in route.choices)]
                + [end] * (longest - len(route.choices))
                for route in routes
            ]
        )
        self._where = {
            index: (self._passes == index).nonzero().unbind(1)
            for index, name in enumerate(names)
            if name in passed
        }
        self._given = [
            [
                starts[names.index(name)] + choices[names.index(name)].options.index(option)
                for name, option in route.given
            ]
            for route in routes
        ]
        self._width = max(1, len(routes)) * (self._tokens + 1) * (longest + 3)

    def _counts(self, p: Float[Tensor, "k K"]) -> tuple[Tensor, Tensor, Tensor]:
        """Counts of routes by length and of options; options that are present; counts of pairs."""
        k, tokens = len(p), self._tokens
        parts = zip(
            p.split(list(self.sizes), 1), self._meaning.split(list(self.sizes)), strict=True
        )
        each = [part @ meaning for part, meaning in parts]
        end = p.new_zeros(k, tokens + 2)
        end[:, -2:] = 1.0
        steps = torch.stack([*each, end], 1)[:, self._passes]  # (k, routes, steps, tokens + 2)
        option, alive, identity = steps[..., :-2], steps[..., -2], steps[..., -1]
        there = torch.stack(
            [p[:, columns].prod(1) if columns else p.new_ones(k) for columns in self._given], 1
        )
        # The probability that a route exists and has no dead option after step j.
        later = [there]
        for j in range(steps.shape[2] - 1, 0, -1):
            later.insert(0, later[0] * alive[:, :, j])
        before = torch.eye(1, tokens + 1).double().flip(1).expand(k, steps.shape[1], -1)
        lengths = torch.eye(1, steps.shape[2] + 1).double().expand(k, steps.shape[1], -1)
        pairs = p.new_zeros(k, tokens + 1, tokens)
        for j in range(steps.shape[2]):
            now, same = option[:, :, j], identity[:, :, j, None]
            passed = (before * later[j][..., None]).transpose(1, 2)
            pairs = pairs + passed @ now
            arrived = now * before.sum(2, keepdim=True)
            before = before * same + torch.nn.functional.pad(arrived, (0, 1))
            longer = torch.nn.functional.pad(lengths[..., :-1], (1, 0))
            lengths = lengths * same + longer * (alive[:, :, j, None] - same)
        last = (before * there[..., None]).sum(1)
        lengths = (lengths * there[..., None]).sum(1)
        earlier = torch.nn.functional.pad(alive[:, :, :-1].cumprod(2), (1, 0), value=1.0)
        idle = 1 - earlier * torch.stack(later, 2)  # the rest of the route lets nothing pass
        used = [
            (1 - idle[:, routes, places].prod(1))[:, None] * each[choice][:, :-2]
            for choice, (routes, places) in self._where.items()
        ]
        counts = torch.cat([lengths, pairs.sum(1), sum(used, p.new_zeros(k, tokens))], 1)
        absent = math.prod((1 - part for part in used), start=p.new_ones(k, tokens))
        return counts, 1 - absent, torch.cat([pairs.flatten(1), last], 1)


def _standardizing(counts: Float[Tensor, "k D"]) -> tuple[Float[Tensor, " D"], Float[Tensor, " D"]]:
    """Shift and scale: columns that vary get the same variance, rows a mean square length of 1."""
    mean = counts.mean(0)
    spread = (counts - mean).square().mean(0).sqrt()
    varies = spread > 1e-9
    scale = torch.where(varies, 1 / spread, 0.0) / max(1, int(varies.sum())) ** 0.5
    return mean, scale
