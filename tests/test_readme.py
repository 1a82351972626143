"""What the READMEs show is what one gets."""

import contextlib
import importlib
import io
import re
import shlex
from pathlib import Path

import pytest

from tinydiff import cli

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "benchmarks/README.md")
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, flags=re.DOTALL)


def shown(page):
    """Every line of a page's shell blocks, and every span of code in its text."""
    text = (ROOT / page).read_text()
    blocks = re.findall(r"```(\w+)\n(.*?)```", text, flags=re.DOTALL)
    lines = [line for language, block in blocks if language == "sh" for line in block.splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


@pytest.mark.parametrize("code, expected", EXAMPLES)
def test_examples_print_what_is_shown(code, expected):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue() == expected


def test_there_are_examples_and_they_are_all_run():
    assert len(EXAMPLES) == README.count("```python") > 0


def test_the_first_page_stays_short():
    lines = README.splitlines()
    assert len(lines) <= 200 and len(README.encode()) <= 12_000
    assert all(len(line) <= 120 for line in lines if not line.startswith("|"))


@pytest.mark.parametrize("page", PAGES)
def test_files_it_names_exist(page):
    linked = re.findall(r"\]\(((?!http|#)[^)#]+)\)", (ROOT / page).read_text())
    places = r"(?<![\w/.])(?:csrc|tinydiff|tests|examples|benchmarks)/[\w/.]*"
    named = [path for each in shown(page) for path in re.findall(places, each)]
    assert linked and named
    for path in [*((ROOT / page).parent / path for path in linked), *map(ROOT.joinpath, named)]:
        assert path.exists(), path


@pytest.mark.parametrize("page", PAGES)
def test_commands_it_names_can_be_given(page, monkeypatch):
    """To ``tinydiff``, whose parser reads them here; nothing is run."""
    monkeypatch.setattr(cli, "call", lambda function, args: 0)
    for words in (shlex.split(part, comments=True) for each in shown(page) for part in each.split("&&")):
        if len(words) > 1 and words[0].rpartition("/")[2] == "tinydiff":
            with contextlib.suppress(SystemExit) if "--help" in words else contextlib.nullcontext():
                assert cli.main(words[1:]) == 0


@pytest.mark.parametrize("page", PAGES)
def test_options_it_names_exist(page, capsys):
    for command in ("train", "train-vae", "sample", "evaluate", "gradcheck", "site", "export", "import"):
        with contextlib.suppress(SystemExit):
            cli.main([command, "--help"])
    programs = capsys.readouterr().out + "".join(path.read_text() for path in ROOT.glob("benchmarks/*.py"))
    ours = [part for each in shown(page) for part in each.split("&&") if "pip install" not in part]
    options = {option for each in ours for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", each)}
    assert options and options <= set(re.findall(r"--[a-z][a-z-]+", programs))


@pytest.mark.parametrize("page", PAGES)
def test_its_tables_are_those_of_the_results(page, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    text = (ROOT / page).read_text()
    assert "<!-- table: " in text and importlib.import_module("measure").with_tables(text) == text
