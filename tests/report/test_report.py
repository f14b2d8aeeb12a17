"""The page holds everything it shows, says what the files say, and trusts no text."""

import json
import math
import re
from html.parser import HTMLParser

import pytest

from paretonas._words import cell, picks, title
from paretonas.front import Front, Point, roles
from paretonas.report import write_report
from paretonas.report.figures import between, cosine_columns
from paretonas.runs import Run

NAMES = ["error_percent", "latency_ms", "memory_kib"]
EVIL = "</script><script>alert('x')</script> & \"b\""


def point(number: int, *values: float, **more) -> Point:
    return Point({"op": f"conv{number}"}, dict(zip(NAMES, values, strict=False)), **more)


@pytest.fixture
def run(tmp_path):
    made = Run.create(tmp_path / "run", {"space": "toy", "budget": "90s"}, "cpu of mine", 7)
    front = Front(NAMES)
    for each in [
        point(1, 2.0, 3.0, 90.0, reported={"parameters": 12345, "origin": "ray"}),
        point(2, 3.0, 1.5, 80.0),
        point(3, 9.0, 1.0, 100.0),
        point(4, 9.5, 9.5, 950.0),
    ]:
        front.add(each)
        made.record(each)
    made.write_front(front)
    return made


def log_steps(run: Run) -> None:
    for step in range(100):
        run.log(
            {
                "step": step,
                "seconds": step / 2,
                "cosine_error_latency": None if step < 20 else (-0.5 if step % 4 else 0.5),
                "cosine_error_memory": 0.25,
                "cosine_latency_memory": None,
                "hypervolume": None if step < 50 else float(step),
            }
        )


