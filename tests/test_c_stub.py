"""The stub of the compiled module names what is there, and nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

from lowdose import _core

STUB = Path(_core.__file__).parent / "_core.pyi"


def public(names):
    return {name for name in names if not name.startswith("_")}


def declared(body):
    names = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign):
            names.add(node.target.id)
    return public(names)


def test_the_stub_is_the_module():
    tree = ast.parse(STUB.read_text())
    assert declared(tree.body) == public(vars(_core))
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            assert declared(node.body) == public(vars(getattr(_core, node.name))), node.name


def test_the_arguments_are_those_of_the_stub():
    for node in ast.walk(ast.parse(STUB.read_text())):
        if not isinstance(node, ast.ClassDef):
            continue
        for method in node.body:
            if isinstance(method, ast.FunctionDef):
                text = getattr(getattr(_core, node.name), method.name).__doc__
                for argument in [*method.args.args[1:], *method.args.kwonlyargs]:
                    assert f"{argument.arg}:" in text, (node.name, method.name, argument.arg)
