"""What holds for the house itself: the front door, the rooms, the documents."""

import ast
import importlib
import os
import pickle
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import paretonas
from paretonas._callable import CallablePackage
from paretonas.cli import run

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "experiments"
PAGES = [
    ROOT / "README.md",
    EXPERIMENTS / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
HEAVY = ("torch", "numpy", "pandas", "pymoo", "optuna", "plotly", "sklearn", "networkx", "moocore")
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())


def python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


# --- the front door ----------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["import paretonas", "from paretonas.cli import run; run([])"])
def test_the_door_is_light(what):
    (loaded,) = loaded_by(what)
    assert not {*HEAVY} & loaded


LAZY = """
from paretonas.solvers.conformance import check_solver
from paretonas.samplers import Surgery, Ridge, Random, LocalSearch
from paretonas import search, sample, compare, export, Front, NetworkSpace
from paretonas.samplers.methods import make
from paretonas.samplers.conformance import LARGE, _problem, _smooth
make("random", _problem(LARGE, _smooth, 2))
"""


def test_nothing_is_loaded_that_is_not_needed():
    """One import after the other in one process, since each takes seconds."""
    optional = {"pymoo", "optuna", "pandas", "plotly", "sklearn", "hypothesis", "pytest", "torchjd"}
    lines = [*LAZY.strip().splitlines(), "from paretonas.samplers import nsga2"]
    *free, last = loaded_by(*lines)
    assert {line: optional & found for line, found in zip(lines, free, strict=False)} == {
        line: set() for line in lines[:-1]
    }
    assert optional & last == {"pymoo"}


def loaded_by(*lines: str) -> list[set[str]]:
    """What is loaded after each line."""
    code = "".join(f"{line}\nimport sys; print('LOADED', *sys.modules)\n" for line in lines)
    return [{*told.split()} for told in python(code).split("LOADED")[1:]]


@pytest.mark.parametrize("name", paretonas.__all__)
def test_every_public_name_is_there_documented_and_in_the_directory(name):
    assert name in dir(paretonas)
    assert getattr(paretonas, name).__doc__
    assert getattr(paretonas, name) is getattr(paretonas, name)


def test_the_lazy_names_are_those_that_type_checkers_see():
    tree = ast.parse(Path(paretonas.__file__).read_text())
    (block,) = (
        node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node)
    )
    seen = {alias.asname: line.module for line in block.body for alias in line.names}
    assert seen.keys() == set(paretonas.__all__)
    for name, module in seen.items():
        found = getattr(paretonas, name)
        if isinstance(found, CallablePackage):  # what is called is the function in it
            found = getattr(found, name)
        assert getattr(importlib.import_module(module), name) is found


WAYS_IN = (
    "import paretonas.compare.comparison as inner, paretonas.export, paretonas.samplers",
    "from paretonas.compare import compare; from paretonas.export import export",
    "from paretonas import compare, export, objectives, samplers, search, sample",
)
ANY_ORDER = """
import importlib, inspect, itertools, sys

def look():
    import paretonas
    for name in ("compare", "export"):
        door, room = getattr(paretonas, name), importlib.import_module("paretonas." + name)
        assert door is room and callable(door), door
        assert inspect.signature(door) == inspect.signature(getattr(room, name))
        try:
            door()
        except TypeError as error:
            assert name + "() missing" in str(error), error
    for name in ("objectives", "samplers"):
        assert inspect.ismodule(getattr(paretonas, name))
    assert inspect.isfunction(paretonas.search) and inspect.isfunction(paretonas.sample)
    assert paretonas.compare.Comparison.__name__ == "Comparison"
    from paretonas.samplers import Random, Surgery
    assert dir(paretonas) == sorted(paretonas.__all__)

for order in itertools.permutations(sys.argv[1:]):
    for name in [name for name in sys.modules if name.partition(".")[0] == "paretonas"]:
        del sys.modules[name]
    for way in order:
        exec(way, {})
        look()
"""


@pytest.mark.deep
def test_the_door_is_the_same_whatever_was_imported_before():
    command = [sys.executable, "-c", ANY_ORDER, *WAYS_IN]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


def test_a_package_that_is_called_can_be_sent_to_another_process():
    assert pickle.loads(pickle.dumps(paretonas.compare)) is paretonas.compare


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="module 'paretonas' has no attribute 'serach'"):
        _ = paretonas.serach


