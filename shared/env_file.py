"""`.env` as Docker Compose reads it, so that one file means the same to both.

It uses only the standard library, because the installer reads it before anything is installed.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final


class EnvFileError(ValueError):
    """The file cannot be read; the message names the line and no value."""


_BLANK: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_NAME: Final = re.compile(r"[ \t]*(?:export[ \t]+)?([^\s=:#'\"]+)[ \t]*(?:([=:])[ \t]*|(?=\n|\Z))")
_SINGLE: Final = re.compile(r"'((?:\\.|[^'\\])*)'", re.DOTALL)
_DOUBLE: Final = re.compile(r'"((?:\\.|[^"\\])*)"', re.DOTALL)
_PLAIN: Final = re.compile(r"[^\n]*")
_COMMENT: Final = re.compile(r"[ \t]#.*")
_ESCAPE: Final = re.compile(r"\\([nrt\"\\$])")
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t", "$": "\0"}
"""A dollar sign that stands for itself is a NUL until the variables are replaced."""

_VARIABLE: Final = re.compile(r"\$(?:(\$)|([A-Za-z_][A-Za-z0-9_]*)|(\{))")
_BRACED: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:(:?[-+?])(.*))?", re.DOTALL)


def read_env_file(path: Path) -> dict[str, str]:
    """Return the file's values, empty if there is no file.

    Raises:
        EnvFileError: it is not UTF-8, cannot be opened, or has a line that Compose refuses too.
    """
    return _parsed(path)[0]


def unset_variables(path: Path) -> list[str]:
    """Return the variables that the file uses and that are set nowhere; most were meant literally.

    Raises:
        EnvFileError: as `read_env_file`.
    """
    return sorted(_parsed(path)[1])


def parse(text: str, environment: Mapping[str, str]) -> tuple[dict[str, str], set[str]]:
    """Return the values of a file's text, and the variables in it that are not set.

    `$NAME`, `${NAME}`, `${NAME:-else}`, `${NAME:+instead}` and `${NAME:?why}` stand for
    variables, `$$` for a dollar sign, and nothing does so within single quotes. The environment
    wins over the file. Compose knows the whole file before it replaces, so this reads it twice.
    """
    text = text.replace("\r\n", "\n")
    first = _Reader(text, environment).read()
    reader = _Reader(text, {**first, **environment})
    return reader.read(), reader.unset


def _parsed(path: Path) -> tuple[dict[str, str], set[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}, set()
    except OSError as error:
        raise EnvFileError(f"{path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise EnvFileError(f"{path} is not written in UTF-8; save it as UTF-8") from None
    if "\0" in text:  # UTF-16 without its mark, as Windows' tools write it, reads like this.
        raise EnvFileError(f"{path} holds NUL characters; save it as UTF-8")
    try:
        return parse(text, os.environ)
    except EnvFileError as error:
        raise EnvFileError(f"{path}, {error}") from None


class _Reader:
    """Reads a text once, with the variables that are known before it."""

    def __init__(self, text: str, known: Mapping[str, str]) -> None:
        self.unset: set[str] = set()
        self._text = text
        self._known = known
        self._values: dict[str, str] = {}

    def read(self) -> dict[str, str]:
        at = 0
        while at < len(self._text):
            blank = _BLANK.match(self._text, at)
            at = blank.end() if blank else self._read_line(at)
        return self._values

    def _read_line(self, at: int) -> int:
        line = self._text.count("\n", 0, at) + 1
        name = _NAME.match(self._text, at)
        if name is None:
            raise EnvFileError(f"line {line}: a setting is written NAME=value")
        try:
            value, at = self._value(name.end())
        except EnvFileError as error:
            raise EnvFileError(f"line {line}: {name[1]}: {error}") from None
        if name[2]:
            self._values[name[1]] = value
        elif name[1] in self._known:  # A name alone takes its value from the environment.
            self._values[name[1]] = self._known[name[1]]
        return at

    def _value(self, at: int) -> tuple[str, int]:
        """Return the value that begins there, and where the next line begins."""
        single, double = _SINGLE.match(self._text, at), _DOUBLE.match(self._text, at)
        quoted = single or double
        if quoted:
            rest = _BLANK.match(self._text, quoted.end())
            if rest is None:
                raise EnvFileError("something follows the closing quote")
            if single:
                return single[1].replace("\\'", "'"), rest.end()
            plain = _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), quoted[1])
            return self._replaced(plain), rest.end()
        if self._text[at : at + 1] in {"'", '"'}:
            raise EnvFileError("the closing quote is missing")
        found = _PLAIN.match(self._text, at)
        assert found
        return self._replaced(_COMMENT.sub("", found[0]).strip()), found.end() + 1

    def _replaced(self, text: str) -> str:
        """Return the text with its variables replaced."""
        parts = []
        at = 0
        while found := _VARIABLE.search(text, at):
            parts.append(text[at : found.start()])
            at = found.end()
            if found[1]:
                parts.append("$")
            elif found[2]:
                parts.append(self._variable(found[2]))
            else:
                end = _closing(text, at)
                parts.append(self._braced(text[at:end]))
                at = end + 1
        return "".join([*parts, text[at:]]).replace("\0", "$")

    def _braced(self, inside: str) -> str:
        found = _BRACED.fullmatch(inside)
        if found is None:
            raise EnvFileError(
                "a ${ } holds no name; for a dollar sign write $$, or use single quotes"
            )
        name, how, other = found[1], found[2] or "", found[3] or ""
        value = self._look_up(name)
        has = bool(value) if how.startswith(":") else value is not None
        if how.endswith("-") and not has:
            return self._replaced(other)
        if how.endswith("+"):
            return self._replaced(other) if has else ""
        if how.endswith("?") and not has:
            raise EnvFileError(f"the variable {name} is needed, and is not set")
        return self._variable(name)

    def _variable(self, name: str) -> str:
        value = self._look_up(name)
        if value is None:
            self.unset.add(name)
        return value or ""

    def _look_up(self, name: str) -> str | None:
        return self._known.get(name, self._values.get(name))


def _closing(text: str, at: int) -> int:
    """Return where the brace is closed that was opened before `at`."""
    depth = 1
    for place in range(at, len(text)):
        if text.startswith("${", place):
            depth += 1
        elif text[place] == "}":
            depth -= 1
            if depth == 0:
                return place
    raise EnvFileError("a ${ is not closed; for a dollar sign write $$, or use single quotes")
