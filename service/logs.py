"""Where the log goes and how it looks: lines for people, or one JSON object for each entry. Always on stderr.

JSON entries have `time` (ISO 8601, UTC), `level`, `logger` and `message`; where it applies `stream_id`, `model`, `seq`,
`error_id` and others beside them; `exception`, a traceback, last. Uvicorn's entries go the same way.
"""

from __future__ import annotations

import datetime
import logging
from typing import Any, Literal

from rich.console import Console
from rich.logging import RichHandler

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

OWN = "afterimage"


def set_up(log_format: LogFormat, level: LogLevel, console: Console) -> None:
    """Send the whole process's log to `console`'s file, where nothing takes it yet.

    level : of this product's own entries. Those of libraries begin at INFO at the earliest: what they tell below that
    holds headers, and with them tokens.
    """
    handler: logging.Handler
    if log_format == "json":
        handler = logging.StreamHandler(console.file)
        handler.setFormatter(json_formatter())
    else:
        handler = RichHandler(console=console)
        handler.setFormatter(logging.Formatter("%(message)s", "%X"))
    chosen = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(chosen, logging.INFO), handlers=[handler])
    logging.getLogger(OWN).setLevel(chosen)


def json_formatter() -> logging.Formatter:
    """Makes one line of JSON of each entry."""
    from pythonjsonlogger.json import JsonFormatter

    class Lines(JsonFormatter):
        def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
            made = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
            return made.isoformat(timespec="milliseconds").replace("+00:00", "Z")

        def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
            """Level in small letters, as the setting names it; uvicorn's copy of a message in colours left out."""
            log_data["level"] = str(log_data["level"]).lower()
            log_data.pop("color_message", None)
            return log_data

    return Lines(
        ["asctime", "levelname", "name", "message"],
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger", "exc_info": "exception"},
    )
