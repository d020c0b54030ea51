"""Functions compiled by numba, which is imported at the first call of one: most commands and workers call none, and it
takes 0.2 s."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """`function` compiled by numba, kept on disk where the folder of its file, or the user's cache, can be written."""
    return cast("Function", _Uncompiled(function))


class _Uncompiled:
    """Stands for a function of a module until the first call."""

    _lock = threading.RLock()

    def __init__(self, function: Callable[..., Any]) -> None:
        update_wrapper(self, function)
        self._function, self._made = function, None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.made()(*arguments, **named)

    def made(self) -> Any:
        """numba's function. It takes this one's place in its module, as do those of all functions that it may call:
        numba knows only its own."""
        with self._lock:
            if self._made is None:
                self._made = _njit(self._function)
                names = self._function.__globals__
                for name, value in list(names.items()):
                    if isinstance(value, _Uncompiled):
                        names[name] = value.made()
            return self._made


def _njit(function: Callable[..., Any]) -> Any:
    import numba

    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # "cannot cache function: no locator available"
        return numba.njit(nogil=True)(function)
