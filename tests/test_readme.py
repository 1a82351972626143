"""What the README shows is what one gets."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("code, expected", EXAMPLES)
def test_examples_print_what_is_shown(code, expected):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue() == expected


def test_there_are_examples_and_they_are_all_run():
    assert len(EXAMPLES) == README.count("```python") > 0


def test_files_it_names_exist():
    named = set(re.findall(r"\]\(((?!http)[^)#]+)\)", README)) | set(
        re.findall(r"`((?:csrc|tinydiff|tests|examples|benchmarks)/[\w/.]+)`", README)
    )
    assert named
    for path in named:
        assert (ROOT / path).exists(), path
