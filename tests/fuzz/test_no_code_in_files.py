"""Nothing that is read is ever run: no reader that could is used anywhere."""

import ast
import pathlib

import pytest

import jnas

ROOT = pathlib.Path(jnas.__file__).parent
BANNED_MODULES = {
    *("pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"),
    *("yaml", "code", "runpy", "imp"),
}
BANNED_CALLS = {"eval", "exec", "compile", "__import__", "execfile"}
# Methods that run what they read, of objects of any name.
BANNED_METHODS = {"exec_module", "read_pickle", "literal_eval", "unsafe_load"}


def offences(source):
    """What a source has that could run a file, each as (line, what)."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            names += [alias.name for alias in node.names]
        else:
            names = []
        for name in names:
            if name.split(".")[0] in BANNED_MODULES:
                found.append((node.lineno, f"imports {name}"))
        if isinstance(node, ast.Name) and node.id in BANNED_CALLS:
            found.append((node.lineno, node.id))
        if isinstance(node, ast.Attribute) and node.attr in BANNED_METHODS:
            found.append((node.lineno, node.attr))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("np.load"):
            options = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if options.get("allow_pickle") != "False":
                found.append((node.lineno, "np.load without allow_pickle=False"))
        pickled = isinstance(node, ast.keyword) and node.arg == "allow_pickle"
        if pickled and ast.unparse(node.value) != "False":
            found.append((node.value.lineno, "allow_pickle"))
    return found


def test_no_source_runs_what_it_reads():
    found = {
        str(path.relative_to(ROOT)): offences(path.read_text(encoding="utf-8"))
        for path in sorted(ROOT.rglob("*.py"))
    }
    assert len(found) > 100
    assert {path: what for path, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import os, marshal",
        "from a import yaml",
        "x = eval('1')",
        "run = exec",
        "compile(x, '', 'exec')",
        "__import__('os')",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "jax.np.load(path)",
        "f(allow_pickle=True)",
        "pd.read_pickle(path)",
    ],
)
def test_the_check_can_fail(source):
    assert offences(source)


def test_the_check_lets_the_rest_pass():
    source = "import pickletools, re\nre.compile('a')\nmodel.eval()\nimport json"
    assert offences(source + "\nnp.load(p, allow_pickle=False)") == []
