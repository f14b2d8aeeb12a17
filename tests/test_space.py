"""What choices and architectures promise."""

import pickle
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretonas.space import (
    Architecture,
    Choice,
    decode,
    draw,
    encode,
    every,
    nearest,
    neighbors,
    size,
)

CHOICES = (Choice("op", ("conv", "skip", "pool")), Choice("width", ("8", "16")))

names = st.text(min_size=1, max_size=5)
spaces = st.lists(
    st.builds(
        Choice,
        name=names,
        options=st.lists(names, min_size=2, max_size=4, unique=True).map(tuple),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda choice: choice.name,
).map(tuple)


@pytest.mark.parametrize("options", [(), ("conv",)])
def test_a_choice_needs_two_options(options):
    with pytest.raises(ValueError, match="choice 'op' needs at least two options"):
        Choice("op", options)


def test_a_choice_lists_an_option_once():
    with pytest.raises(ValueError, match="choice 'op' lists an option twice"):
        Choice("op", ("conv", "skip", "conv"))


@given(spaces)
def test_every_gives_each_architecture_once_the_last_choice_fastest(choices):
    architectures = list(every(choices))
    assert len(architectures) == len(set(architectures)) == size(choices)
    codes = [encode(choices, architecture) for architecture in architectures]
    assert codes == sorted(codes)


@given(spaces, st.randoms(use_true_random=False))
def test_decode_inverts_encode_in_whatever_order_the_picks_come(choices, rng):
    architecture = draw(choices, rng)
    shuffled = list(architecture.items())
    rng.shuffle(shuffled)
    assert decode(choices, encode(choices, dict(shuffled))) == architecture


@given(spaces, st.randoms(use_true_random=False))
def test_neighbors_are_all_architectures_one_pick_away(choices, rng):
    center = draw(choices, rng)
    found = list(neighbors(choices, center))

    def distance(other):
        return sum(other[name] != option for name, option in center.items())

    assert Counter(found) == Counter(a for a in every(choices) if distance(a) == 1)


def test_draw_is_uniform():
    rng = Random(0)
    counts = Counter(draw(CHOICES, rng) for _ in range(6000))
    assert set(counts) == set(every(CHOICES))
    assert all(850 < count < 1150 for count in counts.values())  # 1000, five sigma either side


def test_an_architecture_is_its_picks_and_nothing_else():
    one = Architecture({"op": "conv", "width": "8"})
    other = Architecture({"width": "8", "op": "conv"})
    assert one == other == {"op": "conv", "width": "8"}
    assert hash(one) == hash(other)
    assert {one: 1}[other] == 1
    assert one != Architecture({"op": "skip", "width": "8"})
    assert pickle.loads(pickle.dumps(one)) == one


def test_an_architecture_does_not_change_with_the_mapping_it_was_made_from():
    picks = {"op": "conv"}
    architecture = Architecture(picks)
    picks["op"] = "skip"
    assert architecture["op"] == "conv"
    with pytest.raises(TypeError):
        architecture["op"] = "skip"


@pytest.mark.parametrize(
    ("picks", "message"),
    [
        ({"op": "conv"}, "no pick for choice 'width'"),
        ({"op": "conv", "width": "8", "depht": "2"}, "no choice is called 'depht'; there are op,"),
        ({"op": "conv", "width": "8", "opp": "2"}, "no choice is called 'opp'; did you mean 'op'"),
        ({"op": "conv", "width": "9"}, "choice 'width' has no option '9'; there are 8, 16"),
        ({"op": "cnv", "width": "8"}, "choice 'op' has no option 'cnv'; did you mean 'conv'"),
    ],
)
def test_encode_says_what_is_wrong(picks, message):
    with pytest.raises(ValueError, match=message):
        encode(CHOICES, picks)


def test_decode_needs_one_pick_per_choice():
    with pytest.raises(ValueError, match="2 choices, got 1 picks"):
        decode(CHOICES, (0,))


def test_nearest_lists_all_where_none_is_near():
    assert nearest("xyz", ["MGDA", "PCGrad"]) == "; there are MGDA, PCGrad"
