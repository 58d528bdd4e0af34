"""The live page's files: which there are, as what, and nothing beside them."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import urljoin

import pytest

from service.headers import CONTENT_SECURITY_POLICY
from service.keys import Scope, add_key
from service.routes import page

ROOT = Path(__file__).parents[3]
PATHS = [
    "/",
    *(f"/page/{name}" for name in page.PAGE_FILES),
    *(f"/clients/browser/{name}" for name in page.CLIENT_FILES),
]


def test_the_lists_are_what_is_there() -> None:
    assert {path.name for path in page.PAGE.iterdir()} == {"index.html", *page.PAGE_FILES}
    assert {path.name for path in page.CLIENT.glob("*.js")} == set(page.CLIENT_FILES)


def test_every_file_goes_into_the_package() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = tool["package-data"]["*"]
    for name in ("index.html", *page.PAGE_FILES, *page.CLIENT_FILES):
        assert any(fnmatch(name, pattern) for pattern in patterns), name
    for package in ("service.page", "clients.browser"):
        assert any(fnmatch(package, pattern) for pattern in tool["packages"]["find"]["include"])
    assert tool["packages"]["find"].get("namespaces", True), "the folders are no regular packages"


@pytest.mark.parametrize("path", PATHS)
def test_a_file_with_its_type(make_client, path: str) -> None:
    client = make_client()
    response = client.get(path)
    assert response.status_code == 200
    suffix = Path(path).suffix or ".html"
    assert response.headers["content-type"] == page.MEDIA_TYPES[suffix]
    source = page.CLIENT if "clients" in path else page.PAGE
    assert response.content == (source / (Path(path).name or "index.html")).read_bytes()
    assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert response.headers["x-content-type-options"] == "nosniff"
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(response.content))


def test_what_a_browser_has_is_not_sent_again(make_client) -> None:
    client = make_client()
    first = client.get("/page/app.js")
    assert first.headers["cache-control"] == "no-cache", "asked for each time: page and server are of one version"
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        again = client.get("/page/app.js", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get("/page/app.js", headers={"if-none-match": '"other"'}).status_code == 200
    assert client.get("/page/run.js").headers["etag"] != tag


@pytest.mark.parametrize(
    "path",
    [
        "/page/",
        "/page/index.html",
        "/page/none.js",
        "/page/..%2fapp.py",
        "/page/..%2f..%2fpyproject.toml",
        "/page/%2e%2e%2fapp.py",
        "/page/app.js%00",
        "/page/./app.py",
        "/page/%2fetc%2fpasswd",
        "/clients/browser/README.md",
        "/clients/browser/..%2fwire%2fPROTOCOL.md",
        "/clients/python/core.py",
        "/clients/wire/PROTOCOL.md",
    ],
)
def test_nothing_else(make_client, path: str) -> None:
    response = make_client().get(path)
    assert response.status_code == 404
    assert response.json()["code"] == "not_found"


def test_the_page_is_open_to_all_and_its_data_is_not(make_client, tmp_path: Path) -> None:
    add_key(tmp_path / "keys", "door", [Scope.INFER])
    client = make_client(keys_file=tmp_path / "keys")
    assert client.get("/").status_code == 200
    assert client.get("/v1/models").status_code == 401


def test_nothing_comes_from_another_host_or_from_between_the_tags() -> None:
    """The policy allows neither; a page that broke it would be half dead, and only in a browser."""
    html = (page.PAGE / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", html)
    for path in (*page.PAGE.iterdir(), *page.CLIENT.glob("*.js")):
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(?:src|href|from|import|url)\W{0,3}(?:https?:)?//\w", text), path.name


def test_every_import_is_served(make_client) -> None:
    client = make_client()
    for path in (path for path in PATHS if path.endswith(".js")):
        for name in re.findall(r'from "([^"]+)"', client.get(path).text):
            assert urljoin(path, name) in PATHS, f"{path} imports {name}"
