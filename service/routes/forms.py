"""Multipart forms, read whole from a body that is bounded already."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.errors import Problem

MAX_FIELDS = 16


@dataclass(frozen=True)
class Form:
    """fields : texts by name, the last of each. files : contents by name."""

    fields: dict[str, str]
    files: dict[str, bytes]

    def file(self, name: str) -> bytes:
        """Content of a file. Raises Problem 400, naming what came instead."""
        content = self.files.get(name)
        if content is None:
            came = sorted({*self.fields, *self.files})[:8]
            raise Problem(400, "bad_form", f"expected a file in the field {name!r}, got {came}")
        return content


async def read_form(headers: Headers, body: bytes) -> Form:
    """A form of one file and some fields. Raises Problem 400 for anything else."""

    async def stream() -> AsyncIterator[bytes]:
        yield body

    try:
        form = await MultiPartParser(headers, stream(), max_files=1, max_fields=MAX_FIELDS).parse()  # type: ignore[arg-type]
    except (MultiPartException, KeyError, ValueError) as error:
        detail = getattr(error, "message", None) or f"not a multipart form: {error}"
        raise Problem(400, "bad_form", detail) from None
    async with AsyncExitStack() as stack:
        stack.push_async_callback(form.close)
        items = form.multi_items()
        files = {name: await value.read() for name, value in items if isinstance(value, UploadFile)}
        return Form({name: value for name, value in items if isinstance(value, str)}, files)
