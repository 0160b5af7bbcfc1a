"""Cells of tables that spreadsheets open: who opens the file must not run what a device, or somebody else, wrote."""

from __future__ import annotations

# How a spreadsheet tells a formula (OWASP: CSV injection); the wide ones are typed, and taken, in China and Japan.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_EXACT = 15  # digits that a spreadsheet keeps of a number; a component code has 16


def harmless(text: str) -> str:
    """``text`` so that no spreadsheet takes it for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def cell(value: str | int | float | bool | None) -> str:
    """A value as text: nothing that could be a formula, and long codes so that no digit of them is lost."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return f"{value:.15g}" if isinstance(value, float) else str(value)
    return f"'{value}" if len(value) > _EXACT and value.isdigit() else harmless(value)
