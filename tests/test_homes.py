"""One op, one name, everywhere; and nothing below imports anything above."""

import ast
from pathlib import Path

import pytest

import tinydiff
from tinydiff import backends
from tinydiff.backends import launch_table
from tinydiff.backends.kernel_names import kernels
from tinydiff.ops import OPS, WITHOUT_GRADIENT

TESTS = Path(__file__).parent
PACKAGE = Path(tinydiff.__file__).parent
SOURCES = TESTS.parent / "csrc"


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_its_homes(op):
    module = OPS[op]
    assert Path(module.__file__) == PACKAGE / "ops" / f"{op}.py"
    assert module.__doc__.startswith(f"{op}: ") and "Forward" in module.__doc__ or op in ("philox", "adamw")
    assert hasattr(backends.get("numpy"), op)
    assert (SOURCES / "cpu" / f"{op}.cpp").read_text().startswith(f"// {op}: ")
    assert (SOURCES / "cuda" / f"{op}.cu").read_text().startswith(f"// {op}: ")
    tests = (TESTS / "ops" / f"test_{op}.py").read_text()
    if op in WITHOUT_GRADIENT:
        assert not hasattr(module, "backward")
    else:
        assert "Backward" in module.__doc__ and hasattr(module, "Cache")
        assert "check_op(" in tests and "assert_caught(" in tests


@pytest.mark.parametrize("op", OPS)
def test_every_cuda_kernel_can_be_chosen_and_says_what_it_does(op):
    text = (SOURCES / "cuda" / f"{op}.cu").read_text()
    head = text[: text.index("#include")]
    contracts = kernels(text)
    assert len(contracts) == text.count("__global__")
    verbs = launch_table.TABLE[op].items()
    assert set(contracts) == {f"{op}_{verb}_{version}" for verb, versions in verbs for version in versions}
    for verb, versions in verbs:
        assert list(versions) == sorted(versions), "simplest first"
        for version in versions:
            assert f"// {version} " in head, f"{version} is not in the list at the top of {op}.cu"
            contract = contracts[f"{op}_{verb}_{version}"]
            for word in (
                ("launch", "writes", "reproducible") if op != "adamw" else ("launch", "updates", "reproducible")
            ):
                assert word in contract, f"{op}_{verb}_{version} does not say: {word}"


def test_every_file_in_ops_is_an_op():
    files = {path.stem for path in (PACKAGE / "ops").glob("*.py")}
    assert files == {*OPS, "__init__", "contract"}


# folder or file of the package -> what of the package it may import
MAY_IMPORT = {
    "ops": {"ops"},
    "program": {"program", "ops", "precision"},
    "program/runs.py": {"program", "model", "noise", "data", "generate", "train"},
    "program/web.py": {"program", "model", "noise", "data", "generate", "train"},
    "program/stages.py": {"program", "noise", "samplers"},
    "program/memory.py": {"program", "generate", "ranks", "train", "backends"},
    "program/file.py": {"program", "files", "tensors"},
    "program/command.py": {"program", "noise", "samplers", "generate", "train", "backends"},
    "backends": {"ops", "backends", "program", "precision"},
    "precision": set(),
    "model": {"model"},
    "noise": {"noise"},
    "samplers": {"samplers", "noise"},
    "data": {"data", "ops", "files", "progress"},
    "gradcheck": {"gradcheck", "ops", "model", "backends", "precision"},
    "text": {"text", "model", "backends", "tensors", "given"},
    "given": {"tensors"},
    "files": set(),
    "progress": set(),
    "tensors": set(),
    "terminal": set(),
    "pictures": {"data", "files"},
    "plot": {"pictures"},
    "generate": {"noise", "samplers", "ranks"},
    "editing": {"noise", "samplers"},
    "interpolation": set(),
    "ranks": {"ranks", "backends", "terminal"},
    "train": {
        "train", "model", "noise", "samplers", "data", "generate", "pictures", "files", "progress", "tensors", "ranks",
        "ops", "text", "__version__",
    },  # fmt: skip
    "train/feature_error.py": {"metrics", "model"},  # what it looks through was trained by what is below it
    "metrics": {"metrics", "train", "model", "backends", "data", "files", "progress", "ranks"},
    "evaluate": {"metrics", "data", "ranks"},
    "interop": {
        "interop", "program", "train", "model", "noise", "data", "backends", "files", "tensors", "terminal", "given", "text",
    },  # fmt: skip
    "interop/web.py": {"interop", "program", "model", "noise", "backends", "generate", "metrics", "tensors"},
    "interop/command.py": {"interop", "samplers", "data", "train", "terminal", "backends"},
    "pages": None,
    "report": {"train", "generate", "pictures", "plot", "progress"},
    "commands": None,
    "cli": None,
    "__main__": None,
    "__init__": set(),
}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_below_imports_anything_above(path):
    place = path.relative_to(PACKAGE)
    allowed = MAY_IMPORT.get(place.as_posix(), MAY_IMPORT[place.parts[0].removesuffix(".py")])
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tinydiff":
            parts = node.module.split(".")[1:]
            imported |= {parts[0]} if parts else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("tinydiff.")}
    assert allowed is None or imported <= allowed, f"{path} imports {imported - allowed}"


def test_files_stay_short():
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.js"), *SOURCES.glob("*/*.[ch]*")]:
        assert len(path.read_text().splitlines()) <= 500, path
