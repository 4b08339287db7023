"""A folder of files, each with the value of one setting, as Docker and Kubernetes give secrets."""

from collections.abc import Iterable
from pathlib import Path


class SecretFileError(ValueError):
    """A file cannot be read; the message names it, and no value."""


def read_secret_files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the values of the files that are there and not empty, by name.

    Space around a value, such as the newline that editors add, does not belong to it.

    Raises:
        SecretFileError: a file or the folder is not readable, or not text in UTF-8.
    """
    values = {name: _read(folder / name) for name in names}
    return {name: value for name, value in values.items() if value}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise SecretFileError(f"{path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise SecretFileError(f"{path} is not written in UTF-8; save it as UTF-8") from None
