"""Open a file's bytes: unpack gzip and zstd by content, within limits, and tell every defect in one line."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from heedful.config import UserError, install, refused

GZIP, ZSTD, ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class FileLimits:
    """How much a file may hold. A small file can unpack to more than there is memory."""

    unpacked: int = 1_000_000_000
    """Bytes to which any file may unpack."""
    ratio: int = 100
    """A larger file may unpack to this many times its own size."""
    rows: int = 2_000_000
    """Rows that any file may hold. A larger file may hold one row for each of its bytes, if `ratio` is not 0."""

    def bytes_of(self, size: int) -> int:
        """Most unpacked bytes of a file of `size` bytes."""
        return max(self.unpacked, self.ratio * size)

    def rows_of(self, size: int) -> int:
        """Most rows of a file of `size` bytes."""
        return max(self.rows, size if self.ratio else 0)


USUAL = FileLimits()


def needs_pyarrow(path: Path) -> UserError:
    """The error for a file that only pyarrow can read or write, where it is not installed."""
    return UserError(f"{path}: Parquet, Arrow and zstd need pyarrow. Run {install('files')}, or use .jsonl.")


def too_large(path: Path, most: int) -> UserError:
    """The error for a file that unpacks to more than `most` bytes."""
    return UserError(f"{path}: unpacks to more than {most:,} bytes. Give it in parts.")


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn errors of the operating system and of gzip into one line."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Check the path.") from None
    except (EOFError, zlib.error):
        raise UserError(f"{path}: the gzip file is cut off or damaged. Download or write it again.") from None
    except gzip.BadGzipFile:
        raise UserError(f"{path}: named .gz, but not a gzip file. Rename it or compress it.") from None
    except OSError as error:
        raise UserError(refused(error, path)) from None


@contextmanager
def opened(path: Path, limits: FileLimits) -> Iterator[BinaryIO]:
    """The unpacked bytes of a file of text, without a byte order mark. UserError for UTF-16 and for archives."""
    with told(path), open(path, "rb") as file:
        head = file.read(4)
        file.seek(0)
        with _unpacking(path, file, head) as unpacked:
            most = limits.bytes_of(path.stat().st_size)
            stream = io.BufferedReader(_Counted(path, unpacked, most), 1 << 20)
            start = stream.peek(3)[:3]
            if start.startswith(UTF16) or b"\0" in start[:2]:
                raise UserError(f"{path}: is UTF-16 text. Save it as UTF-8.")
            if start.startswith(ZIP[:3]):
                raise UserError(f"{path}: is a zip archive or a spreadsheet. Unpack it, or save it as .csv.")
            if start == b"\xef\xbb\xbf":
                stream.read(3)
            yield stream


@contextmanager
def _unpacking(path: Path, file: BinaryIO, head: bytes) -> Iterator[Any]:
    if head.startswith(GZIP) or path.name.endswith(".gz"):
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield unpacked
    elif head.startswith(ZSTD) or path.name.endswith(".zst"):
        try:
            import pyarrow
        except ImportError:
            raise needs_pyarrow(path) from None
        try:
            with pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd") as unpacked:
                yield unpacked
        except OSError as error:
            if error.errno:
                raise  # an error of the system, not of zstd
            raise UserError(f"{path}: the zstd file is cut off or damaged. Download or write it again.") from None
    else:
        yield file


class _Counted(io.RawIOBase):
    """A stream that refuses to give more than `most` bytes."""

    def __init__(self, path: Path, inner: Any, most: int) -> None:
        self._path, self._inner, self._most, self._given = path, inner, most, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._inner.read(len(buffer))
        self._given += len(block)
        if self._given > self._most:
            raise too_large(self._path, self._most)
        buffer[: len(block)] = block
        return len(block)
