"""The 16-digit code of a city component (GB/T 30428.2): a cover, a lamp, a pump station on the city's platform.

===========  ======  =====  =====  ========  =========================================
layout       county  major  minor  sequence  example
===========  ======  =====  =====  ========  =========================================
classic      6       2      2      6         ``320508 01 01 000001``, water cover no. 1
extended     6       2      3      5         minor 001–079 standard, 080–999 the city's own
===========  ======  =====  =====  ========  =========================================

Nothing in the code itself tells the two apart; a city uses one of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_CODE = re.compile(r"[1-8]\d{15}")
MAJOR_CLASSES = range(1, 7)  # public utilities, traffic, appearance, greenery, other; some cities number one more


class Layout(StrEnum):
    CLASSIC = "classic"
    EXTENDED = "extended"


@dataclass(frozen=True, slots=True)
class ComponentCode:
    county: str
    major: str
    minor: str
    sequence: str

    @property
    def text(self) -> str:
        return f"{self.county}{self.major}{self.minor}{self.sequence}"


def parse_component_code(text: str, layout: Layout) -> ComponentCode:
    """The parts. Raises ValueError with what is wrong."""
    if not _CODE.fullmatch(text):
        raise ValueError(f"a component code has 16 digits and begins with a county's six, not {text[:40]!r}")
    split = 10 if layout is Layout.CLASSIC else 11
    code = ComponentCode(text[:6], text[6:8], text[8:split], text[split:])
    if int(code.major) not in MAJOR_CLASSES:
        raise ValueError(f"{code.major} is no major class of components (01 to {MAJOR_CLASSES[-1]:02})")
    if int(code.minor) == 0 or int(code.sequence) == 0:
        raise ValueError(f"minor class and sequence begin with 1, here {code.minor} and {code.sequence}")
    return code


def layouts_of(text: str) -> list[Layout]:
    """The layouts in which ``text`` is a code. Raises ValueError with what is wrong when there is none."""
    found: list[Layout] = []
    reason = ""
    for layout in Layout:
        try:
            parse_component_code(text, layout)
        except ValueError as error:
            reason = reason or str(error)
        else:
            found.append(layout)
    if not found:
        raise ValueError(reason)
    return found
