"""Published pickles are read as data: nothing in them is imported, called or can do harm."""

import datetime
import os
import pickle

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from search_spaces import nas_bench_201, nas_bench_graph
from search_spaces.published import measured, unpickled

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)


class Command:
    """What a malicious file would hold."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


@given(PLAIN, st.sampled_from([3, 4, 5]))
@example([[], {}, (), [1], {1: 2}, (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)], 4)
def test_plain_data_comes_back_as_it_is(content, protocol):
    content = [content, content]  # the second one is recalled from the memo
    assert unpickled(pickle.dumps(content, protocol)) == content


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_numbers_of_numpy_come_back_as_plain_ones(protocol):
    content = {3: {"perf": 0.5, "para": np.float64(1.25), "latency": np.float32(0.1)}}
    found = unpickled(pickle.dumps(content, protocol))
    assert found == content
    assert {type(value) for value in found[3].values()} == {float}


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (Command(os.system, "touch harm"), r"\.system"),
        (Command(eval, "open('harm', 'w')"), r"\.eval"),
        (Command(np.load, "harm"), r"\.load"),
        (datetime.date(2020, 1, 1), "datetime.date"),
        (np.array([1.0]), "_reconstruct"),
        ({1: {"perf": Command(os.mkdir, "harm")}}, r"\.mkdir"),
        (Command(np.float64(1).__reduce__()[0], np.dtype("O"), b"x" * 8), "NumPy"),
        (np.dtype([("a", "f8")]), "NumPy"),
        (np.dtype("f8"), None),  # an instruction on its own: no number, and harmless
        ({(1, 2): 3}, "keys"),
        ({1, 2}, "EMPTY_SET|set"),
    ],
)
@pytest.mark.parametrize("protocol", [3, 4])
def test_a_file_that_asks_for_more_is_refused(content, name, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(content, protocol)
    if name is None:
        with pytest.raises(ValueError, match=r"a finite number, got one that is of type _Kind"):
            measured(unpickled(data))
    else:
        with pytest.raises(ValueError, match=f"only dicts, lists.*{name}"):
            unpickled(data)
    assert not list(tmp_path.iterdir())


def test_a_forged_type_of_numbers_is_refused():
    """NumPy sets up its types from such a state without a check, and then reads any memory."""
    plain = pickle.dumps(np.float64(1.0), 3)
    order = b"X\x01\x00\x00\x00%b"  # of the bytes, in the state
    assert plain.count(order % b"<") == 1
    forged = plain.replace(order % b"<", order % b">")
    assert pickle.loads(forged) != 1.0
    with pytest.raises(ValueError, match="an object with a state"):
        unpickled(forged)
    with pytest.raises(ValueError, match="damaged: error"):
        unpickled(plain.replace(b"C\x08" + np.float64(1.0).tobytes(), b"C\x01x"))


@given(st.data())
def test_a_damaged_file_is_refused_or_is_other_data(data):
    content = {"012345": {"val_acc": [82.5, 81.25], "latency": [np.float64(0.01)]}}
    file = bytearray(pickle.dumps(content, data.draw(st.sampled_from([3, 4]))))
    for _ in range(data.draw(st.integers(1, 3))):
        file[data.draw(st.integers(0, len(file) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    cut = data.draw(st.integers(0, len(file)))
    for damaged in (bytes(file), bytes(file[:cut])):
        try:
            unpickled(damaged)
        except ValueError as error:
            assert str(error)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, "1", None, [1.0], True])
def test_a_measurement_is_a_finite_number(value):
    with pytest.raises(
        ValueError, match="must be a finite number, got one that is (nan|inf|of type)"
    ):
        measured(value)


@pytest.mark.parametrize(
    "content",
    [b"", b"no pickle", [], {}, {"000000": 1}, {"000000": {"val_acc": [], "latency": []}}, {7: {}}],
    ids=repr,
)
def test_a_damaged_table_is_named(content, tmp_path, monkeypatch):
    data = content if isinstance(content, bytes) else pickle.dumps(content)
    (tmp_path / "cifar10.pkl").write_bytes(data)
    (tmp_path / "cora.bench").write_bytes(pickle.dumps({7: {}}) if content == {} else data)
    for module, name, file in (
        (nas_bench_201, "cifar10", "cifar10.pkl"),
        (nas_bench_graph, "cora", "cora.bench"),
    ):
        monkeypatch.setattr(module, "_folder", lambda: tmp_path)
        with pytest.raises(ValueError, match=f"{file} is damaged: "):
            module._read.__wrapped__(name)
