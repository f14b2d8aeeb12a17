"""Parts of one's own: the pages about them, followed to the letter, and what is refused."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import paretonas.cli.search as job
from paretonas.cli import run
from paretonas.front import Front, Point
from paretonas.gradient_search.step import Step
from paretonas.names import find_solver
from paretonas.runs import Run

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / f"adding-{part}.md" for part in ("a-solver", "a-sampler", "a-space")]
PAGES.append(ROOT / "docs" / "adding-an-objective.md")
QUICK = {"--budget": {"600steps": "80steps", "60": "6", "8": "4"}, "--seeds": {"3": "2", "2": "1"}}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder of one's own; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    forget("my_", "own_code_in_")


def imported(*prefixes: str) -> list[str]:
    return [name for name in sys.modules if name.startswith(prefixes)]


def forget(*prefixes: str) -> None:
    for name in imported(*prefixes):
        del sys.modules[name]


def files_of(page: Path) -> dict[str, str]:
    """The code that a page asks to save."""
    found = re.findall(r"^```python run (\S+)\n((?:.*\n)*?)```$", page.read_text(), re.MULTILINE)
    return dict(found)


def commands_of(page: Path) -> list[list[str]]:
    """The commands of a page, with small budgets."""
    text = page.read_text().replace("\\\n", " ")
    found = []
    for line in re.findall(r"^\.venv/bin/paretonas (.*)", text, re.MULTILINE):
        words = shlex.split(line)
        for number, word in enumerate(words[:-1]):
            words[number + 1] = QUICK.get(word, {}).get(words[number + 1], words[number + 1])
        found.append(words)
    return found


# --- the pages ---------------------------------------------------------------------------------


@pytest.mark.deep
@pytest.mark.timeout(300)  # seconds, unless nothing of the package is in the cache
def test_the_code_of_the_pages_is_accepted_by_a_strict_type_checker(tmp_path):
    names = []
    for page in PAGES:
        for name, code in files_of(page).items():
            (tmp_path / name).write_text(code)
            names.append(name)
    assert len(names) >= len(PAGES)
    cache = ROOT / ".mypy_cache"  # that of the package, whose modules are the most of it
    words = ["--strict", "--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(cache)]
    ended = subprocess.run(
        [sys.executable, "-m", "mypy", *words, *(str(tmp_path / name) for name in names)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=290,
    )
    assert ended.returncode == 0, ended.stdout


@pytest.mark.deep
@pytest.mark.timeout(240)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_work_on_its_files_and_no_file_of_the_package_is_changed(
    page, here, one_process, capsys
):
    """That its code and its check run is the law of all pages, in test_house.py."""
    for name, code in files_of(page).items():
        (here / name).write_text(code)
    commands = commands_of(page)
    assert len(commands) >= 2
    for words in commands:
        assert run(words) == 0, capsys.readouterr().err
    assert "check_" in page.read_text()
    assert "paretonas/" not in "".join(files_of(page).values())


# --- what is refused -----------------------------------------------------------------------------

MY_PARTS = """
from pathlib import Path

import torch
from torch import nn

from paretonas.objectives import measured
from paretonas.samplers import Random
from paretonas.solvers import MGDA
from search_spaces.toy import space

PATH = Path(__file__)
SIZE = 10


class Mine(MGDA):
    pass


class Needy(MGDA):
    def __init__(self, strength):
        super().__init__()


class Raising:
    def __init__(self):
        raise RuntimeError("lost")

    def __call__(self, jacobian, values=None, state=None):
        pass


def average(jacobian, values=None, state=None):
    return MGDA()(jacobian, values, state)


def two(jacobian, values):
    return None


class Net(nn.Linear):
    pass


class Aging(Random):
    pass


class aging(Random):
    pass


def made(problem, seed=0):
    return Aging(problem, seed=seed)


def nothing(problem, seed=0):
    return 3


class Seedless(Random):
    def __init__(self, problem):
        super().__init__(problem, seed=0)


class Broken(Random):
    def __init__(self, problem, *, seed):
        raise RuntimeError("no room")


