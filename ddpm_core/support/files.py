"""Where the course's own files are. Nothing here is about diffusion."""

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath, PureWindowsPath


class DataUnavailable(RuntimeError):
    """A data set is missing or damaged; the message says how to get it."""


def data_folder() -> Path:
    """The course's data/ folder: inside an installed package, or beside the package in a clone of the course."""
    package = Path(__file__).parent.parent
    installed = package / "_data"
    return installed if installed.is_dir() else package.parent / "data"


def shipped_file(name: str) -> Path:
    """The path of a file that comes with the course. Raises FileNotFoundError with the fix where it is missing."""
    path = data_folder() / name
    if not path.is_file():
        raise FileNotFoundError(f"{name} is not in {data_folder()}; get it back with: git checkout -- data/{name}")
    return path


def quoted(path: PurePath) -> str:
    """A path as one types it in a terminal: in quotes where the shell would take it apart."""
    if isinstance(path, PureWindowsPath):  # the shells there want double quotes, and leave backslashes alone
        return f'"{path}"' if re.search(r"[^\w.:\\/-]", str(path)) else str(path)
    return shlex.quote(str(path))


@contextmanager
def reading(*names: str) -> Iterator[list[Path]]:
    """The paths of files that come with the course; whatever goes wrong with them in the block is DataUnavailable."""
    try:
        yield [shipped_file(name) for name in names]
    except FileNotFoundError as error:
        raise DataUnavailable(str(error)) from error
    except Exception as error:  # from damaged files, Pillow and our own lines raise nearly anything
        raise DataUnavailable(
            f"{' or '.join(names)} in {data_folder()} is damaged; get it back with: "
            f"git checkout -- {' '.join(f'data/{name}' for name in names)} ({' '.join(str(error).split())})"
        ) from error


def make_folder(file: Path) -> None:
    """Makes the folder that a file will be written to, so that a wrong path shows before the work and not after it.

    Raises ValueError where that cannot be done, or where the folder is read-only.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{file} cannot be written: there is no folder {file.parent} ({error.strerror})") from None
    if not os.access(file.parent, os.W_OK):
        raise ValueError(f"{file} cannot be written: the folder {file.parent.resolve()} is read-only")


def must_be_empty(folder: Path, why: str) -> None:
    """Raises FileExistsError, which says why, where a folder holds more than hidden files."""
    if others := sorted(item.name for item in folder.iterdir() if not item.name.startswith(".")):
        raise FileExistsError(f"{folder} must be empty, {why}; in it is {others[0]}")
