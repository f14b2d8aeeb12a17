"""Build the site: the pages of the repository and a reference made of its docstrings.

It fails, in one line for each fault, on a public name that is not documented, on one that a page
imports and the reference lacks, on a page that the index lacks, and on a link that leads nowhere.

    .venv/bin/python docs/site/build.py
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INDEX = "docs/README.md"
REFERENCE = "docs/reference"
SITE = ROOT / ".site"

try:
    import reference
    import zensical  # noqa: F401
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is not installed: .venv/bin/pip install -e '.[docs]'")


def main() -> None:
    """Check, lay out, build; what was built before is replaced."""
    sys.path.insert(0, str(ROOT))  # what is here is documented, whatever is installed
    modules = reference.public("paretonas", ROOT)
    groups = listed((ROOT / INDEX).read_text())
    faults = [*reference.undocumented(modules), *unlisted(groups), *unexplained(modules)]
    if faults:
        sys.exit("\n".join(faults))
    shutil.rmtree(SITE, ignore_errors=True)
    for page in pages():
        lay(page)
    (SITE / "pages" / REFERENCE).mkdir()
    for module, text in reference.pages(modules).items():
        (SITE / "pages" / REFERENCE / f"{module}.md").write_text(text)
    with (SITE / "pages" / f"{REFERENCE}.md").open("a") as file:
        file.write("\n" + reference.overview(modules, Path(REFERENCE).name))
    nav = navigation(groups, [*modules])
    shutil.copyfile(Path(__file__).parent / "wide.css", SITE / "pages" / "wide.css")
    settings = (Path(__file__).parent / "zensical.toml").read_text()
    (SITE / "zensical.toml").write_text(settings.replace("nav = []", f"nav = {nav}"))
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=SITE, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    if faults := [*unshown(modules), *dead(SITE / "html")]:
        sys.exit("\n".join(faults))
    print(f"built {(SITE / 'html' / 'index.html').relative_to(ROOT)}")


def pages() -> list[Path]:
    """Every page of the repository, relative to its root."""
    found = [ROOT / "README.md", ROOT / "experiments" / "README.md", *(ROOT / "docs").rglob("*.md")]
    return sorted(path.relative_to(ROOT) for path in found)


def listed(index: str) -> dict[str, dict[str, Path]]:
    """The groups of the index, and in each the title and the place of its pages."""
    groups = {}
    for section in re.split(r"^## ", index, flags=re.M)[1:]:
        heading, _, lines = section.partition("\n")
        found = re.findall(r"^- \[(.+?)\]\(([^)#]+)\): \S", lines, re.M)
        places = {title: (ROOT / INDEX).parent / place for title, place in found}
        groups[heading] = {t: place.resolve().relative_to(ROOT) for t, place in places.items()}
    return groups


def unlisted(groups: dict[str, dict[str, Path]]) -> list[str]:
    """A line for each page that the index does not list, or lists twice."""
    places = [path for group in groups.values() for path in group.values()]
    missing = [page for page in pages() if page not in [*places, Path(INDEX), Path("README.md")]]
    return [f"{page} is not listed in {INDEX}" for page in missing] + [
        f"{page} is listed twice in {INDEX}" for page in {*places} if places.count(page) > 1
    ]


def unexplained(modules: dict[str, list[reference.Entry]]) -> list[str]:
    """A line for each name of the package that the code of a page imports and no room offers."""
    offered = {entry.path for entries in modules.values() for entry in entries} | {*modules}
    lines = []
    for page in pages():
        for code in re.findall(
            r"^```python run.*\n((?:.*\n)*?)```$", (ROOT / page).read_text(), re.M
        ):
            lines += [
                f"{page} imports {name}, which is in no __all__"
                for name in imported(code)
                if name not in offered
            ]
    return lines


def imported(code: str) -> list[str]:
    """The names of the package that code imports, such as ``paretonas.nn.OneOf``."""
    names = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return [name for name in names if name.partition(".")[0] == "paretonas"]


def lay(page: Path) -> None:
    """Copy a page and the files that it links to, each to its own place."""
    text = (ROOT / page).read_text()
    laid = SITE / "pages" / page
    laid.parent.mkdir(parents=True, exist_ok=True)
    laid.write_text(re.sub(r"^```python run *(.*)$", fence, text, flags=re.M))
    for link in re.findall(r"\]\(([^)#]+)", text):
        file = (ROOT / page).parent / link
        if file.suffix != ".md" and file.is_file():
            target = (SITE / "pages" / page).parent / link
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def fence(found: re.Match[str]) -> str:
    """What is behind ``python`` on a fence is for the tests; a file's name becomes a title."""
    return f'```python title="{found[1]}"' if found[1] else "```python"


def navigation(groups: dict[str, dict[str, Path]], modules: list[str]) -> str:
    """The tree of the site, in TOML: the groups of the index, then the reference."""
    tree: list[dict[str, object]] = [{"Start": "README.md"}, {"All pages": INDEX}]
    for group, places in groups.items():
        inner: list[object] = [{title: str(path)} for title, path in places.items()]
        if Path(f"{REFERENCE}.md") in places.values():
            titles = {module: module.removeprefix("paretonas.") for module in modules}
            inner += [{title: f"{REFERENCE}/{name}.md"} for name, title in titles.items()]
        tree.append({group: inner})
    return toml(tree)


def toml(value: object) -> str:
    """A value of lists, tables and strings in TOML, all in one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def unshown(modules: dict[str, list[reference.Entry]]) -> list[str]:
    """A line for each public name that is not on the page on which it belongs."""
    lines = []
    for module, entries in modules.items():
        page = (SITE / "html" / REFERENCE / f"{module}.html").read_text()
        for entry in entries:
            mark = f'id="{entry.path}"' if entry.is_here else f'#{entry.home}"'
            if mark not in page:
                lines.append(f"{entry.path} is not shown in the reference")
    return lines


def dead(folder: Path) -> list[str]:
    """A line for each link from one file of a folder to another that is not there."""
    return [
        f"{page.relative_to(folder)} links to {link}, which is not there"
        for page in folder.rglob("*.html")
        for link in re.findall(r'(?:href|src)="([^"#?:]+)["#?]', page.read_text())
        if not (folder / link[1:] if link.startswith("/") else page.parent / link).is_file()
    ]


if __name__ == "__main__":
    main()
