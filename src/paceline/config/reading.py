"""Text that someone else may have written, read whole or refused: JSON and YAML of bounded size and depth.

Nothing is constructed but dict, list, str, int, float, bool and None, no key may stand twice, and every number is
finite in JSON. Whatever is wrong is a ValueError of one line (an OSError where the system refuses), which the caller
turns into an error of its own that names the file.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import stat
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.constructor import ConstructorError

MAX_DEPTH = 48  # containers inside each other; a checkpoint holds what a config says, and may be 64 deep
MAX_NODES = 200_000  # of a YAML file, what aliases repeat counted each time
MAX_DIGITS = 400  # of a number in YAML: Python's conversion takes quadratic time
YAML_BYTES = 1 << 20
JSON_BYTES = 1 << 30  # the indices of folds, the curves of a long training
_BINARY = getattr(os, "O_BINARY", 0)  # Windows would translate line ends
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}]')


def open_regular(path: Path, *, follow: bool) -> FileIO:
    """Open a plain file for reading, unbuffered; never a device or a pipe, and a link only with `follow`.

    Raises OSError.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | (0 if follow else getattr(os, "O_NOFOLLOW", 0))
    descriptor = os.open(path, flags | _BINARY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"not a plain file: {path}")
    return open(descriptor, "rb", buffering=0)


def read_text(path: Path, most: int = JSON_BYTES) -> str:
    """Return the text of a plain file in UTF-8 of at most `most` bytes. Raises OSError, for other content too."""
    with open_regular(path, follow=True) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(f"{size:,} bytes are too many (at most {most:,})")
        data = file.readall()
    try:
        if b"\0" in data:
            raise ValueError("a zero byte")
        return data.decode("utf-8-sig")
    except ValueError as error:
        raise OSError(f"this is no text in UTF-8: {error}") from None


def parse_json(text: str) -> Any:
    """Return what JSON says: no key twice, every number finite, at most MAX_DEPTH deep. Raises ValueError."""
    _check_depth(text)
    return json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_refuse_constant)


def parse_yaml(text: str) -> Any:
    """Return what YAML says: plain values, every key a text that stands once, aliases counted as what they repeat.

    1e-4 is a number and 2020-01-01 a text. Raises ValueError that names the line.
    """
    if len(text) > YAML_BYTES:
        raise ValueError(f"{len(text):,} characters are too many (at most {YAML_BYTES:,})")
    try:
        _count_nodes(yaml.parse(text, Loader=_Loader))
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f"line {mark.line + 1}: "
        raise ValueError(f"{place}{error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _check_depth(text: str) -> None:
    """Count brackets outside of strings; broken JSON is left to the parser."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for found in _BRACKETS.finditer(text):
        bracket = found[0]
        if bracket in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"nested deeper than {MAX_DEPTH}")
        elif bracket in "]}":
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:60]!r} stands twice")
    return tree


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is too large a number")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _count_nodes(events: Iterable[yaml.Event]) -> None:
    """Raise ValueError for YAML that is too deep or, with its aliases written out, too large. Builds nothing."""
    sizes: dict[str, int | None] = {}  # of the nodes with an anchor; None while they are open
    open_nodes: list[tuple[str | None, int]] = []
    count = 0
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, count))
            count += 1
            if event.anchor is not None:
                sizes[event.anchor] = None
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = count - before
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.AliasEvent):
            size = sizes.get(str(event.anchor), 1)
            if size is None:
                raise ValueError(f"line {_line(event)}: *{str(event.anchor)[:40]} contains itself")
            count += size
        if len(open_nodes) > MAX_DEPTH:
            raise ValueError(f"line {_line(event)}: nested deeper than {MAX_DEPTH}")
        if count > MAX_NODES:
            raise ValueError(f"line {_line(event)}: more than {MAX_NODES:,} values")


def _line(event: yaml.Event) -> int:
    return 0 if event.start_mark is None else event.start_mark.line + 1


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The safe loader, the fast one where PyYAML was built with it, less the tags that make more than plain values."""


class Dumper(yaml.SafeDumper):
    """Writes what `parse_yaml` reads back: the text `1e-4` in quotes."""


def _mapping(loader: Any, node: Any) -> Iterable[dict[str, Any]]:
    """Construct a mapping as the safe loader does (in two steps), after looking at its own keys."""
    tree: dict[str, Any] = {}
    yield tree
    if not isinstance(node, yaml.MappingNode):
        raise ConstructorError(None, None, "this is no mapping", node.start_mark)
    lines: dict[str, int] = {}
    for key, _ in node.value:
        text = key.tag in (_TAG + "str", _TAG + "merge")
        if not isinstance(key, yaml.ScalarNode) or not text:
            what = f"a key is not a text: {str(key.value)[:40]!r}; put it in quotes"
            raise ConstructorError(None, None, what, key.start_mark)
        if key.value in lines:
            what = f"the key {key.value[:60]!r} stands twice, first in line {lines[key.value]}"
            raise ConstructorError(None, None, what, key.start_mark)
        lines[key.value] = key.start_mark.line + 1
    tree.update(loader.construct_mapping(node))


def _plain(loader: Any, node: Any, *, kind: str) -> int | float:
    """Construct a number or a bool from a text that is no longer than one can be."""
    if len(node.value) > MAX_DIGITS:
        what = f"a number of {len(node.value):,} characters"
        raise ConstructorError(None, None, what, node.start_mark)
    try:
        made: int | float = getattr(loader, f"construct_yaml_{kind}")(node)
    except (ValueError, LookupError):
        what = f"this is no {kind}: {node.value[:40]!r}"
        raise ConstructorError(None, None, what, node.start_mark) from None
    return made


_TAG = "tag:yaml.org,2002:"
_Loader.yaml_constructors = {
    tag: make
    for tag, make in _Loader.yaml_constructors.items()
    if tag in (None, _TAG + "null", _TAG + "str", _TAG + "seq")
}
_Loader.add_constructor(_TAG + "map", _mapping)
for _kind in ("bool", "int", "float"):
    _Loader.add_constructor(_TAG + _kind, functools.partial(_plain, kind=_kind))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != _TAG + "timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# YAML 1.1 wants a dot and a sign: 1.e-4, 1.5e+3.
_EXPONENT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)[eE][-+]?[0-9]+\Z")
for _class in (_Loader, Dumper):
    _class.add_implicit_resolver(_TAG + "float", _EXPONENT, list("-+.0123456789"))
