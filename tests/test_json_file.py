"""A JSON file is refused at the door if it has what no reader expects."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretonas._json_file import DEEPEST, check_format, read_json

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(PLAIN)
def test_what_is_plain_comes_back(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "plain.json"
    path.write_text(json.dumps(content))
    assert read_json(path) == content


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a whole JSON file"),
        ('{"a": ', "is not a whole JSON file"),
        ("[" * 100_000, "is not a whole JSON file"),
        ('{"a": [{"ms": NaN}]}', r": a\.0\.ms must be finite, got nan$"),
        ('{"a": 1e999}', ": a must be finite, got inf$"),
        ("-Infinity", ": the content must be finite, got -inf$"),
        (f'{{"n": {10**400}}}', ": n must be finite, got a number of 1329 bits"),
        ("9" * 5000, "is not a whole JSON file"),
        ('{"a": "\\ud800"}', ": a has half a character"),
        ('{"b": {"\\udfff": 1}}', ": b has half a character"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), f"more than {DEEPEST} deep"),
    ],
)
def test_what_no_reader_expects_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as refused:
        read_json(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_nests_that_are_not_too_deep_are_read(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("[" * DEEPEST + "]" * DEEPEST)
    assert read_json(path)
    path.write_bytes(b'"\xff"')
    with pytest.raises(ValueError, match="is not a whole JSON file: 'utf-8' codec"):
        read_json(path)


@pytest.mark.skipif(os.name == "nt", reason="there are no such pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ValueError, match="cannot read .*: it is no file"):
        read_json(tmp_path / "pipe.json")
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json")


def test_the_format_says_whether_a_file_can_be_read(tmp_path):
    path = tmp_path / "file.json"
    for content in ({}, {"format": 1}, {"format": 2}, [], None):
        check_format(path, content, 2)
    with pytest.raises(ValueError, match="is of format 3, which a newer version .* up to 2: pip"):
        check_format(path, {"format": 3}, 2)
    for told in ("1", True, 0, -1, 1.0, None, [1]):
        with pytest.raises(ValueError, match="the format must be an integer from 1, got"):
            check_format(path, {"format": told}, 2)
