"""A Keras Tokenizer, or plain words and numbers, out of a pickle, without running what the pickle says.

`pickle` calls whatever a file names. This reader knows the operations that a Tokenizer needs, and makes strings,
numbers, lists and dicts of them; classes are only compared by name. Imports nothing but the errors.
"""

from __future__ import annotations

import re
import struct
from typing import Any, NamedTuple

from ..errors import FileFormatError

# The package of Tokenizer: keras.preprocessing.text, keras_preprocessing.text, keras.src.legacy.preprocessing.text,
# tensorflow.python.keras.preprocessing.text, tf_keras.src.preprocessing.text and so on.
_ROOTS = ("keras", "keras_preprocessing", "tensorflow", "tf_keras", "keras_core", "tensorflow_core")
_DICTS = {("collections", "OrderedDict"), ("collections", "defaultdict")}
_RECONSTRUCTOR = {("copyreg", "_reconstructor"), ("copy_reg", "_reconstructor")}
_BUILTINS = ("builtins", "__builtin__")
_MARK = object()
# A name, memoized, and a mark; or a dict or list, memoized.
_OLD = re.compile(rb"c[\w.]+\n\w+\np\d+\n\(|\([dl]p\d+\n")


class _Name(NamedTuple):
    """A class or function that the pickle names; never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class _Object:
    """An instance of Tokenizer: `state` holds its attributes."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}


def is_pickle(head: bytes) -> bool:
    """Whether a file begins as a pickle does: with the protocol from 2 on, before in one of the usual ways."""
    return head[:1] == b"\x80" or (b"keras" in head and head[:1] in (b"c", b"(")) or _OLD.match(head) is not None


def read_pickle(content: bytes) -> Any:
    """What a pickle holds: the entry of a Tokenizer, as JSON has it, or lists and dicts of strings and numbers.

    Raises
    ------
    FileFormatError
        If the pickle is damaged, or names anything but a Tokenizer and its tables.
    """
    try:
        found = _Reader(content).read()
    except FileFormatError:
        raise
    except (ValueError, IndexError, TypeError, KeyError, AttributeError, OverflowError, struct.error) as error:
        raise FileFormatError(f"a damaged pickle ({type(error).__name__}: {error})") from error
    return {"class_name": "Tokenizer", "config": _config(found.state)} if isinstance(found, _Object) else found


def _config(state: dict[str, Any]) -> dict[str, Any]:
    """The attributes as options of today's Keras."""
    config = {("num_words" if name == "nb_words" else name): value for name, value in state.items()}
    if isinstance(config.get("analyzer"), _Name):
        raise FileFormatError(f"the tokenizer's analyzer is {config['analyzer']}, a function, which is not run")
    for name, value in config.items():
        if type(value) is dict and any(type(number) not in (int, str) for number in value.values()):
            raise FileFormatError(f"the tokenizer's {name} holds something else than words and numbers")
    return config


