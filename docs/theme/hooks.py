"""What the site takes from elsewhere when it is built: result pages, each command's help, mathematics as MathML."""

import contextlib
import html
import io
import os
import re
import textwrap
from importlib import import_module
from pathlib import Path

import tyro
from latex2mathml.converter import convert

from langevin.cli import COMMANDS

DOCS = Path(__file__).parent.parent


def on_config(config):
    """The section "Results" holds whatever pages docs/results has, its index first."""
    for section in config["nav"]:
        if isinstance(section, dict) and "Results" in section:
            section["Results"] = [f"results/{name}" for name in ["index.md", *result_pages()]]
    return config


def on_page_markdown(markdown, page, **_):
    """Put the list of result pages, a subpackage's modules and a command's help where a page asks for them."""
    markdown = markdown.replace("<!-- result pages -->", "\n".join(map(result_link, result_pages())))
    markdown = re.sub(r"<!-- modules: (\w+) -->", lambda found: reference(found[1]), markdown)
    return re.sub(r"<!-- help: ([a-z ]+) -->", lambda found: help_block(found[1]), markdown)


def on_page_content(content, **_):
    """Formulas as MathML, which browsers draw by themselves."""
    pattern = r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>'
    return re.sub(pattern, formula, content, flags=re.DOTALL)


def formula(found: re.Match) -> str:
    """One formula of arithmatex."""
    latex = html.unescape(found[3]).strip()
    return convert(latex, display="block" if found[2] == "[" else "inline")


def result_pages() -> list[str]:
    """File names of the result pages, without the index."""
    return sorted(path.name for path in (DOCS / "results").glob("*.md") if path.name != "index.md")


def result_link(name: str) -> str:
    """A list entry with the page's own title."""
    lines = (DOCS / "results" / name).read_text("utf-8").splitlines()
    title = next((line.removeprefix("# ") for line in lines if line.startswith("# ")), name)
    return f"- [{title}]({name})"


def reference(package: str) -> str:
    """An entry of mkdocstrings for each module of a subpackage."""
    entries = []
    for path in sorted((DOCS.parent / "langevin" / package).rglob("*.py")):
        name = ".".join(path.relative_to(DOCS.parent).with_suffix("").parts).removesuffix(".__init__")
        if path.read_text("utf-8").strip() and name != f"langevin.{package}":
            entries.append(f"::: {name}\n    options: {{heading_level: 2, show_submodules: false}}\n")
    return "\n".join(entries)


def help_block(command: str) -> str:
    """What `langevin COMMAND --help` prints, without its frames."""
    module, class_name, _ = COMMANDS[command]
    try:
        command_class = getattr(import_module(f"langevin.commands.{module}"), class_name)
    except ModuleNotFoundError:
        return ""
    os.environ.update(COLUMNS="92", NO_COLOR="1")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        tyro.cli(command_class, args=["--help"], prog=f"langevin {command}")
    lines = [re.sub(r"[╭╮╰╯│─]", " ", line)[1:].rstrip() for line in printed.getvalue().splitlines()]
    groups = ("positional arguments", "options")
    first = next(place for place, line in enumerate(lines) if line.strip() in groups)
    options = "\n".join(line for line in lines[first:] if line.strip(" -"))
    return '??? info "Options"\n\n' + textwrap.indent(f"```text\n{options}\n```\n", "    ")