# --- the rooms ---------------------------------------------------------------------------------


def test_spaces_may_import_only_what_a_space_is_made_of():
    contracts = {c["id"]: c for c in SETTINGS["tool"]["importlinter"]["contracts"]}
    rooms = {
        f"paretonas.{path.stem}"
        for path in (ROOT / "paretonas").iterdir()
        if path.name != "__init__.py" and (path.suffix == ".py" or (path / "__init__.py").exists())
    }
    kinds = ("space", "cell", "table", "direction")
    parts = (*kinds, "nn", "relaxation", "data", "tasks", "metric", "arguments", "training")
    allowed = {f"paretonas.{part}" for part in parts}
    assert set(contracts["spaces"]["forbidden_modules"]) == rooms - allowed


@pytest.mark.parametrize("package", ["paretonas", "search_spaces"])
def test_every_module_says_what_it_is(package):
    for path in (ROOT / package).rglob("*.py"):
        text = path.read_text()
        assert not text or ast.get_docstring(ast.parse(text)), path


# --- the documents -----------------------------------------------------------------------------


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """What follows the language on the fence, and the code."""
    found = re.findall(rf"^```{language}(.*)\n((?:.*\n)*?)```$", page.read_text(), re.MULTILINE)
    return [(rest.strip(), code) for rest, code in found]


