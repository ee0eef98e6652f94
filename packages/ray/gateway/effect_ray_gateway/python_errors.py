"""Describes Python exceptions: in a sentence, and as a traceback. This calls the handler's own code, which is not trusted."""

import contextlib
import re
import traceback
from typing import Any, Callable, Dict, Iterator, List, Tuple

#: The longest message, including those of its causes, and the longest traceback, in characters. A worker stores no
#: more.
MAX_DETAIL_CHARS = 2048
MAX_TRACEBACK_CHARS = 16 * 1024
#: How many exceptions one failure reports: itself, and the ones behind it.
MAX_ERRORS = 10
#: How many causes are followed on the way to the root.
MAX_CHAIN = 1000
#: The limits within which Python formats the traceback: exceptions and frames together, and the depth and width of
#: groups. Python leaves out deeper and wider groups, and repeats a part that several groups share. For larger failures
#: the traceback has `MAX_ERRORS` exceptions.
MAX_SHOWN = 10_000
MAX_GROUP_DEPTH = 10
MAX_GROUP_WIDTH = 15
#: How many frames of one exception are shown if Python does not format the traceback.
MAX_FRAMES = 100
#: How many characters and how many frames are reported for a declared error that does not fit its Schema.
MAX_DECLARED_CHARS = 1200
MAX_DECLARED_FRAMES = 6
#: How many characters are added around the text of an exception that is behind another.
_BRACKETS_CHARS = 20
#: Control sequences for a terminal: Ray colours its messages about a task.
_TERMINAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")

#: The attributes as Python stores them, even if a class overrides them.
_qualname: Callable[[type], str] = type.__dict__["__qualname__"].__get__
_args: Callable[[BaseException], Any] = BaseException.__dict__["args"].__get__
_cause: Callable[[BaseException], Any] = BaseException.__dict__["__cause__"].__get__
_context: Callable[[BaseException], Any] = BaseException.__dict__["__context__"].__get__
_suppresses_context: Callable[[BaseException], bool] = BaseException.__dict__["__suppress_context__"].__get__
_traceback_of: Callable[[BaseException], Any] = BaseException.__dict__["__traceback__"].__get__


def python_error(error: BaseException) -> Dict[str, Any]:
    """Returns the reason of an attempt whose handler raised this exception."""
    told = _tell(error)
    return {
        "_tag": "PythonError",
        "type": shortened(type_name(error), MAX_DETAIL_CHARS),
        "detail": _detail(told),
        "traceback": _traceback(told),
    }


