"""The check of spaces finds what is broken, and passes what is not."""

import pytest
import torch
from torch import nn

from paretonas import NetworkSpace
from paretonas.nn import OneOf
from paretonas.nn.conformance import check_space
from search_spaces.images import digits_8x8
from search_spaces.toy import Toy


class Flat(nn.Sequential):
    """Two linear layers to choose from; the second is what a test puts there."""

    def __init__(self, other: nn.Module) -> None:
        super().__init__(nn.Flatten(), OneOf({"a": nn.Linear(64, 10), "b": other}))


class NotFinite(nn.Linear):
    def forward(self, x):
        return super().forward(x) / 0


class Root(nn.Linear):
    """Its gradient is infinite at 0."""

    def forward(self, x):
        return super().forward(x) + (self.weight - self.weight.detach()).abs().sqrt().sum()


class OneByOne(nn.Linear):
    def forward(self, x):
        return super().forward(x if self.training else x[:1])


class Refusing(nn.Linear):
    def forward(self, x):
        raise RuntimeError("not today")


class Inside(nn.Sequential):
    """A choice that exists only in this option; its second option is what a test puts there."""

    def __init__(self, other: nn.Module) -> None:
        super().__init__(nn.Identity(), OneOf({"c": nn.Linear(64, 10), "d": other}))


def drawn_from_the_clock():
    own = torch.Generator()
    own.seed()
    layer = nn.Linear(64, 10)
    layer.bias.data = torch.randn(10, generator=own)
    return Flat(layer)


def no_data():
    raise FileNotFoundError("images.zip")


@pytest.mark.parametrize(
    ("network", "task", "message"),
    [
        (lambda: Flat(nn.Linear(64, 10)), no_data, "the task: FileNotFoundError"),
        (drawn_from_the_clock, digits_8x8, "two supernets of one seed differ"),
        (
            lambda: Flat(nn.Linear(64, 9)),
            digits_8x8,
            r"1=b, in training: .*for each of 10 classes, got .*9\)",
        ),
        (lambda: Flat(NotFinite(64, 10)), digits_8x8, "1=b: the loss is nan"),
        (lambda: Flat(Root(64, 10)), digits_8x8, "1=b: the gradient of .*weight is not finite"),
        (lambda: Flat(OneByOne(64, 10)), digits_8x8, "1=b: a batch of 2 gives 1 rows"),
        (lambda: Flat(Refusing(64, 10)), digits_8x8, "1=b, in training: RuntimeError"),
        (lambda: Flat(Inside(Refusing(64, 10))), digits_8x8, "1=b 1.options.b.1=d, in training"),
    ],
)
def test_a_broken_promise_is_found(network, task, message):
    with pytest.raises(AssertionError, match=message):
        check_space(NetworkSpace("broken", network, task))


def test_what_is_no_space_is_told():
    with pytest.raises(AssertionError, match="must be a NetworkSpace"):
        check_space(Toy())


def test_what_breaks_no_promise_passes():
    check_space(NetworkSpace("fine", lambda: Flat(nn.Linear(64, 10)), digits_8x8))
