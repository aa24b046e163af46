"""Where demand meets supply. Python's ``planner.plan`` is this package once it is imported, so it can be called too."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Plan(ModuleType):
    """The package, callable as :func:`planner.api.plan`."""

    def __call__(self, **scenario: Any) -> Any:
        from planner.api import plan

        return plan(**scenario)


sys.modules[__name__].__class__ = _Plan