def declared_error(error: BaseException) -> str:
    """Describes what was raised and where, for a declared error that does not fit its task."""
    text = shortened(f"{type_name(error)}: {_words(error)}", MAX_DECLARED_CHARS // 2)
    frames = _frames(error, MAX_DECLARED_FRAMES)
    return f"what was raised: {text}\n{shortened(frames, MAX_DECLARED_CHARS - len(text))}".strip()


def type_name(value: Any) -> str:
    """Returns the name of a value's type. Unlike `__class__`, this cannot fail."""
    return class_name(type(value))


def class_name(kind: type) -> str:
    """Returns the name of a class, even if the class overrides it."""
    return _qualname(kind)


def words(error: BaseException) -> str:
    """Returns the type, the message and the notes of an exception, bounded."""
    return shortened(f"{type_name(error)}: {_words(error)}", MAX_DETAIL_CHARS)


def _words(error: BaseException) -> str:
    # Its methods may fail, but the attempt must end anyway.
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


def shortened(text: str, max_chars: int) -> str:
    """Shortens a text to its beginning and its end, one of which usually names the fault. Removes terminal colours and
    characters that Postgres cannot store.
    """
    text = _TERMINAL.sub("", text)
    if len(text) > max_chars:
        half = max_chars // 2
        text = f"{text[:half]}…{text[len(text) - (max_chars - half - 1) :]}"
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


class _Told:
    """An exception and the ones behind it, in the order of a traceback."""

    def __init__(self, error: BaseException, name: str = "") -> None:
        self.error = error
        #: Its relation to the exception that it is behind.
        self.name = name
        self.type = type_name(error)
        self.words = _words(error)
        self.behind: List[_Told] = []

    def text(self, share: int) -> str:
        """Returns the text of the exception, then those behind it in parentheses, each within its share."""
        type_ = shortened(self.type, max(share // 2, _BRACKETS_CHARS))
        own = shortened(self.words, max(share - len(type_) - _BRACKETS_CHARS, _BRACKETS_CHARS))
        text = " ".join([own, *(other.text(share) for other in self.behind)]).strip()
        return f"({self.name}: {type_}: {text})" if self.name else text

    def traceback(self, share: int) -> str:
        """Returns its frames, its type and its text, within its share."""
        head = f"{self.name}, traceback (most recent call last):\n" if self.name else "Traceback (most recent call last):\n"
        last = shortened(f"{self.type}: {self.words}", share // 2) + "\n"
        frames = _frames(self.error, MAX_FRAMES)
        return f"{head}{shortened(frames, share - len(head) - len(last))}{last}" if frames else f"{self.name or 'Exception'}: {last}"


def _tell(error: BaseException) -> List[_Told]:
    """Returns the exception and the ones behind it, the nearest first. The last one is the root, because it is the most
    informative one.
    """
    told, seen = [_Told(error)], {id(error)}
    for one in told:
        for name, other in _behind(one.error):
            if id(other) not in seen and len(told) < MAX_ERRORS - 1:
                seen.add(id(other))
                one.behind.append(_Told(other, name))
                told.append(one.behind[-1])
    name, root = _root(error)
    if id(root) not in seen:
        told.append(_Told(root, f"root {name}"))
        told[0].behind.append(told[-1])
    return told


def _behind(error: BaseException) -> Iterator[Tuple[str, BaseException]]:
    for index, other in enumerate(_group(error)[:MAX_ERRORS]):
        if issubclass(type(other), BaseException):
            yield f"exceptions {index}", other
    cause, context = _cause(error), _context(error)
    if cause is not None:
        yield "cause", cause
    elif context is not None and not _suppresses_context(error):
        yield "while handling", context


def _group(error: BaseException) -> Tuple[Any, ...]:
    """Returns the exceptions of an exception group, which exist since Python 3.11."""
    with contextlib.suppress(BaseException):
        group = getattr(error, "exceptions", None)
        if isinstance(group, tuple):
            return group
    return ()


def _root(error: BaseException) -> Tuple[str, BaseException]:
    """Follows the first exception of a group, or the cause, to the root."""
    name = ""
    for _ in range(MAX_CHAIN):
        behind = next(_behind(error), None)
        if behind is None:
            break
        name, error = behind
    return name, error


def _detail(told: List[_Told]) -> str:
    return shortened(told[0].text(MAX_DETAIL_CHARS // len(told)), MAX_DETAIL_CHARS)


def _traceback(told: List[_Told]) -> str:
    error = told[0].error
    with contextlib.suppress(BaseException):
        if _is_shown_by_python(error):
            text = "".join(traceback.format_exception(type(error), error, _traceback_of(error)))
            if len(text) <= MAX_TRACEBACK_CHARS:
                return shortened(text, MAX_TRACEBACK_CHARS)
    # In Python's order: the first exception comes first.
    share = MAX_TRACEBACK_CHARS // len(told) - 1
    return "\n".join(one.traceback(share) for one in reversed(told))


def _is_shown_by_python(error: BaseException) -> bool:
    """Whether Python formats all of it without leaving out a part or taking too long: it repeats a part that several
    groups share.
    """
    shown, seen, waiting = 0, {id(error)}, [(error, 0)]
    while waiting:
        one, depth = waiting.pop()
        group = _group(one)
        if depth > MAX_GROUP_DEPTH or len(group) > MAX_GROUP_WIDTH:
            return False
        shown += 1
        frame = _traceback_of(one)
        while frame is not None and shown <= MAX_SHOWN:
            shown, frame = shown + 1, frame.tb_next
        if shown > MAX_SHOWN:
            return False
        for other in (_cause(one), _context(one)):
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                waiting.append((other, depth))
        waiting.extend((other, depth + 1) for other in group if issubclass(type(other), BaseException))
    return True


def _frames(error: BaseException, most: int) -> str:
    """Returns the last frames of an exception, without the exceptions behind it."""
    with contextlib.suppress(BaseException):
        return "".join(traceback.format_tb(_traceback_of(error), -most))
    return ""
