"""Forms: fields and files by name, and what is no form."""

from __future__ import annotations

import asyncio

import pytest
from starlette.datastructures import Headers

from service.errors import Problem
from service.routes.forms import MAX_FIELDS, Form, read_form

HEADERS = Headers({"content-type": "multipart/form-data; boundary=b"})


def field(name: str, value: str, extra: str = "") -> str:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n{value}\r\n'


def read(body: str, headers: Headers = HEADERS) -> Form:
    return asyncio.run(read_form(headers, body.encode()))


def test_fields_and_files_in_any_order() -> None:
    parts = [field("a", "1"), field("image", "xyz", '; filename="image"'), field("b", "2")]
    for order in (parts, parts[::-1]):
        form = read("".join(order) + "--b--\r\n")
        assert (form.fields, form.file("image")) == ({"a": "1", "b": "2"}, b"xyz")
    with pytest.raises(Problem, match=r"expected a file in the field 'a', got \['a', 'b', 'image'\]"):
        form.file("a")


def test_a_file_of_a_megabyte_and_more_comes_whole() -> None:
    content = "x" * ((1 << 20) + 10)
    assert read(field("image", content, '; filename="i"') + "--b--\r\n").file("image") == content.encode()


@pytest.mark.parametrize(
    "body",
    [
        "garbage",
        "--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
        "".join(field(f"f{n}", "x") for n in range(MAX_FIELDS + 1)) + "--b--\r\n",
        "".join(field(f"f{n}", "x", '; filename="i"') for n in range(2)) + "--b--\r\n",
    ],
)
def test_what_is_no_form(body: str) -> None:
    with pytest.raises(Problem) as caught:
        read(body)
    assert (caught.value.status, caught.value.code) == (400, "bad_form")


def test_without_a_boundary() -> None:
    with pytest.raises(Problem, match="bad_form"):
        read("x", Headers({"content-type": "multipart/form-data"}))
