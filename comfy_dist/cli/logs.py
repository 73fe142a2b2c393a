"""Logging of the commands."""

from __future__ import annotations

import json
import logging
import sys

from comfy_dist.settings import LoggingSettings


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure(settings: LoggingSettings) -> None:
    """Log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    handler.setFormatter(_JsonLines() if settings.log_format == "json" else text)
    level = logging.DEBUG if settings.verbose else settings.logging_level
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # These tell every reconnection in their own words; ours say it once, as sentences.
    for name in ("aiormq", "aio_pika", "asyncio", "aiohttp.access"):
        logging.getLogger(name).setLevel(logging.CRITICAL if not settings.verbose else logging.INFO)