class Page(HTMLParser):
    """The page's tags, its visible text, and its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif not (self.open and self.open[-1] == "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(run: Run) -> Page:
    page = Page(write_report(run, run.folder / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    return page


def traces(page: Page, name: str) -> list[dict]:
    """The data that a figure hands to plotly."""
    (script,) = [s for s in page.scripts if "Plotly.newPlot(" in s and f'"{name}"' in s[:400]]
    start = script.index("[", script.index(f'"{name}"', script.index("Plotly.newPlot(")))
    return json.JSONDecoder().raw_decode(script[start:])[0]


def test_loads_nothing_and_carries_plotly_once(run):
    log_steps(run)
    page = page_of(run)
    assert not [attrs for _, attrs in page.tags if {"src", "href"} & attrs.keys()]
    assert sum(len(script) > 1_000_000 for script in page.scripts) == 1
    figures = [attrs["id"] for tag, attrs in page.tags if "plotly-graph-div" in str(attrs)]
    assert figures == ["front", "hypervolume", "conflict"]


def test_shows_the_front_over_what_was_measured(run):
    dominated, front = traces(page_of(run), "front")
    assert (dominated["x"], dominated["y"]) == ([9.5], [9.5])
    assert (front["x"], front["y"]) == ([3.0, 1.5, 1.0], [2.0, 3.0, 9.0])
    assert front["marker"]["color"] == [90.0, 80.0, 100.0]
    assert front["text"] == ["most-accurate", "knee<br>smallest", "fastest"]
    assert "op=conv1" in front["hovertext"][0]
    assert "latency (ms): 3" in front["hovertext"][0]


def test_shows_the_steps_that_were_logged(run):
    log_steps(run)
    page = page_of(run)
    (volume,) = traces(page, "hypervolume")
    assert volume["x"] == [step / 2 for step in range(50, 100)]
    assert volume["y"] == [float(step) for step in range(50, 100)]
    raw, smooth, flat = traces(page, "conflict")
    assert raw["x"] == smooth["x"] == list(range(20, 100))
    assert raw["y"][:4] == [0.5, -0.5, -0.5, -0.5]
    assert smooth["y"][1] == 0.0
    assert (smooth["name"], flat["name"]) == ("error and latency", "error and memory")
    assert "error and latency in 75% of the steps, error and memory in 0%" in page.text


def test_tells_the_front_and_the_settings_in_words(run):
    text = page_of(run).text
    for part in [
        "toy on cpu of mine",
        "3 trade-offs among 4 measured architectures",
        "error (%) latency (ms) memory (KiB) parameters origin",
        "a01 most-accurate 2 3 90 12,345 ray op=conv1",
        "budget 90s",
        "seed 7",
    ]:
        assert part in text
    assert "op=conv4" not in text


def test_says_so_where_nothing_was_logged(run):
    page = page_of(run)
    assert page.text.count("The run logged nothing for this figure.") == 2


def test_an_empty_front_and_one_of_one_or_two_objectives(tmp_path):
    for number in range(4):
        run = Run.create(tmp_path / str(number), {}, "cpu", 0)
        front = Front(NAMES[: max(number, 1)])
        if number:
            front.add(point(1, *range(1, number + 1)))
        run.write_front(front)
        page = page_of(run)
        assert ("The front is empty" in page.text) == (number == 0)
        assert ("One trade-off;" in page.text) == (number > 0)


def test_trusts_no_text(tmp_path):
    run = Run.create(tmp_path / "run", {"space": EVIL, EVIL: [EVIL, {EVIL: EVIL}]}, EVIL, 0)
    front = Front(NAMES)
    evil = Point({EVIL: EVIL}, dict.fromkeys(NAMES, 1.0), {EVIL + "?": EVIL, "origin": EVIL})
    front.add(evil)
    run.record(evil)
    run.record(Point({EVIL: "other"}, dict.fromkeys(NAMES, 2.0)))
    run.write_front(front)
    run.log({"step": 1, f"cosine_{EVIL}": 0.5, "hypervolume": 1.0})
    run.log({"step": 2, f"cosine_{EVIL}": 0.5, "hypervolume": 1.0})
    page = page_of(run)
    assert not [script for script in page.scripts if script.startswith("alert(")]
    assert EVIL.replace(" ", "") in page.text.replace(" ", "").replace("\N{NO-BREAK SPACE}", "")
    # Plotly reads tags in labels; none of ours must come from a name.
    for trace in [*traces(page, "front"), *traces(page, "conflict")]:
        for label in [*trace.get("hovertext", []), trace.get("name", "")]:
            assert set(re.findall(r"<[^>]*>", label)) <= {"<b>", "</b>", "<br>"}


def test_a_run_without_a_front_is_refused(tmp_path):
    run = Run.create(tmp_path / "run", {}, "cpu", 0)
    with pytest.raises(ValueError, match="has no front yet"):
        write_report(run, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1 / 3, "0.3333"),
        (2.0, "2"),
        (123456.7, "123,457"),
        (12345, "12,345"),
        (1e-7, "1e-07"),
        (True, "true"),
        (None, ""),
        ("a<b", "a&lt;b"),
        (["x", 2.5], "x, 2.5"),
        ({"torch": "2<3", "n": 1}, "torch: 2&lt;3, n: 1"),
    ],
)
def test_values_as_people_read_them(value, text):
    assert cell(value) == text


def test_names_as_people_read_them():
    names = ["latency_spread_ms", "energy_uj", "error_percent", "test", "a_<b>"]
    assert [title(name) for name in names] == [
        "latency spread (ms)",
        "energy (µJ)",
        "error (%)",
        "test",
        "a &lt;b&gt;",
    ]
    columns = ["error_percent", "memory_kib", "val_top1", "dice_points"]
    assert between("cosine_error_memory", columns) == "error and memory"
    assert between("cosine_val_top1_memory", columns) == "val top1 and memory"
    assert between("cosine_val_top1_dice", columns) == "val top1 and dice"


def test_long_architectures_are_broken_between_picks_only():
    architecture = {f"block {i}": "conv3" for i in range(9)}
    lines = picks(architecture, 40)
    assert all(len(line) <= 40 for line in lines)
    told = [pick for line in lines for pick in line.split("  ")]
    assert told == [f"block\N{NO-BREAK SPACE}{i}=conv3" for i in range(9)]


def test_roles_leave_out_what_the_front_cannot_say():
    front = Front(["energy_mj", "latency_ms"])
    front.add(Point({"op": "a"}, {"energy_mj": 1.0, "latency_ms": 1.0}))
    assert roles(front) == {"a01": ["knee", "fastest"]}


def test_a_cosine_that_is_not_a_number_is_left_out():
    history = [{"step": 1, "cosine_a_b": math.nan}, {"step": 2, "cosine_c_d": 0.5}]
    assert cosine_columns(history) == ["cosine_c_d"]


def test_shows_the_picks_of_parts_that_run(run):
    run.tell(conditions={"op": [{"op": ["conv2"]}]})
    text = page_of(run).text
    assert "op=conv2" in text and "op=conv1" not in text
    run.tell(conditions="from another program")
    assert "op=conv1" in page_of(run).text


def test_the_page_shows_what_a_latency_table_predicts(tmp_path, run):
    told = {
        "backend": "onnxruntime",
        "device": "<b>a board</b>",
        "correction": "parts",
        "shift_ms": 0.1,
        "factor": 0.9,
        "rank_correlation": 0.95,
        "within_10_percent": 0.9,
        "interval": 0.12,
        "architectures": 3,
        "predicted_ms": [1.0, 2.0, 3.0],
        "measured_ms": [1.1, 2.0, 2.9],
    }
    run.tell(tables={"latency_ms": told})
    page = write_report(run, tmp_path / "page.html").read_text()
    assert "latency_ms is that of onnxruntime on &lt;b&gt;a board&lt;/b&gt;" in page
    assert "90% within 10%; 9 of 10 are within 12%" in page
    assert 'id="table-0"' in page
    for damaged in ({}, [], {"latency_ms": 3}, {"latency_ms": told | {"measured_ms": ["x"]}}):
        run.tell(tables=damaged)
        assert 'id="table-0"' not in write_report(run, tmp_path / "page.html").read_text()


def test_where_all_was_measured_there_is_no_picture_of_predictions(tmp_path, run):
    told = {"backend": "onnxruntime", "device": "a board", "correction": "measured"}
    told |= {"shift_ms": 0.0, "factor": 1.0, "within_10_percent": 1.0, "architectures": 2}
    run.tell(tables={"latency_ms": told | {"predicted_ms": [1.0, 2.0], "measured_ms": [1.0, 2.0]}})
    page = write_report(run, tmp_path / "page.html").read_text()
    assert "onnxruntime on a board, a batch of 1; all 2 architectures were measured." in page
    assert 'id="table-0"' not in page and "predicted" not in page
