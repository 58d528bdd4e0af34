"""The live page at `/`, and the browser client that it imports: files of two fixed lists, open to all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request, Response

import clients
import service
from service.errors import Problem

router = APIRouter(include_in_schema=False)

PAGE = Path(service.__file__).parent / "page"
CLIENT = Path(clients.__file__).parent / "browser"
PAGE_FILES = (
    "api.js",
    "app.js",
    "cameras.js",
    "chart.js",
    "dense.js",
    "heat.js",
    "icon.svg",
    "join.js",
    "others.js",
    "overlay.js",
    "run.js",
    "source.js",
    "store.js",
    "style.css",
    "view.js",
    "wake.js",
    "wall.js",
    "words.js",
)
CLIENT_FILES = ("index.js", "reference.js", "stream.js", "tile-coder.js", "tile-worker.js", "tiles.js", "wire.js")
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_METHODS = ["GET", "HEAD"]


@dataclass(frozen=True)
class StaticFile:
    """What is sent of a file. etag : quoted, changes with the content."""

    content: bytes
    media_type: str
    etag: str


@cache
def read(path: Path) -> StaticFile:
    """A file of the lists, read once: an update comes with a restart. Raises OSError."""
    content = path.read_bytes()
    return StaticFile(content, MEDIA_TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


@router.api_route("/", methods=_METHODS)
async def index(request: Request) -> Response:
    """The page."""
    return _answer(request, PAGE / "index.html")


@router.api_route("/page/{name}", methods=_METHODS)
async def page_file(request: Request, name: str) -> Response:
    """A script, the style or the icon of the page."""
    return _listed(request, PAGE, name, PAGE_FILES)


@router.api_route("/clients/browser/{name}", methods=_METHODS)
async def client_file(request: Request, name: str) -> Response:
    """A module of the browser client."""
    return _listed(request, CLIENT, name, CLIENT_FILES)


def _listed(request: Request, folder: Path, name: str, names: tuple[str, ...]) -> Response:
    if name not in names:
        raise Problem(404, "not_found", "no such file")
    return _answer(request, folder / name)


def _answer(request: Request, path: Path) -> Response:
    """The file, or 304 where the browser has it. It asks each time, so that page and server are of one version."""
    file = read(path)
    headers = {"etag": file.etag, "cache-control": "no-cache"}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if file.etag in known:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers | {"content-type": file.media_type})