class Joules:
    column = "energy_joule"

    def __init__(self, scale=1.0):
        self.scale = scale

    def exact(self, architecture):
        Path("evaluated").touch()
        return self.scale * len("".join(architecture.values()))


class Watts(Joules):
    name, unit, column = "power", "watt", "power_watt"

    def relaxed(self, probabilities):
        return probabilities.sum(-1)


def joules(space):
    assert space.choices
    return Watts(1.5)


def two_spaces(space, other):
    return Joules()


def torn(space):
    raise KeyError("meter")


def number(space):
    return 3


class Unnamed(Watts):
    column = ""


class Error(Watts):
    name, unit, column = "error", "percent", "error_percent"


watts = Watts()
both = measured(lambda picks: (1.0, 2.0), ["one", "two"])
"""


@pytest.fixture
def parts(here):
    (here / "my_parts.py").write_text(MY_PARTS)
    (here / "broken.py").write_text("1 / 0")
    return here


def refused(arguments: list[str], capsys) -> str:
    """The one line on stderr of a command that ends with exit code 2."""
    capsys.readouterr()
    code = run(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 2, line
    return line


SEARCH = ["search", "--space", "toy"]
COMPARE = ["compare", "--space", "my_cells.py:cells", "--budget", "5", "--seeds", "1"]
OWN = "one of your own is pkg.mod:attribute or dir/my_file.py:attribute"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--solver=mdga", f"no solver is called 'mdga'; did you mean 'MGDA'?; {OWN}"),
        ("--solver=my_parts:Mini", "my_parts has no 'Mini'; did you mean 'Mine'?"),
        ("--solver=my_parts", "no solver is called 'my_parts'"),
        ("--solver=my_parts.py", "my_parts.py does not say which solver"),
        ("--solver=no/file.py:Mine", "there is no file"),
        ("--solver=nomodule:Mine", "no module is called 'nomodule'"),
        ("--solver=broken.py:Mine", "broken.py failed: ZeroDivisionError"),
        ("--solver=my_parts:Needy", "is a class whose objects need arguments"),
        ("--solver=my_parts:Raising", "my_parts:Raising() failed: RuntimeError: lost"),
        ("--solver=my_parts:two", "is the function two(jacobian, values), no solver"),
        ("--solver=my_parts:Net", "is a network, no solver"),
        ("--solver=my_parts:space", "is of type NetworkSpace, no solver"),
        ("--solver=my_parts:watts", "is of type Watts, no solver"),
        ("--minimize=latncy", f"no objective is called 'latncy'; did you mean 'latency'?; {OWN}"),
        ("--minimize=latency,my_parts:wats", "has no 'wats'; did you mean 'watts'?"),
        ("--minimize=my_parts:Joules", "my_parts:Joules has no name, unit, relaxed: the search"),
        ("--minimize=my_parts:both", "my_parts:both has no name, unit, relaxed: the search"),
        ("--minimize=my_parts:two_spaces", "it must take the space alone, as in def two_spaces"),
        ("--minimize=my_parts:torn", "my_parts:torn(space) failed: KeyError: 'meter'"),
        ("--minimize=my_parts:number", "my_parts:number(space) is of type int, no objective"),
        ("--minimize=my_parts:Mine", "is of type Mine, no objective: an objective has a column"),
        ("--minimize=my_parts:Unnamed", "must be a name, got ''"),
        ("--minimize=my_parts:Error", "two objectives are called 'error_percent'"),
        ("--minimize=latency,latency", "two objectives are called 'latency_ms'"),
        ("--minimize=", "--minimize names no objective"),
    ],
)
def test_search_refuses_what_is_no_part_in_one_line(parts, capsys, option, message):
    line = refused([*SEARCH, option], capsys)
    assert message in line
    assert not list(parts.glob("paretonas-*")), "a refused search leaves no folder"


def test_a_file_that_exits_is_refused(here, capsys):
    (here / "my_exit.py").write_text("import sys; sys.exit(0)\n")
    line = refused([*SEARCH, "--solver", "my_exit.py:Mine"], capsys)
    assert "failed: SystemExit: 0" in line
    assert not imported("own_code_in_my_exit")


def test_files_in_packages_have_their_own_modules(here, capsys):
    """Relative imports reach all of a package; a second package of one name is not the first."""
    for place in ("one/my_top/my_sub", "two/my_top/my_sub"):
        (here / place).mkdir(parents=True)
        (here / place / "__init__.py").write_text("")
        (here / place / ".." / "__init__.py").write_text("")
        (here / place / ".." / "base.py").write_text("from paretonas.solvers import MGDA as Mine\n")
        (here / place / "part.py").write_text("from ..base import Mine\nmine = Mine()\n")
    assert find_solver("one/my_top/my_sub/part.py:mine") is not None
    with pytest.raises(ValueError, match="is imported under that name; give one of the packages"):
        find_solver("two/my_top/my_sub/part.py:mine")


def test_a_limit_is_on_what_is_minimized(parts, capsys):
    more = ["--minimize", "my_parts:watts", "--constraint", "latency<=2ms"]
    assert "no objective is called 'latency'" in refused([*SEARCH, *more], capsys)
    assert "add latency to --minimize" in refused(
        [*SEARCH, "--minimize", "memory", "--costs", "my_parts.py"], capsys
    )
    assert not list(parts.glob("paretonas-*"))


CELLS = """
import pandas as pd
from paretonas import Table

