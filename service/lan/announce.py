"""What the terminal shows: where to go, and a QR code with a code to join. Text only; knows no server."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import segno

QUIET_MODULES = 4
"""The light margin that readers of QR codes need (ISO/IEC 18004)."""
_HALVES = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
_WHITE_ON_BLACK, _AS_BEFORE = "\x1b[97;40m", "\x1b[0m"


def page_url(address: object, port: int) -> str:
    """The page at an address of this machine."""
    return f"https://{f'[{address}]' if ':' in str(address) else address}:{port}/"


def join_url(page: str, code: str) -> str:
    """The page with a code in its fragment, which browsers send to nobody: it stands in no request and in no log."""
    return f"{page}#join={quote(code, safe='')}"


def qr_text(text: str, *, coloured: bool) -> str:
    """A QR code as lines of half blocks; light modules are drawn, for terminals are dark.

    coloured : white on black by escapes, so that it can be read on a light terminal as well
    """
    matrix = segno.make(text, error="m", micro=False).matrix_iter(border=QUIET_MODULES)
    rows = [[not module for module in row] for row in matrix]
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    lines = []
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        line = "".join(_HALVES[pair] for pair in zip(upper, lower, strict=True))
        lines.append(f"{_WHITE_ON_BLACK}{line}{_AS_BEFORE}" if coloured else line)
    return "\n".join(lines)


def invitation(pages: Sequence[str], code: str, code_s: float, fingerprint: str, *, coloured: bool) -> str:
    """All that is printed when there is a new code.

    pages : addresses of the page, the best one first; at least one
    code_s : how long the code is valid, seconds
    """
    url = join_url(pages[0], code)
    others = "".join(f"\n  or at {page}" for page in pages[1:])
    return (
        f"{qr_text(url, coloured=coloured)}\n"
        f"Scan it with a phone in the same network, or open there, within {_span(code_s)} and once:\n"
        f"  {url}{others}\n"
        f"The browser warns of a certificate that it does not know. This one is right: SHA-256\n"
        f"  {fingerprint}"
    )


def _span(seconds: float) -> str:
    return f"{round(seconds / 60)} minutes" if seconds >= 120 else f"{round(seconds)} s"
