"""Registries of classes, which are imported on use; help text is read from source without importing."""

from __future__ import annotations

import ast
import dataclasses
import typing
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def resolve(target: str) -> Any:
    """Imports the object named by ``module:name``."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def outline(target: str) -> type:
    """Builds a copy of a dataclass that has only its fields and its docstring, without importing its module.

    A method's module may import torch, which takes seconds, but its help needs only the fields. Fields are those
    of the class and of base classes of the same package. If a default is computed by the module, the module is
    imported after all.

    Args:
        target: The dataclass, as ``module:Class``.
    """
    module, name, body = _source(target)
    found = next(node for node in body if isinstance(node, ast.ClassDef) and node.name == name)
    bases = _bases(found, body, module.partition(".")[0])
    names: list[ast.expr] = [ast.Name(base, ast.Load()) for base in bases]
    twin = ast.ClassDef(name, bases=names, keywords=[], body=[*_fields(found), ast.Pass()], decorator_list=[])
    program = ast.fix_missing_locations(ast.Module([twin], []))
    vocabulary: dict[str, Any] = {"Path": Path, "Literal": typing.Literal}
    vocabulary |= {base: outline(where) for base, where in bases.items()}
    try:
        exec(compile(program, module, "exec", dont_inherit=True), vocabulary)
    except NameError:
        return typing.cast(type, resolve(target))
    vocabulary[name].__doc__ = ast.get_docstring(found)
    return dataclasses.dataclass(frozen=True)(typing.cast(type, vocabulary[name]))


def keys(target: str) -> list[str]:
    """Reads the keys of a dictionary of literals, without importing its module.

    Args:
        target: The dictionary, as ``module:NAME``.
    """
    _, name, body = _source(target)
    found = next(
        node.value
        for node in body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and isinstance(node.value, ast.Dict)
        and name in ast.unparse(node).partition("=")[0].partition(":")[0].split()
    )
    return [ast.literal_eval(key) for key in found.keys if key is not None]


def _source(target: str) -> tuple[str, str, list[ast.stmt]]:
    """Returns a target's module and name, and the statements of the module."""
    module, _, name = target.partition(":")
    package, *rest = module.split(".")
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    path = Path(spec.origin)
    if rest:
        path = path.parent.joinpath(*rest).with_suffix(".py")
    return module, name, ast.parse(path.read_text()).body


def _bases(cls: ast.ClassDef, module: list[ast.stmt], package: str) -> dict[str, str]:
    """Returns the base classes that a module imports from its own package, as ``module:Class``, by their names."""
    imports = [node for node in module if isinstance(node, ast.ImportFrom) and node.module]
    where = {alias.name: f"{node.module}:{alias.name}" for node in imports for alias in node.names}
    named = [base.id for base in cls.bases if isinstance(base, ast.Name) and base.id in where]
    return {base: where[base] for base in named if where[base].startswith(f"{package}.")}


def _fields(cls: ast.ClassDef) -> list[ast.stmt]:
    fields = [node for node in cls.body if isinstance(node, ast.AnnAssign)]
    return [node for node in fields if not ast.unparse(node.annotation).startswith("ClassVar")]


class Registry(Mapping[str, type[T]], Generic[T]):
    """A mapping from names to classes; a lookup imports the class's module."""

    def __init__(self, targets: Mapping[str, str]) -> None:
        """Makes a registry of ``module:Class`` strings by name."""
        self.targets = dict(targets)

    def __getitem__(self, name: str) -> type[T]:
        """Imports a class."""
        cls: type[T] = resolve(self.targets[name])
        return cls

    def __contains__(self, name: object) -> bool:
        return name in self.targets

    def __iter__(self) -> Iterator[str]:
        return iter(self.targets)

    def __len__(self) -> int:
        return len(self.targets)

    def outline(self, name: str) -> type:
        """Returns a class reduced to its fields and docstring; see :func:`outline`."""
        return outline(self.targets[name])

    def named(self, name: str) -> type[T]:
        """Imports the class with this name, for a package's ``__getattr__``.

        Raises:
            AttributeError: The registry has no such class.
        """
        for target in self.targets.values():
            if target.endswith(f":{name}"):
                cls: type[T] = resolve(target)
                return cls
        raise AttributeError(name)