def prose(page: Path) -> str:
    """The page without its code."""
    return re.sub(r"^```.*\n(?:.*\n)*?```$", "", page.read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", prose(page)):
        if not target.startswith(("http", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_every_page_can_be_reached_from_the_readme():
    reached, new = set(), {ROOT / "README.md"}
    while new:
        page = new.pop()
        reached.add(page)
        links = re.findall(r"\]\(([^)#]+)", page.read_text())
        places = [(page.parent / link).resolve() for link in links if not link.startswith("http")]
        pages = {
            p for place in places for p in ([place] if place.is_file() else place.glob("*.md"))
        }
        new |= {p for p in pages if p.suffix == ".md"} - reached
    assert reached == set(PAGES)


def test_every_place_that_the_glossary_names_is_there():
    rows = re.findall(r"^\|.*\|(.*)\|.*\|$", (ROOT / "docs" / "glossary.md").read_text(), re.M)
    places = {place for row in rows for place in re.findall(r"`([a-z][\w.]+)`", row)}
    assert len(places - {"paretonas"}) > 40
    for place in places - {"paretonas"}:
        pkgutil.resolve_name(f"paretonas.{place}")


def test_every_script_is_in_the_index_of_the_experiments_and_nothing_else():
    named = set(re.findall(r"`([\w/]+\.py)\b", (EXPERIMENTS / "README.md").read_text()))
    scripts = {
        path.relative_to(EXPERIMENTS).as_posix()
        for path in EXPERIMENTS.rglob("*.py")
        if 'if __name__ == "__main__":' in path.read_text()
    }
    assert scripts == {name for name in named if "/" in name or name in scripts}


def test_a_command_of_an_experiment_names_a_script_that_is_there():
    places = [*PAGES, *EXPERIMENTS.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    for place in [*places, *(ROOT / "paretonas").rglob("*.py")]:
        for name in re.findall(r"experiments/[a-z_/]+\.py", place.read_text()):
            assert (ROOT / name).exists(), f"{place}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_command_can_be_pasted_whatever_environment_is_active(page):
    """It begins with ``.venv/bin/``; ``paretonas search`` alone is a name."""
    lines = [line for _, code in blocks(page, "(?:sh|bash)") for line in code.splitlines()]
    for command in [*lines, *re.findall("`([^`]+)`", prose(page))]:
        if re.match(r"(paretonas|python3?|pip|pytest|mypy)\s", command):
            assert re.match(r"paretonas \w+$|python3 -m venv ", command), command


def test_no_two_pages_write_the_same_file():
    written: dict[str, str] = {}
    for page in PAGES:
        found = blocks(page, "(?:sh|python)")
        code = "".join(code for _, code in found)
        names = [mark.removeprefix("run ") for mark, _ in found if mark.startswith("run ")]
        names += re.findall(r"--out (\S+)", code)
        names += re.findall(r"""(?:write|save|open|Path)\(["']([\w.]+)["']""", code)
        for name in {name.partition(".")[0] for name in names}:
            place = page.relative_to(ROOT).as_posix()
            assert written.setdefault(name, place) == place, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page, capsys):
    text = page.read_text().replace("\\\n", " ")
    for command in re.findall(
        r"paretonas ((?:search|compare|export|profile|report)\b[^`\n&]*)", text
    ):
        name, *words = shlex.split(command)
        capsys.readouterr()
        assert run([name, "--help"]) == 0
        shown = capsys.readouterr().out
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        assert all(f"{option} " in shown for option in options), command


def test_every_option_of_the_contract_is_in_the_help(capsys):
    options = {
        "search": "space device threads backend budget constraint solver minimize rays seed costs "
        "out resume repeat trust",
        "compare": "space table choices minimize maximize log where backend methods budget seeds "
        "out trust",
        "export": "pick format out space trust",
        "profile": "space device threads backend out",
        "report": "out space trust",
    }
    for command, names in options.items():
        assert run([command, "--help"]) == 0
        shown = capsys.readouterr().out
        assert all(f"--{name} " in shown for name in names.split())


def slow(page):
    """A page that searches for ten seconds or more: the deep run has it."""
    deep = page.parent.name == "examples" or page.name in (
        "your-own-training.md",
        "your-own-task.md",
    )
    return pytest.param(page, marks=pytest.mark.deep) if deep else page


@pytest.mark.parametrize("page", [*map(slow, PAGES)], ids=lambda page: page.name)
def test_marked_python_runs(page, tmp_path, monkeypatch):
    """Fences that say ``python run`` run, one after the other; a file name saves the code first."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": page.stem}
    for mark, code in blocks(page, "python"):
        if not mark.startswith("run"):
            continue
        file = mark.removeprefix("run").strip()
        if file:
            (tmp_path / file).write_text(code)
        exec(compile(code, file or page.name, "exec"), names)


def test_the_network_of_ones_own_is_found_by_the_command_of_its_page(tmp_path, monkeypatch):
    page = ROOT / "docs" / "your-own-network.md"
    ((_, code),) = (block for block in blocks(page, "python") if "my_file.py" in block[0])
    (tmp_path / "my_file.py").write_text(code)
    search, again, export = re.findall(
        r"^\.venv/bin/paretonas (.*)", page.read_text(), re.MULTILINE
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_file", raising=False)
    words = shlex.split(search)
    words[words.index("--budget") + 1] = "60steps"
    assert run([*words, "--device", "cpu"]) == 0
    assert (tmp_path / "paretonas-mine-1" / "front.csv").exists()
    assert run(shlex.split(again)) == 0
    assert run([*shlex.split(export), "--format", "json"]) == 0


def test_the_readme_has_two_commands_the_first_searching_the_second_testing():
    (_, first), (_, second), *_ = blocks(ROOT / "README.md", "sh")
    assert len(first.splitlines()) == len(second.splitlines()) == 1
    assert first.startswith(
        "python3 -m venv .venv && .venv/bin/pip install --no-compile -c .ci/cpu"
    )
    assert first.endswith("&& .venv/bin/paretonas search\n")
    assert second.startswith(".venv/bin/python -m pytest")


def test_the_changelog_has_an_unreleased_section():
    assert "\n## Unreleased\n" in (ROOT / "docs" / "changelog.md").read_text()


def test_every_solver_has_its_test_case_and_every_choice_of_solver_can_be_asked_for():
    from paretonas import solvers
    from paretonas.names import find_solver

    cases = "".join(path.read_text() for path in (ROOT / "tests" / "solvers").glob("*.py"))
    for name in solvers.__all__:
        assert name in cases, name
    for name in re.findall(r"`([A-Z]\w+)`", (ROOT / "docs" / "how-to-choose.md").read_text()):
        assert find_solver(name)


def test_ci_runs_each_stage_alone_and_refuses_others():
    result = subprocess.run(
        ["bash", str(ROOT / ".ci" / "run"), "nothing"],
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": os.environ["PATH"]},
        check=False,
    )
    assert result.returncode == 2
    for stage in ("format", "lint", "types", "layers", "docs", "tests"):
        assert stage in result.stderr
