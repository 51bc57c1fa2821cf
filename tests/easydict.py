"""The class of the package easydict, in which the RealNet authors save settings."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest


class EasyDict(dict[str, Any]):
    """Its items are its attributes too, also those of the mappings in it."""

    __module__ = "easydict"

    def __init__(self, **items: Any) -> None:
        for name, value in items.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, easily(value))
        self[name] = easily(value)


def easily(content: Any) -> Any:
    """Puts an EasyDict in the place of every mapping."""
    if isinstance(content, list):
        return [easily(one) for one in content]
    return EasyDict(**content) if type(content) is dict else content


@contextmanager
def easydict_installed() -> Iterator[None]:
    """While this lasts, an EasyDict can be pickled."""
    module = ModuleType("easydict")
    module.EasyDict = EasyDict
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "easydict", module)
        yield
