"""The site: what the build of the documents refuses, and what it makes of a page."""

import importlib
import sys
from pathlib import Path
from textwrap import dedent

import pytest

SITE = Path(__file__).parents[1] / "docs" / "site"

FILES = {
    "__init__.py": """
        'A package.'
        from .room.shapes import Circle, area
        from . import plain, room
        __all__ = ["Circle", "area", "room", "plain"]
        """,
    "plain.py": "'A module that declares nothing.'",
    "_private.py": "__all__ = ['silent']\ndef silent(): ...",
    "room/__init__.py": """
        'A room.'
        from .shapes import UNIT, Circle, Shape, area
        __all__ = ["UNIT", "Circle", "Shape", "area"]
        """,
    "room/shapes.py": """
        'The shapes.'
        from dataclasses import dataclass

        UNIT = 1.0

        class Shape:
            'What has an area.'

            def area(self):
                'How large it is.'

        @dataclass
        class Circle(Shape):
            '''All that is near.

            Attributes:
                radius: in meters.
            '''

            radius: float
            color: str

            def area(self): ...

            def grown(self): ...

        def area(shape): ...
        """,
}


@pytest.fixture(scope="module")
def site():
    """The modules that build the site; they lie together and find each other as scripts do."""
    sys.path.insert(0, str(SITE))
    yield importlib.import_module("build"), importlib.import_module("reference")
    sys.path.remove(str(SITE))


@pytest.fixture
def package(tmp_path, monkeypatch):
    for place, text in FILES.items():
        file = tmp_path / "drawn" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "drawn"]:
        del sys.modules[name]


# --- the reference -----------------------------------------------------------------------------


def test_the_build_names_every_public_thing_that_is_not_documented(site, package):
    _, reference = site
    assert reference.undocumented(reference.public("drawn", package)) == [
        "drawn.room.area is public and has no docstring",
        "drawn.room.Circle.color is public and nothing is said of it",
        "drawn.room.Circle.grown is public and nothing is said of it",
        "drawn.room.UNIT is public and has no docstring",
        "drawn.plain is public and declares no __all__",
    ]


def test_each_name_is_documented_once_in_the_package_that_offers_it(site, package):
    _, reference = site
    modules = reference.public("drawn", package)
    assert {module: [e.name for e in found if e.is_here] for module, found in modules.items()} == {
        "drawn": [],
        "drawn.room": ["area", "Circle", "Shape", "UNIT"],
    }
    pages = reference.pages(modules)
    assert "[`Circle`][drawn.room.Circle]" in pages["drawn"]
    assert "[`room`][drawn.room]" in pages["drawn"]
    assert "::: drawn.room.shapes.Circle" in pages["drawn.room"]


def test_a_name_that_is_promised_and_not_there_is_refused(site, package):
    _, reference = site
    file = package / "drawn" / "room" / "__init__.py"
    file.write_text(file.read_text().replace('"area"]', '"area", "Square"]'))
    with pytest.raises(AttributeError, match=r"drawn\.room\.Square is in __all__ and is not there"):
        reference.public("drawn", package)


def test_examples_become_code(site):
    fenced = importlib.import_module("doctests").fenced
    assert fenced("First.\n\n>>> (1 +\n... 1)\n2\n\nThen:\n\n    >>> 3\n    3") == (
        "First.\n\n```pycon\n>>> (1 +\n... 1)\n2\n```\n\nThen:\n\n"
        "    ```pycon\n    >>> 3\n    3\n    ```\n"
    )


# --- the pages ---------------------------------------------------------------------------------


def test_the_index_lists_every_page_once_and_says_what_it_is(site):
    build, _ = site
    assert build.unlisted(build.listed((build.ROOT / build.INDEX).read_text())) == []


def test_a_page_that_the_index_lacks_or_has_twice_is_named(site):
    build, _ = site
    index = (build.ROOT / build.INDEX).read_text()
    index = index.replace("- [Noise](noise.md): ", "- [Noise](noise.md) ")
    groups = build.listed(f"{index}\n## More\n\n- [Tables](tables.md): again.\n")
    assert build.unlisted(groups) == [
        "docs/noise.md is not listed in docs/README.md",
        "docs/tables.md is listed twice in docs/README.md",
    ]


def test_what_the_code_of_a_page_imports_is_found(site):
    build, _ = site
    code = """
    import torch, paretonas.nn
    def f():
        from paretonas.space import draw, size as n
    """
    names = ["paretonas.nn", "paretonas.space.draw", "paretonas.space.size"]
    assert build.imported(dedent(code)) == names


def test_a_link_to_a_file_that_is_not_there_is_named(site, tmp_path):
    build, _ = site
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.html").write_text(
        '<a href="inner/b.html#x"> <a href="https://x.y"> <a href="#z">'
    )
    (tmp_path / "inner" / "b.html").write_text('<img src="../c.svg"> <a href="../a.html">')
    assert build.dead(tmp_path) == ["inner/b.html links to ../c.svg, which is not there"]
