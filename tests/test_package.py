"""The package as a whole: import time and side effects, docstrings, dependencies."""

import ast
import importlib
import inspect
import pathlib
import pkgutil
import subprocess
import sys
import time

import pytest

import jnas

ROOT = pathlib.Path(jnas.__file__).parent
MODULES = sorted(
    m.name
    for m in pkgutil.walk_packages([str(ROOT)], "jnas.")
    if not m.name.endswith("__main__")
)


def _python(code: str) -> str:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_import_is_quick_and_lazy():
    best = float("inf")
    for _ in range(3):  # the first may read from a cold disk
        start = time.perf_counter()
        out = _python("import sys, jnas; print('flax' in sys.modules)")
        best = min(best, time.perf_counter() - start)
    assert out.strip() == "False"
    assert best < 2, f"import jnas took {best:.1f} s"


def test_everything_imports_without_the_optional_libraries():
    blocked = ["tensorflow_datasets", "matplotlib", "sklearn", "tyro", "PIL", "grain"]
    blocked += ["safetensors", "optuna", "distributed"]
    names = [m for m in MODULES if m.count(".") == 1]
    _python(
        "import sys, importlib\n"
        f"for name in {blocked}: sys.modules[name] = None\n"
        f"for name in {names}: importlib.import_module(name)\n"
    )


def test_import_changes_no_jax_state():
    code = (
        "import jax\n"
        "names = sorted(jax.config.values)\n"
        "before = {n: jax.config.values[n] for n in names}\n"
        f"import importlib\nfor name in {MODULES}: importlib.import_module(name)\n"
        "after = {n: jax.config.values[n] for n in before}\n"
        "assert before == after, {n for n in before if before[n] != after[n]}\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge.backends_are_initialized()\n"
    )
    _python(code)


def _public():
    for name in MODULES:
        module = importlib.import_module(name)
        for item in getattr(module, "__all__", ()):
            value = getattr(module, item)
            if getattr(value, "__module__", None) == name and callable(value):
                yield pytest.param(value, id=f"{name}.{item}")


@pytest.mark.parametrize("value", list(_public()))
def test_public_names_have_docstrings_and_functions_examples(value):
    doc = inspect.getdoc(value) or ""
    assert doc.strip(), "no docstring"
    takes_arguments = inspect.isfunction(value) and inspect.signature(value).parameters
    if takes_arguments:
        told = "Args:" in doc or "Example" in doc or len(doc.splitlines()) == 1
        assert told, "arguments not explained"


# Rooms may import rooms at their left only (docs/design.md).
LAYERS = {
    "errors": 0, "numerics": 0, "compiling": 0, "spaces": 0,
    "optimizers": 1, "mixture": 1, "data": 1, "cost": 1, "report": 1,
    "objective": 1, "domain": 1, "tabular": 2,
    "supernet": 2, "relax": 2, "bilevel": 2, "regularizers": 2, "select": 2,
    "networks": 3, "interop": 4, "diagnostics": 4, "search": 4,
    "discrete": 5, "progressive": 5, "presets": 6, "run": 7, "cli": 8,
}  # fmt: skip
NO_NETWORK_CODE = ("bilevel", "relax", "regularizers", "select")


def _imports(path: pathlib.Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts[0] == "jnas":
                names = [a.name for a in node.names]
                found |= {parts[1]} if len(parts) > 1 else set(names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "jnas" and len(parts) > 1:
                    found.add(parts[1])
    return found


def test_dependencies_point_one_way():
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if room in ("__init__", "__main__"):
            continue
        assert room in LAYERS, f"{room} is not in the table of rooms"
        for other in _imports(path) - {room}:
            if other in LAYERS:
                assert LAYERS[other] <= LAYERS[room], f"{path} imports jnas.{other}"
                if room in NO_NETWORK_CODE:
                    assert other not in ("supernet", "networks"), path


def test_only_two_rooms_import_linen():
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0]
        if "from flax" in path.read_text() and room not in ("supernet", "networks"):
            raise AssertionError(f"{path} imports flax")
