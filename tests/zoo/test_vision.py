import importlib
import sys
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="module")
def vision():
    """Returns the module, which takes seconds to import."""
    from zoo import vision

    return vision


@pytest.fixture
def declared(monkeypatch):
    """Returns the operators that are declared."""
    names = []
    monkeypatch.setattr(torch.library, "define", lambda name, schema: names.append(name))
    return names


def test_data_sets_transforms_and_models_import(vision):
    assert vision.datasets.FashionMNIST.__name__ == "FashionMNIST"
    assert vision.transforms.ToTensor()(torch.zeros(2, 2, 1).numpy()).shape == (1, 2, 2)
    assert vision.models.resnet18(weights=None, num_classes=2)(torch.zeros(2, 3, 32, 32)).shape == (2, 2)


def test_where_the_operators_load_nothing_is_declared(vision, monkeypatch, declared):
    module = ModuleType("torchvision")
    monkeypatch.setattr(importlib, "import_module", lambda name: module)
    assert vision.load_torchvision() is module
    assert declared == []


def test_where_they_do_not_load_they_are_declared(vision, monkeypatch, declared):
    module = ModuleType("torchvision")
    answers = [RuntimeError("operator torchvision::nms does not exist"), module]

    def import_module(name):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert "torchvision.extension" not in sys.modules
        return answer

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.setitem(sys.modules, name, sys.modules[name])  # put back afterwards
    monkeypatch.setitem(sys.modules, "torchvision.extension", ModuleType("left by the broken import"))
    monkeypatch.setattr(importlib, "import_module", import_module)
    assert vision.load_torchvision() is module
    assert declared == ["torchvision::nms", "torchvision::qnms"]


def test_another_fault_is_not_hidden(vision, monkeypatch, declared):
    def import_module(name):
        raise RuntimeError("no memory")

    monkeypatch.setattr(importlib, "import_module", import_module)
    with pytest.raises(RuntimeError, match="no memory"):
        vision.load_torchvision()
    assert declared == []
