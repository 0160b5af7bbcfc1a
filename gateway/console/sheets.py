"""Tables as files that spreadsheets open: CSV row by row, Excel over a temporary file.

A cell that begins like a formula is kept from being one: who opens the file must not run what a device, or somebody at
another desk, wrote.
"""

from __future__ import annotations

import asyncio
import csv
import io
import tempfile
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import IO

from openpyxl import Workbook
from openpyxl.cell import Cell, WriteOnlyCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter
from starlette.responses import StreamingResponse
from starlette.types import Send

from gateway.core.spreadsheet import harmless

CSV, XLSX = "csv", "xlsx"
MEDIA_TYPES = {
    CSV: "text/csv; charset=utf-8",
    XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}

PIECE = 64 << 10
STALLED_S = 60.0  # a reader who takes nothing for so long gives up his file
LONGEST_CELL = 32_767  # Excel's own limit
_BOM = b"\xef\xbb\xbf"  # Excel takes the file for UTF-8 only with it


class Download(StreamingResponse):
    """A file that is made while it is read. Its maker is closed in any case; a reader who stalls gets no end, so that
    half a file is never taken for a whole one."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], form: str, name: str) -> None:
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        super().__init__(pieces, headers=headers, media_type=MEDIA_TYPES[form])
        self._pieces = pieces

    async def stream_response(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._pieces) as pieces:
            async for piece in pieces:
                try:
                    async with asyncio.timeout(STALLED_S):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
                except TimeoutError:
                    return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Sheet:
    """One table, for a thread and not for the loop: ``rows`` as often as need be, then ``finish``, and ``close`` in any
    case."""

    def __init__(self, form: str, columns: Sequence[str], widths: Sequence[int]) -> None:
        self._form = form
        self._columns = columns
        self._begun = False
        if form == XLSX:
            self._book = Workbook(write_only=True)
            self._sheet = self._book.create_sheet("citywatch")
            self._sheet.freeze_panes = "A2"
            for number, width in enumerate(widths, 1):
                self._sheet.column_dimensions[get_column_letter(number)].width = width
            bold = Font(bold=True)
            self._sheet.append([self._cell(text, bold) for text in columns])
        self._file: IO[bytes] | None = None

    def rows(self, rows: Sequence[Sequence[str]]) -> bytes:
        """Add rows; gives what of the file is ready."""
        if self._form == XLSX:
            for row in rows:
                self._sheet.append([self._cell(text) for text in row])
            return b""
        stream = io.StringIO(newline="")
        writer = csv.writer(stream)
        head = b""
        if not self._begun:
            self._begun = True
            head = _BOM
            writer.writerow(self._columns)
        writer.writerows([harmless(text) for text in row] for row in rows)
        return head + stream.getvalue().encode("utf-8", "replace")

    def finish(self, last: str | None = None) -> Iterator[bytes]:
        """The rest of the file in pieces, with ``last`` in a row of its own."""
        rest = self.rows([[last]] if last is not None else [])
        if self._form == CSV:
            return iter([rest] if rest else [])
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  `close` closes it
        self._book.save(self._file)
        self._file.seek(0)
        return iter(lambda: self._file.read(PIECE) if self._file is not None else b"", b"")

    def close(self) -> None:
        """Give up what is open; also after half of the work."""
        if self._file is not None:
            self._file.close()
            self._file = None
        elif self._form == XLSX:
            # Half written: openpyxl keeps its rows in a temporary file until the book is saved.
            with tempfile.TemporaryFile() as nowhere:
                self._book.save(nowhere)

    def _cell(self, text: str, font: Font | None = None) -> Cell:
        cell = WriteOnlyCell(self._sheet, value=ILLEGAL_CHARACTERS_RE.sub("\ufffd", text)[:LONGEST_CELL])
        cell.data_type = "s"  # a text, whatever it begins with
        if font is not None:
            cell.font = font
        return cell
