"""Classes by name, imported when they are used, and read from their source when only their help is wanted."""

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
    """Imports what ``module:name`` names."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def outline(target: str) -> type:
    """Builds a twin of a dataclass that has its fields and its docstring alone, without importing its module.

    A method's module imports torch, which takes seconds, while its help needs no more than the fields. These must
    stand in the class itself, not in a base class. A class with a default that its module computes is imported
    after all.

    Args:
        target: The dataclass, as ``module:Class``.
    """
    module, name, body = _source(target)
    found = next(node for node in body if isinstance(node, ast.ClassDef) and node.name == name)
    twin = ast.ClassDef(name, bases=[], keywords=[], body=[*_fields(found), ast.Pass()], decorator_list=[])
    program = ast.fix_missing_locations(ast.Module([twin], []))
    vocabulary: dict[str, Any] = {"Path": Path, "Literal": typing.Literal}
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
    """Returns the module and the name of a target, and the statements of the module."""
    module, _, name = target.partition(":")
    package, *rest = module.split(".")
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    path = Path(spec.origin).parent.joinpath(*rest).with_suffix(".py")
    return module, name, ast.parse(path.read_text()).body


def _fields(cls: ast.ClassDef) -> list[ast.stmt]:
    fields = [node for node in cls.body if isinstance(node, ast.AnnAssign)]
    return [node for node in fields if not ast.unparse(node.annotation).startswith("ClassVar")]


class Registry(Mapping[str, type[T]], Generic[T]):
    """Classes by name; looking one up imports its module."""

    def __init__(self, targets: Mapping[str, str]) -> None:
        """Takes the classes as ``module:Class``, by name."""
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
        """Returns the fields and the docstring of a class alone; see :func:`outline`."""
        return outline(self.targets[name])

    def named(self, name: str) -> type[T]:
        """Imports the class of this name, for a package's ``__getattr__``.

        Raises:
            AttributeError: There is no such class.
        """
        for target in self.targets.values():
            if target.endswith(f":{name}"):
                cls: type[T] = resolve(target)
                return cls
        raise AttributeError(name)
