"""What holds for every registered method, of all parties."""

import dataclasses
import inspect
import re
import typing
from pathlib import Path

import pytest

from attacker import ATTACKS, HELD, LANGUAGE
from defenses import DEFENSES, DETECTORS, GENERATION
from owner import PROOFS, TEXT_PROOFS

PLAIN = (int, float, str, bool, Path, type(None))
DOCS = Path(__file__).parents[1] / "docs"
METHODS = [*ATTACKS.values(), *LANGUAGE.values(), *HELD.values(), *PROOFS.values(), *TEXT_PROOFS.values()]
METHODS += [cls for kinds in (DEFENSES, DETECTORS, GENERATION) for cls in kinds.values()]
each = pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.__name__)


def plain(hint):
    if hint in PLAIN or typing.get_origin(hint) is typing.Literal:
        return True
    arms = [arm for arm in typing.get_args(hint) if arm is not Ellipsis]
    return bool(arms) and typing.get_origin(hint) not in (list, dict, set) and all(map(plain, arms))


@each
def test_a_method_is_a_frozen_dataclass_of_hyper_parameters(cls):
    assert cls.__dataclass_params__.frozen and cls.__dataclass_params__.eq
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        assert field.init and field.compare and field.repr, field.name
        assert plain(hints[field.name]), f"{field.name}: numbers, strings, booleans, paths and tuples of these"
    assert "__call__" not in vars(cls)


@each
def test_every_field_is_described(cls):
    text = "\n".join(inspect.getdoc(base) or "" for base in cls.__mro__[:-1])
    for field in dataclasses.fields(cls):
        assert re.search(rf"^    {field.name}: ", text, re.MULTILINE), f"{field.name} is not among the Attributes"


@pytest.mark.parametrize(("hint", "taken"), [(tuple[int, ...], True), (list[int], False), (dict[str, int], False)])
def test_what_a_field_may_be(hint, taken):
    assert plain(hint) is taken


def test_what_attackers_of_language_models_hold_is_of_registered_attacks():
    assert set(HELD) <= set(LANGUAGE)
    assert not set(LANGUAGE) & set(ATTACKS)


@pytest.mark.parametrize(
    ("names", "pages", "form"),
    [
        ([*ATTACKS, *LANGUAGE], ["attacks"], "`{}`"),
        ([*DEFENSES, *GENERATION], ["defences", "watermarks"], "`{}`"),
        ([*DETECTORS], ["detectors"], "`{}`"),
        ([*PROOFS, *TEXT_PROOFS], ["ownership"], "prove {}"),
    ],
)
def test_every_method_is_in_a_hand_written_page(names, pages, form):
    text = "".join((DOCS / f"{page}.md").read_text() for page in pages)
    assert [name for name in names if form.format(name) not in text] == []
