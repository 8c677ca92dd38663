"""What the documents say is run, parsed or looked up: examples, commands, settings, links, quoted lines."""

import ast
import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path

import pytest
import tyro

from langevin.cli import COMMANDS, find_command
from langevin.commands.train import Train, parse_setting
from langevin.training.algorithms.registry import load_settings

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = sorted((ROOT / "langevin").rglob("*.py"))
RUN = [ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]


def named(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(ROOT)))


@dataclass
class Block:
    """A fenced block: its language, title, text, and line in the file."""

    language: str
    title: str
    text: str
    line: int


def blocks(path: Path) -> list[Block]:
    pattern = r'^```(\w*)(?: title="([^"]*)")?\n(.*?)^```$'
    text = path.read_text("utf-8")
    return [
        Block(found[1], found[2] or "", found[3], text[: found.start()].count("\n") + 1)
        for found in re.finditer(pattern, text, re.DOTALL | re.MULTILINE)
    ]


@named([path for path in RUN if any(block.language == "python" for block in blocks(path))])
def test_examples_run_and_print_what_the_page_says(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    names, printed = {"__name__": "example"}, ""
    for block in blocks(path):
        if block.language == "python" and not block.title:
            out = io.StringIO()
            program = compile("\n" * block.line + block.text, str(path), "exec")
            with contextlib.redirect_stdout(out):
                exec(program, names)
            printed = out.getvalue()
        elif block.title == "prints":
            assert printed.strip() == block.text.strip()


def commands_of_pages() -> Iterator[tuple[str, str]]:
    for path in PAGES:
        for block in blocks(path):
            if block.language in ("bash", "sh", "console"):
                for line in block.text.replace("\\\n", " ").splitlines():
                    command = line.strip().removeprefix("$ ")
                    if command.startswith("langevin "):
                        yield f"{path.relative_to(ROOT)}", command


def commands_of_docstrings() -> Iterator[tuple[str, str]]:
    for path in MODULES:
        if path.parent.name in ("commands", "experiments"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    for line in (ast.get_docstring(node) or "").splitlines():
                        command = line.strip().removeprefix("Example: ")
                        if command.startswith("langevin ") and not line.rstrip().endswith("."):
                            yield f"{path.relative_to(ROOT)}", command


SHOWN = sorted({*commands_of_pages(), *commands_of_docstrings()})


@pytest.mark.parametrize("command", sorted({command for _, command in SHOWN}))
def test_commands_that_are_shown_can_be_read(command):
    arguments = shlex.split(command, comments=True)[1:]
    if arguments in (["--help"], ["--version"]):
        return
    found = find_command(arguments)
    assert found is not None, f"no such command: {command}"
    name, rest = found
    module, class_name, _ = COMMANDS[name]
    if "--help" in rest:
        return
    read = tyro.cli(getattr(import_module(f"langevin.commands.{module}"), class_name), args=rest)
    if isinstance(read, Train):
        load_settings(
            read.algorithm,
            read.base,
            read.preset,
            read.dataset,
            dict(map(parse_setting, read.set)),
            read.transfer()[0],
        )


def test_commands_were_found_in_pages_and_docstrings():
    files = {file for file, _ in SHOWN}
    assert {"README.md", "docs/guide/commands.md", "langevin/commands/train.py"} <= files
    assert "langevin data list" in {command for _, command in SHOWN}


@pytest.mark.parametrize(
    "name", [name for name in COMMANDS if find_spec(f"langevin.commands.{COMMANDS[name][0]}")]
)
def test_every_command_is_on_the_commands_page(name):
    page = (ROOT / "docs" / "guide" / "commands.md").read_text("utf-8")
    assert f"<!-- help: {name} -->" in page


@named(PAGES)
def test_commands_named_in_a_sentence_exist(path):
    for words in re.findall(r"`langevin ([a-z][a-z-]*(?: [a-z][a-z-]*)*)", path.read_text("utf-8")):
        assert find_command(words.split()) or any(name.startswith(f"{words.strip()} ") for name in COMMANDS)


@named(PAGES)
def test_make_targets_that_are_named_exist(path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    text = path.read_text("utf-8")
    shown = [line for block in blocks(path) if block.language == "bash" for line in block.text.splitlines()]
    named = re.findall(r"`make ([a-z-]+)", text) + [
        line.split()[1] for line in shown if line.startswith("make ")
    ]
    assert set(named) <= targets


@named(PAGES)
def test_links_and_pictures_exist(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text):
        if not re.match(r"https?:|mailto:|#", target):
            assert (path.parent / target.split("#")[0]).exists(), target


@named(PAGES)
def test_tables_have_rows_as_wide_as_their_heads(path):
    """A row that was never filled in, or lost a cell, is a table that says less than it seems to."""
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    lines = text.splitlines()
    for place, line in enumerate(lines):
        if re.fullmatch(r"\|( *:?-+:? *\|)+", line):
            rows = list(takewhile(lambda line: line.startswith("|"), lines[place + 1 :]))
            assert rows, f"line {place + 1}: a table without a row"
            for row in [lines[place - 1], *rows]:
                assert cells(row) == cells(line), row


def cells(row: str) -> int:
    """Cells of a table's row; a bar that is escaped or in code is none's end."""
    return len(re.findall(r"\|", re.sub(r"`[^`]*`|\\\|", "", row))) - 1


@named(PAGES)
def test_files_of_the_package_that_are_named_exist(path):
    for file in re.findall(r"`((?:langevin|tests|docs)/[\w./-]+)`", path.read_text("utf-8")):
        assert (ROOT / file).exists(), file


@named([path for path in PAGES if path.parent.name == "methods"])
def test_quoted_lines_stand_in_the_file_they_are_quoted_from(path):
    quoted = [block for block in blocks(path) if block.language == "python"]
    assert quoted
    for block in quoted:
        source = {line.strip() for line in (ROOT / block.title).read_text("utf-8").splitlines()}
        for line in block.text.splitlines():
            assert line.strip() in source | {"", "..."}, f"{block.title} has no line {line.strip()!r}"


@named([path for path in MODULES if path.read_text("utf-8").strip()])
def test_public_functions_and_classes_have_docstrings(path):
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree), "the module has no docstring"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} (line {node.lineno}) has no docstring"


def test_every_subpackage_has_a_page_of_reference():
    packages = {path.parent.name for path in MODULES if path.name == "__init__.py"} - {"langevin", "commands"}
    packages -= {"sources", "algorithms"}  # on their parents' pages
    pages = {path.stem for path in (ROOT / "docs" / "reference").glob("*.md")}
    assert packages | {"api"} == pages
    for package in packages:
        page = (ROOT / "docs" / "reference" / f"{package}.md").read_text("utf-8")
        assert f"<!-- modules: {package} -->" in page