def pick(number):
    return [number // 9, number // 3 % 3, number % 3]

rows = pd.DataFrame([pick(number) for number in range(27)], columns=["a", "b", "c"])
rows["error"] = (rows.a - 2) ** 2 + (rows.b - 1) ** 2 + 1
rows["ms"] = rows.a + rows.b + rows.c + 1
cells = Table.from_pandas(rows, ["a", "b", "c"], ["error", "ms"], name="cells")
"""


@pytest.fixture
def cells(parts):
    (parts / "my_cells.py").write_text(CELLS)
    return parts


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--methods=nsga", "no method is called 'nsga'; did you mean 'nsga"),
        ("--methods=my_parts:Seedles", "my_parts has no 'Seedles'; did you mean 'Seedless'?"),
        ("--methods=my_parts:SIZE", "is of type int, no method"),
        ("--methods=my_parts:Net", "is a network, no method"),
        ("--methods=my_parts:Seedless", "is the class Seedless, no method"),
        ("--methods=my_parts:average", "is the function average(jacobian, "),
        ("--methods=my_parts:nothing", "makes what is of type int, no sampler"),
        ("--methods=my_parts:Broken", "my_parts:Broken(problem, seed=0) failed: RuntimeError"),
        ("--methods=random,my_parts:Aging,my_parts:aging", "have one name in tables and files"),
        ("--methods=my_parts:Aging,my_parts:Aging", "is named 2 times"),
        ("--minimize=error,mss", "no objective is called 'mss'; did you mean 'ms'?"),
        ("--minimize=error,my_parts:wats", "has no 'wats'; did you mean 'watts'?"),
        ("--minimize=error", "at least two objectives"),
        ("--minimize=error,my_parts:Joules,my_parts:Joules", "two objectives are called"),
    ],
)
def test_compare_refuses_what_is_no_part_in_one_line(cells, capsys, option, message):
    line = refused([*COMPARE, option], capsys)
    assert message in line
    assert not list(cells.glob("compare-*"))
    assert not (cells / "evaluated").exists()


# --- what is found -------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch):
    """Puts a step in the place of the search, and keeps its arguments."""
    found = {}

    def search(**arguments):
        found.update(arguments)
        yield Step("weights", 1, 10, Front(["error_percent"]), 0.0)

    monkeypatch.setattr(job, "search", search)
    return found


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("my_parts:Mine", "Mine"),
        ("my_parts.py:Mine", "Mine"),
        ("./my_parts.py:average", "function"),
        ("paretonas.solvers.mgda:MGDA", "MGDA"),
    ],
)
def test_a_solver_is_an_object_a_function_or_a_class_without_arguments(parts, asked, spec, kind):
    run([*SEARCH, "--solver", spec, "--out", "run"])
    assert type(asked["solver"]).__name__ == kind
    assert json.loads(Path("run/run.json").read_text())["settings"]["solver"] == spec


@pytest.mark.parametrize("spec", ["my_parts:watts", "my_parts:Watts", "my_parts.py:joules"])
def test_an_objective_is_an_object_or_what_makes_one_with_or_without_the_space(parts, asked, spec):
    limit = ["--constraint", "power_watt<=3"]
    run([*SEARCH, "--minimize", f"latency,{spec}", *limit, "--out", "run"])
    latency, own = asked["objectives"]
    assert latency == "latency"
    assert type(own).__name__ == "Watts"
    assert own.scale == (1.5 if "joules" in spec else 1.0)
    assert dict(asked["constraint"].limits) == {"power_watt": 3.0}


def test_a_file_is_one_module_for_all_parts_in_it(parts, asked):
    run([*SEARCH, "--solver", "my_parts.py:Mine", "--minimize", "my_parts.py:watts", "--out", "r"])
    (own,) = asked["objectives"]
    assert sys.modules[type(own).__module__].Mine is type(asked["solver"])


def compared(cells, *more: str, out: str = "out") -> dict[str, bytes]:
    """The files of a comparison that do not tell of seconds."""
    assert run([*COMPARE, *more, "--jobs", "2", "--out", out]) == 0
    names = ["anytime.csv", "evaluations.csv", *(path.name for path in Path(out).glob("front-*"))]
    return {name: Path(out, name).read_bytes() for name in names}


OWN_PARTS = ["--methods", "random,my_parts.py:Aging", "--minimize", "error,my_parts.py:Joules"]


def test_own_methods_and_objectives_of_a_file_go_to_other_processes(cells, monkeypatch):
    many = compared(cells, *OWN_PARTS, out="many")
    monkeypatch.setattr("paretonas.cli.compare._processes", lambda *_: None)
    assert many == compared(cells, *OWN_PARTS, out="one")
    assert {"front-Aging.csv", "front-random.csv"} <= many.keys()
    # It is the same method as `random`, so it finds the same.
    assert many["front-Aging.csv"] == many["front-random.csv"]
    head = many["front-Aging.csv"].decode().splitlines()[0]
    assert head == "id,a,b,c,error,energy_joule"
    assert sorted(os.listdir("many/runs")) == ["Aging-0.jsonl", "random-0.jsonl"]


def test_what_cannot_be_sent_to_other_processes_is_compared_in_this_one(cells):
    found = compared(cells, "--methods", "random", "--minimize", "error,my_parts:both")
    assert found["front-random.csv"].decode().splitlines()[0] == "id,a,b,c,error,one,two"


def test_own_objectives_stand_beside_the_columns_of_a_file(cells, one_process):
    rows = "\n".join(f"{a},{b},{a + b},{9 - a * b}" for a in range(3) for b in range(3))
    Path("rows.csv").write_text(f"a,b,acc:top1,ms\n{rows}\n")
    table = ["compare", "--table", "rows.csv", "--choices", "a,b", "--methods", "random"]
    more = ["--budget", "4", "--seeds", "1"]
    named = ["--minimize", "acc:top1,my_parts:Joules,ms", "--log", "energy_joule"]
    assert run([*table, *more, *named, "--out", "out"]) == 0
    head = Path("out/front-random.csv").read_text().splitlines()[0]
    assert head == "id,a,b,acc:top1,ms,energy_joule"


# --- whose code runs -----------------------------------------------------------------------------


def test_a_resumed_search_wants_its_own_parts_to_be_named_again(parts, asked, capsys):
    own = {"--solver": "my_parts:Mine", "--minimize": "latency,my_parts:watts"}
    run([*SEARCH, *(word for pair in own.items() for word in pair), "--out", "run"])
    asked.clear()
    del sys.modules["my_parts"]
    resume = ["search", "--resume", "run"]
    solver, objective = ["--solver", "my_parts:Mine"], ["--minimize", "my_parts:watts"]
    line = refused(resume, capsys)
    assert "names code that is not of paretonas: 'my_parts:watts' in" in line
    assert "Name the objective yourself with --minimize FILE:watts, or allow" in line
    assert not asked and "my_parts" not in sys.modules
    assert "Name the solver yourself" in refused([*resume, *objective], capsys)
    assert "Name the objective yourself" in refused([*resume, *solver], capsys)
    for spec in ("my_parts:average", "MGDA"):
        line = refused([*resume, *objective, "--solver", spec], capsys)
        assert f"leave out --solver {spec}" in line and "it has Mine" in line
    assert not asked
    os.mkdir("else")
    os.chdir("else")
    Path("mine.py").write_text(MY_PARTS)
    resume[-1] = "../run"
    for allow in (["--trust"], ["--solver", "mine.py:Mine", "--minimize", "mine.py:watts"]):
        run([*resume, *allow])
        assert type(asked["solver"]).__name__ == "Mine"
        home = Path(sys.modules[type(asked["solver"]).__module__].__file__)
        assert home == parts / ("my_parts.py" if "--trust" in allow else "else/mine.py")
        asked.clear()


def test_a_run_whose_objectives_have_changed_is_refused(parts, asked, capsys):
    run([*SEARCH, "--minimize", "my_parts.py:watts", "--out", "run"])
    point = Point(
        {"width": "4", "mix": "skip", "deep": "0"},
        {"error_percent": 1.0, "power_watt": 2.0},
        id="a01",
    )
    Run.open("run").record(point)
    resume = ["search", "--resume", "run", "--trust"]
    run(resume)
    assert "holds points" not in capsys.readouterr().err
    Path("my_parts.py").write_text(MY_PARTS.replace("watt", "mw"))
    line = refused([*resume[:-1], "--minimize", "my_parts.py:mws"], capsys)
    assert "has no objective of its own that is called 'mws'; it has watts" in line
    Path("my_parts.py").write_text(MY_PARTS.replace("power_watt", "power_mw"))
    line = refused(resume, capsys)
    assert "points with error_percent, power_watt; the objectives are now error_percent, po" in line


def test_a_resumed_comparison_wants_its_own_parts_to_be_named_again(cells, one_process, capsys):
    before = compared(cells, *OWN_PARTS)
    Path("out/runs/Aging-0.jsonl").unlink()
    forget("own_code_in_my_parts")
    resume = ["compare", "--resume", "out", "--space", "my_cells.py:cells"]
    line = refused(resume, capsys)
    assert "Name the method yourself with --methods FILE:Aging, or allow" in line
    assert not imported("own_code_in_my_parts")
    line = refused([*resume, "--methods", "my_parts.py:Aging"], capsys)
    assert "Name the objective yourself with --minimize FILE:Joules, or allow" in line
    line = refused([*resume, "--methods", "nsga2"], capsys)
    assert "leave out --methods nsga2" in line
    assert "leave out --where" in refused([*resume, "--where", "ok"], capsys)
    # A report runs none of them, and needs no permission.
    forget("own_code_in_my_parts")
    assert run(["report", "out", "--space", "my_cells.py:cells"]) == 0
    assert not imported("own_code_in_my_parts")
    own = ["--methods", "my_parts.py:Aging", "--minimize", "my_parts.py:Joules"]
    assert run([*resume, *own]) == 0
    after = {name: Path("out", name).read_bytes() for name in before}
    assert after == before


def test_a_folder_cannot_name_a_file_outside_of_it_by_a_method(cells, one_process, capsys):
    compared(cells, "--methods", "random")
    about = json.loads(Path("out/compare.json").read_text())
    for name in ("x:../../evil", "../../evil"):
        about["asked"]["methods"] = [name]
        Path("out/compare.json").write_text(json.dumps(about))
        line = refused(["report", "out", "--space", "my_cells.py:cells"], capsys)
        assert "the name of a method becomes that of a file" in line
    about["asked"]["methods"] = 3
    Path("out/compare.json").write_text(json.dumps(about))
    line = refused(["report", "out", "--space", "my_cells.py:cells"], capsys)
    assert "'methods' must be a list of texts" in line