class _Reader:
    """The stack machine of pickle, protocols 0 to 5."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    # ---- bytes

    def take(self, count: int) -> bytes:
        part = self.content[self.at : self.at + count]
        if len(part) < count:
            raise ValueError("it ends too early")
        self.at += count
        return part

    def line(self) -> bytes:
        end = self.content.index(b"\n", self.at)
        part = self.content[self.at : end]
        self.at = end + 1
        return part

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    # ---- values

    def since_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def into(self, table: Any, items: list[Any]) -> None:
        """Set keys and values that take turns."""
        if type(table) is not dict or len(items) % 2 or any(type(key) not in (str, int) for key in items[::2]):
            raise ValueError("a table is filled that is none, or has keys that are no words and numbers")
        table.update(zip(items[::2], items[1::2]))

    def named(self, module: Any, name: Any) -> _Name:
        if type(module) is not str or type(name) is not str:
            raise ValueError("a name that is no text")
        return _Name(module, name)

    def called(self, function: Any, args: Any) -> Any:
        """The result of a call, of one of the few that are known."""
        if function in _RECONSTRUCTOR and type(args) is tuple and args and _is_tokenizer(args[0]):
            return _Object()
        if _is_tokenizer(function) and args == ():
            return _Object()
        if function in _DICTS or (type(function) is _Name and function[0] in _BUILTINS and function[1] == "dict"):
            table: dict[Any, Any] = {}
            for pair in args[0] if args and type(args[0]) is list else ():
                self.into(table, list(pair))
            return table
        raise FileFormatError(
            f"a pickle that calls {function}, which is not run; it may hold a Keras Tokenizer, or words and numbers"
        )

    def read(self) -> Any:
        stack, push, content = self.stack, self.stack.append, self.content
        while True:
            op = content[self.at]
            self.at += 1
            if op == 0x8C:  # SHORT_BINUNICODE
                push(self.take(self.number(1)).decode("utf-8", "surrogatepass"))
            elif op == 0x58:  # BINUNICODE
                push(self.take(self.number(4)).decode("utf-8", "surrogatepass"))
            elif op == 0x94:  # MEMOIZE
                self.memo[len(self.memo)] = stack[-1]
            elif op == 0x4B:  # BININT1
                push(self.number(1))
            elif op == 0x4D:  # BININT2
                push(self.number(2))
            elif op == 0x4A:  # BININT
                push(int.from_bytes(self.take(4), "little", signed=True))
            elif op == 0x71:  # BINPUT
                self.memo[self.number(1)] = stack[-1]
            elif op == 0x72:  # LONG_BINPUT
                self.memo[self.number(4)] = stack[-1]
            elif op == 0x68:  # BINGET
                push(self.memo[self.number(1)])
            elif op == 0x6A:  # LONG_BINGET
                push(self.memo[self.number(4)])
            elif op == 0x28:  # MARK
                push(_MARK)
            elif op == 0x75:  # SETITEMS
                items = self.since_mark()
                self.into(stack[-1], items)
            elif op == 0x2E:  # STOP
                found = stack.pop()
                if stack:
                    raise ValueError("something is left over")
                return found
            else:
                self.rare(op)

    def rare(self, op: int) -> None:
        stack, push = self.stack, self.stack.append
        if op == 0x80:  # PROTO
            if self.number(1) > 5:
                raise ValueError("a protocol after 5")
        elif op == 0x95:  # FRAME
            self.take(8)
        elif op == 0x7D:  # EMPTY_DICT
            push({})
        elif op == 0x5D:  # EMPTY_LIST
            push([])
        elif op == 0x29:  # EMPTY_TUPLE
            push(())
        elif op in (0x85, 0x86, 0x87):  # TUPLE1, TUPLE2, TUPLE3
            count = op - 0x84
            stack[-count:] = [self.tuple_of(stack[-count:])]
        elif op == 0x74:  # TUPLE
            push(self.tuple_of(self.since_mark()))
        elif op == 0x64:  # DICT
            items = self.since_mark()
            push({})
            self.into(stack[-1], items)
        elif op == 0x6C:  # LIST
            push(self.since_mark())
        elif op == 0x61:  # APPEND
            value = stack.pop()
            self.extend([value])
        elif op == 0x65:  # APPENDS
            self.extend(self.since_mark())
        elif op == 0x73:  # SETITEM
            items = stack[-2:]
            del stack[-2:]
            self.into(stack[-1], items)
        elif op in (0x4E, 0x88, 0x89):  # NONE, NEWTRUE, NEWFALSE
            push({0x4E: None, 0x88: True, 0x89: False}[op])
        elif op == 0x8A:  # LONG1
            push(int.from_bytes(self.take(self.number(1)), "little", signed=True))
        elif op == 0x49:  # INT
            text = self.line()
            push(text == b"01" if text in (b"00", b"01") else int(text))
        elif op == 0x4C:  # LONG
            push(int(self.line().rstrip(b"L")))
        elif op == 0x47:  # BINFLOAT
            push(struct.unpack(">d", self.take(8))[0])
        elif op == 0x46:  # FLOAT
            push(float(self.line()))
        elif op == 0x8D:  # BINUNICODE8
            push(self.take(self.number(8)).decode("utf-8", "surrogatepass"))
        elif op == 0x56:  # UNICODE
            push(self.line().decode("raw-unicode-escape"))
        elif op == 0x53:  # STRING, of Python 2
            text = self.line().strip()
            if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
                raise ValueError("a string without quotes")
            push(text[1:-1].decode("unicode-escape").encode("latin-1").decode("utf-8"))
        elif op in (0x54, 0x55):  # BINSTRING, SHORT_BINSTRING, of Python 2
            push(self.take(self.number(4 if op == 0x54 else 1)).decode("utf-8"))
        elif op == 0x70:  # PUT
            self.memo[int(self.line())] = stack[-1]
        elif op == 0x67:  # GET
            push(self.memo[int(self.line())])
        elif op == 0x63:  # GLOBAL
            push(self.named(self.line().decode(), self.line().decode()))
        elif op == 0x93:  # STACK_GLOBAL
            module, name = stack[-2:]
            stack[-2:] = [self.named(module, name)]
        elif op in (0x52, 0x81):  # REDUCE, NEWOBJ
            function, args = stack[-2:]
            stack[-2:] = [self.called(function, args)]
        elif op == 0x62:  # BUILD
            state = stack.pop()
            if not isinstance(stack[-1], _Object) or type(state) is not dict:
                raise ValueError("a state that is no Tokenizer's")
            stack[-1].state = state
        else:
            raise FileFormatError(f"a pickle with operation {op:#04x}, which no Keras Tokenizer has; it is not run")

    def tuple_of(self, items: list[Any]) -> tuple[Any, ...]:
        """Of the arguments of a call; no others are needed, and tuples in tuples could be of any size and depth."""
        if len(items) > 3 or any(isinstance(item, tuple) and not isinstance(item, _Name) for item in items):
            raise ValueError("a tuple that no Tokenizer holds")
        return tuple(items)

    def extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError("a list is filled that is none")
        self.stack[-1].extend(items)


def _is_tokenizer(value: Any) -> bool:
    if type(value) is not _Name or value.name != "Tokenizer":
        return False
    return value.module.split(".")[0] in _ROOTS and value.module.endswith("preprocessing.text")
