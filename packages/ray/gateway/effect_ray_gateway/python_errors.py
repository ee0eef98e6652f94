"""What a Python exception says: in a sentence, and as a traceback. The handler's own code runs here, so nothing of it is trusted."""

import contextlib
import re
import traceback
from typing import Any, Callable, Dict, Iterator, List, Set, Tuple

#: The longest message, with those of its causes, and the longest traceback. A worker stores no more of either.
MAX_DETAIL_CHARS = 2048
MAX_TRACEBACK_CHARS = 16 * 1024
#: The most exceptions that are told of one failure: itself, and what is behind it.
MAX_ERRORS = 10
#: How many causes are followed to the root.
MAX_CHAIN = 1000
#: What stands around the words of one that is behind another.
_BRACKETS_CHARS = 20
#: The sequences for a terminal: Ray colours what it tells of a task.
_TERMINAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")

#: The attributes as Python keeps them, whatever a class puts over them.
_qualname: Callable[[type], str] = type.__dict__["__qualname__"].__get__
_args: Callable[[BaseException], Any] = BaseException.__dict__["args"].__get__
_cause: Callable[[BaseException], Any] = BaseException.__dict__["__cause__"].__get__
_context: Callable[[BaseException], Any] = BaseException.__dict__["__context__"].__get__
_suppresses_context: Callable[[BaseException], bool] = BaseException.__dict__["__suppress_context__"].__get__
_traceback_of: Callable[[BaseException], Any] = BaseException.__dict__["__traceback__"].__get__


def python_error(error: BaseException) -> Dict[str, Any]:
    """The reason of an attempt whose handler raised this."""
    return {
        "_tag": "PythonError",
        "type": last_words(type_name(error), MAX_DETAIL_CHARS),
        "detail": _detail(error),
        "traceback": last_words(_traceback(error), MAX_TRACEBACK_CHARS),
    }


def type_name(value: Any) -> str:
    """The name of a value's type. Unlike `__class__`, it cannot fail."""
    return _qualname(type(value))


def words(error: BaseException) -> str:
    """The type, the message and the notes of an exception, bounded."""
    return last_words(f"{type_name(error)}: {_words(error)}", MAX_DETAIL_CHARS)


def _detail(error: BaseException) -> str:
    """The same, and in brackets what is behind it."""
    told: List[_Told] = []
    try:
        text = _Told(error, told, set()).text(MAX_DETAIL_CHARS // len(told))
    except BaseException:
        text = _words(error)
    return last_words(text, MAX_DETAIL_CHARS)


def _words(error: BaseException) -> str:
    # Its methods may fail: an end has to come of it all the same.
    try:
        text = str(error)
    except BaseException as another:
        text = f"<its message cannot be read: {type_name(another)}>"
        with contextlib.suppress(BaseException):
            text += f" {_args(error)!r}" if _args(error) else ""
    notes: List[str] = []
    with contextlib.suppress(BaseException):
        given = getattr(error, "__notes__", None)
        if isinstance(given, (list, tuple)):
            notes.extend(str(note) for note in given)
    return " ".join([text, *(f"[{note}]" for note in notes)]).strip()


def last_words(text: str, max_chars: int) -> str:
    """The end of a text, which says more than its beginning, without what Postgres does not store, and without a terminal's colours."""
    text = _TERMINAL.sub("", text)
    cut = text if len(text) <= max_chars else f"…{text[1 - max_chars:]}"
    return cut.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


class _Told:
    """An exception and what is behind it, as a traceback would show it; all that are told are added to `told`."""

    def __init__(self, error: BaseException, told: "List[_Told]", seen: Set[int]) -> None:
        seen.add(id(error))
        told.append(self)
        self.type = type_name(error)
        self.words = _words(error)
        self.behind: List[Tuple[str, _Told]] = []
        for name, other in _behind(error):
            if id(other) in seen or len(told) >= MAX_ERRORS:
                continue
            # The last one that is told is the root, for that says most.
            root = _root(other) if len(told) == MAX_ERRORS - 1 else other
            if root is not other and id(root) not in seen:
                name, other = f"root {name}", root
            self.behind.append((name, _Told(other, told, seen)))

    def text(self, share: int) -> str:
        """The words, and in brackets those behind them, each within its share."""
        own = last_words(self.words, max(share - len(self.type) - _BRACKETS_CHARS, _BRACKETS_CHARS))
        return own + "".join(f" ({name}: {other.type}: {other.text(share)})" for name, other in self.behind)


def _behind(error: BaseException) -> Iterator[Tuple[str, BaseException]]:
    cause, context = _cause(error), _context(error)
    if cause is not None:
        yield "cause", cause
    elif context is not None and not _suppresses_context(error):
        yield "while handling", context
    # An exception group, which Python has since 3.11.
    try:
        group = getattr(error, "exceptions", None)
    except BaseException:
        return
    if isinstance(group, tuple):
        for index, other in enumerate(group[:MAX_ERRORS]):
            if issubclass(type(other), BaseException):
                yield f"exceptions {index}", other


def _root(error: BaseException) -> BaseException:
    for _ in range(MAX_CHAIN):
        behind = next((other for name, other in _behind(error) if not name.startswith("exceptions")), None)
        if behind is None:
            break
        error = behind
    return error


def _traceback(error: BaseException) -> str:
    with contextlib.suppress(BaseException):
        return "".join(traceback.format_exception(type(error), error, _traceback_of(error)))
    with contextlib.suppress(BaseException):
        return "".join([*traceback.format_tb(_traceback_of(error)), f"{words(error)}\n"])
    return ""
