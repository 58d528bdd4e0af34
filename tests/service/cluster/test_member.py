"""Whole members, without Ray: clients come by the common address, and streams move as members come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from certificates import Authority
from service_fakes import FakeEngine, image, make_registry
from village import Village, come, village

from clients.python import AsyncStreamClient, FrameResult, Reconnect, Refused, StreamOptions
from clients.wire import Policy
from service.cluster.desk import Desk
from service.cluster.forward import HEADER
from service.cluster.member import Member, address_of, listen
from service.cluster.membership import Unreachable
from service.cluster.messages import Keys
from service.cluster.plan import Plan
from service.keys import Scope, add_key, remove_key
from service.serve import bind
from service.settings import Settings

PATIENT = Reconnect(attempts=50, initial_s=0.02, maximum_s=0.2)


async def post(url: str, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.post(f"{url}/v1/streams", headers=headers)


async def ask(method: str, url: str, token: str | None = None) -> httpx.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.request(method, url, headers=headers)


class Stream:
    """A client that sends a frame of a level of its own and checks that the answer is of it."""

    def __init__(self, url: str, stream_id: str, level: int, token: str | None = None) -> None:
        self.level = level
        options = StreamOptions(policy=Policy.ALL, token=token, reconnect=PATIENT)
        self.client = AsyncStreamClient(url, stream_id, options)
        self.decisions: list[str] = []

    async def frame(self) -> str:
        """Where it was answered."""
        seq = await self.client.send(image(self.level * 10))
        async with asyncio.timeout(30):
            event = await anext(self.client)
        assert isinstance(event, FrameResult), event
        assert event.seq == seq
        assert event.result.detections is not None
        assert event.result.detections[0].class_id == self.level, "another stream's frame"
        self.decisions.append(str(event.result.decision))
        return self.client.url


async def streams_in(town: Village, number: int) -> list[Stream]:
    streams = []
    for level in range(number):
        made = (await post(town.url)).json()
        streams.append(Stream(town.url, made["stream_id"], level, made["token"]))
        await streams[-1].client.connect()
    return streams


def test_streams_go_to_their_members_and_move_with_one_keyframe_each() -> None:
    async def run() -> None:
        async with village(2) as town:
            streams = await streams_in(town, 8)
            before = [await stream.frame() for stream in streams]
            assert all(not url.startswith(f"ws{town.url[4:]}") for url in before), "frames go straight to the member"
            third = await town.add()
            await come(lambda: all((town.home(s) is m) for m in town.members for s in m.service.streams._streams))
            after = [await stream.frame() for stream in streams]
            moved = [one != other for one, other in zip(before, after, strict=True)]
            own = f"ws{third.membership.own_address[4:]}"
            assert all(url.startswith(own) == there for url, there in zip(after, moved, strict=True))
            await town.remove(third)
            last = [await stream.frame() for stream in streams]
            assert last == before, "only the third's have moved, and they are back"
            for stream, there in zip(streams, moved, strict=True):
                assert stream.decisions == (["keyframe"] * 3 if there else ["keyframe", "reuse", "reuse"])
                assert stream.client.lost == 0
                await stream.client.close()

    asyncio.run(run())


def test_a_members_own_address_opens_its_streams_and_sends_others_on() -> None:
    async def run() -> None:
        async with village(2) as town:
            first, second = town.members
            made = (await post(first.membership.own_address)).json()
            home = town.home(made["stream_id"]).membership.own_address
            assert made["ws_url"] == f"ws{home[4:]}/v1/streams/{made['stream_id']}/ws"
            for door in (first, second):
                url = door.membership.own_address
                stream = Stream(url, made["stream_id"], 3, made["token"])
                async with stream.client:
                    assert await stream.frame() == made["ws_url"]
            wrong = Stream(second.membership.own_address, made["stream_id"], 3, "wrong")
            with pytest.raises(Refused):
                await wrong.client.connect()

    asyncio.run(run())


def test_an_id_of_the_callers_choice_is_taken_at_every_door() -> None:
    async def run() -> None:
        async with village(2) as town:
            doors = [town.url, *(member.membership.own_address for member in town.members)]
            for number, door in enumerate(doors):
                made = await ask("POST", f"{door}/v1/streams/mine-{number}")
                assert made.status_code == 201
                home = town.home(f"mine-{number}").membership.own_address
                assert made.json()["ws_url"] == f"ws{home[4:]}/v1/streams/mine-{number}/ws"
                stream = Stream(door, f"mine-{number}", 3, made.json()["token"])
                async with stream.client:
                    assert await stream.frame() == made.json()["ws_url"]
                for other in doors:
                    taken = await ask("POST", f"{other}/v1/streams/mine-{number}")
                    assert (taken.status_code, taken.json()["code"]) == (409, "stream_exists")

    asyncio.run(run())


def test_what_is_asked_about_a_stream_reaches_it_by_every_door() -> None:
    async def run() -> None:
        async with village(2) as town:
            made = (await post(town.url)).json()
            path, token = f"/v1/streams/{made['stream_id']}", made["token"]
            doors = [town.url, *(member.membership.own_address for member in town.members)]
            stream = Stream(town.url, made["stream_id"], 5, token)
            async with stream.client:
                await stream.frame()
                for door in doors:
                    assert (await ask("GET", door + path, token)).json()["frames"]["results"] == 1
                    assert (await ask("GET", door + path, "wrong")).status_code == 401
                    listed = (await ask("GET", f"{door}/v1/streams")).json()
                    assert [found["stream_id"] for found in listed["streams"]] == [made["stream_id"]]
                    shown = await ask("GET", f"{door}{path}/snapshot.jpg", token)
                    assert shown.headers["content-type"] == "image/jpeg"
                away = next(m for m in town.members if town.home(made["stream_id"]) is not m)
                assert (await ask("DELETE", away.membership.own_address + path, token)).status_code == 204
                await come(lambda: town.desk.directory.find(made["stream_id"]) is None)
            assert (await ask("GET", f"{town.url}{path}", token)).status_code in (401, 404)

    asyncio.run(run())


def test_an_mjpeg_is_fetched_from_the_streams_own_member() -> None:
    async def run() -> None:
        async with village(2) as town:
            made = (await post(town.url)).json()
            path, token = f"/v1/streams/{made['stream_id']}", made["token"]
            home = town.home(made["stream_id"])
            own = home.membership.own_address
            away = next(m for m in town.members if m is not home).membership.own_address
            stream = Stream(town.url, made["stream_id"], 5, token)
            async with stream.client:
                await stream.frame()
                for door in (town.url, town.url, away):  # the common address asks them in turn
                    view = (await ask("POST", f"{door}{path}/views", token)).json()
                    assert view["mjpeg_url"].startswith(f"{door}{path}/mjpeg?ticket=")
                    query = view["mjpeg_url"].partition("?")[2]
                    for url, secret in ((f"{door}{path}/mjpeg?max_fps=5", token), (view["mjpeg_url"], None)):
                        sent_on = await ask("GET", url, secret)
                        assert (sent_on.status_code, sent_on.json()["code"]) == (307, "elsewhere")
                        assert sent_on.headers["location"] == f"{own}{path}/mjpeg{url.partition('/mjpeg')[2]}"
                    assert sent_on.headers["cross-origin-resource-policy"] == "cross-origin"
                    for wrong in (f"{path}/mjpeg", f"{path}/mjpeg?ticket=1.x"):
                        assert (await ask("GET", door + wrong, "wrong")).status_code == 401, "told to nobody else"
                    async with (
                        httpx.AsyncClient(trust_env=False, follow_redirects=True) as client,
                        client.stream("GET", f"{door}{path}/mjpeg?{query}") as film,
                    ):
                        assert film.headers["content-type"].startswith("multipart/")
                        assert str(film.url).startswith(own)

    asyncio.run(run())


def test_members_count_the_peer_that_asks_and_not_the_member_that_passes_it_on() -> None:
    async def run() -> None:
        async with village(2, max_auth_failures_per_min=2) as town:
            made = (await post(town.url)).json()
            away = next(m for m in town.members if town.home(made["stream_id"]) is not m)
            url = f"{away.membership.own_address}/v1/streams/{made['stream_id']}"
            answers = []
            for peer in ("127.0.0.2", "127.0.0.2", "127.0.0.3"):
                transport = httpx.AsyncHTTPTransport(local_address=peer)
                async with httpx.AsyncClient(transport=transport) as client:
                    answers.append((await client.get(url, headers={"X-API-Key": "guess"})).status_code)
            assert answers == [401, 429, 401]
            assert (await ask("GET", url, made["token"])).status_code == 200

    asyncio.run(run())


def test_members_reach_each_other_by_a_certificate_that_an_authority_has_issued(tmp_path: Path) -> None:
    certificate, secret = Authority().issue(tmp_path, "own")
    file = tmp_path / "keys"
    key = add_key(file, "door", [Scope.INFER])

    async def run() -> None:
        async with village(2, file.read_text(), tls_certificate=str(certificate), tls_key=str(secret)) as town:
            stream_id = next(f"s{n}" for n in range(100) if town.home(f"s{n}") is town.members[1])
            doors = [member.membership.own_address for member in town.members]
            assert all(door.startswith("https:") for door in doors)
            async with httpx.AsyncClient(trust_env=False, verify=False) as client:
                headers = {"Authorization": f"Bearer {key}"}
                made = await client.post(f"{doors[0]}/v1/streams/{stream_id}", headers=headers)
                assert made.status_code == 201
                held = {"Authorization": f"Bearer {made.json()['token']}"}
                opened = await client.get(f"{doors[1]}/v1/streams/{stream_id}", headers=held)
                for door in doors:
                    found = await client.get(f"{door}/v1/streams/{stream_id}", headers=headers)
                    assert found.json() == opened.json()
                    listed = (await client.get(f"{door}/v1/streams", headers=headers)).json()
                    assert [one["stream_id"] for one in listed.pop("streams")] == [stream_id]
                    assert listed == {}, "all members have answered"
                    stranger = await client.get(f"{door}/v1/streams")
                    assert (stranger.status_code, stranger.json()["code"]) == (401, "unauthorized")

    asyncio.run(run())


def test_keys_and_their_limits_hold_at_every_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.keys.CHECK_S", 0.0)
    file = tmp_path / "keys"
    key, other = (add_key(file, name, [Scope.INFER]) for name in ("door", "yard"))

    async def run() -> None:
        async with village(3, file.read_text(), max_streams_per_key=4) as town:
            doors = [town.url, *(member.membership.own_address for member in town.members)]
            made = [await post(door, key) for door in doors]
            assert [answer.status_code for answer in made] == [201] * 4
            for door in doors:
                refused = await post(door, key)
                assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
            assert (await post(town.url, other)).status_code == 201
            one = made[0].json()
            assert (await ask("DELETE", f"{town.url}/v1/streams/{one['stream_id']}", one["token"])).status_code == 204
            await come(lambda: town.desk.directory.status()["streams"] == 4)
            again = await post(town.url, key)
            assert again.status_code == 201

            opened = again.json()
            stream = Stream(town.url, opened["stream_id"], 2, opened["token"])
            await stream.client.connect()
            await stream.frame()
            remove_key(file, "door")
            assert await town.desk.change_keys(file.read_text()) is not None
            with pytest.raises(Refused):
                async with asyncio.timeout(20):
                    await anext(stream.client)
            assert (await post(town.url, key)).status_code == 401

    asyncio.run(run())


def test_anonymous_streams_are_opened_where_they_belong() -> None:
    async def run() -> None:
        async with village(2) as town:
            streams = [Stream(town.url, f"camera-{level}", level) for level in range(6)]
            for stream in streams:
                async with stream.client:
                    url = await stream.frame()
                    home = town.home(f"camera-{stream.level}").membership.own_address
                    assert url.startswith(f"ws{home[4:]}/")
            await come(lambda: town.desk.directory.status()["streams"] == 0)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ({}, "http://10.0.0.7:8100"),
        ({"tls_certificate": "c.pem", "tls_key": "k.pem"}, "https://10.0.0.7:8100"),
        ({"cluster_advertise": "https://cams.example:{port}"}, "https://cams.example:8100"),
        ({"cluster_advertise": "http://{host}:9{port}"}, "http://10.0.0.7:98100"),
    ],
)
def test_how_clients_reach_a_member(given: dict[str, Any], address: str) -> None:
    assert address_of(Settings(**given), "10.0.0.7", 8100) == address


def test_members_of_a_machine_take_one_port_after_another() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with listen("127.0.0.1", port) as found:
            assert found.getsockname()[1] > port


def ids_of(town: Village, home: Any) -> Iterator[str]:
    return (name for name in (f"x{n}" for n in range(1000)) if town.home(name) is home)


async def made_at(door: str, stream_id: str) -> str:
    """Its token."""
    answer = await ask("POST", f"{door}/v1/streams/{stream_id}")
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def connecting(url: str, stream_id: str | None, token: str, **options: Any) -> AsyncStreamClient:
    return AsyncStreamClient(url, stream_id, StreamOptions(token=token, reconnect=PATIENT, **options))


def test_a_stream_that_is_too_much_for_its_member_goes_to_one_with_room(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with village(2) as town:
            first, second = town.members
            stream_id = next(ids_of(town, first))
            token = await made_at(second.membership.own_address, stream_id)
            busy = lambda model, fps, known=None: "too fast" if fps > 20 else None  # noqa: E731
            monkeypatch.setattr(first.service, "refuse_stream", busy)
            async with connecting(town.url, stream_id, token, max_fps=25) as client:
                assert client.url.startswith(f"ws{second.membership.own_address[4:]}/")
            assert len(first.service.streams) == 0

    asyncio.run(run())


def test_streams_that_come_at_once_are_all_served_while_one_member_has_room() -> None:
    async def run() -> None:
        async with village(2, max_streams=2) as town:
            first, second = town.members
            ids, real = ids_of(town, first), town.desk.claim
            door = second.membership.own_address
            tokens = {name: await made_at(door, name) for name in (next(ids) for _ in range(3))}

            async def slow(wanted: Any) -> Any:
                answer = await real(wanted)
                await asyncio.sleep(0.1)
                return answer

            town.desk.claim = slow  # type: ignore[method-assign]
            clients = [connecting(town.url, name, token) for name, token in tokens.items()]
            async with asyncio.timeout(30):
                await asyncio.gather(*(client.connect() for client in clients))
            assert (len(first.service.streams), len(second.service.streams)) == (2, 1)
            assert town.desk.directory.status()["waiting"] == 0
            for client in clients:
                await client.close()

    asyncio.run(run())


def test_a_made_stream_that_takes_the_last_place_stays_there() -> None:
    async def run() -> None:
        async with village(2, max_streams=1) as town:
            first = town.members[0]
            stream_id = next(ids_of(town, first))
            token = await made_at(first.membership.own_address, stream_id)
            await come(lambda: not town.desk.directory.status()["members"][0]["room"])
            async with connecting(town.url, stream_id, token) as client:
                assert client.url.startswith(f"ws{first.membership.own_address[4:]}/")
            assert [len(member.service.streams) for member in town.members] == [1, 0]

    asyncio.run(run())


def test_a_stream_that_is_deleted_at_its_next_member_ends_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with village(2) as town:
            first, second = town.members
            stream_id = next(ids_of(town, first))
            token = await made_at(town.url, stream_id)
            async with connecting(town.url, stream_id, token) as client:
                await client.send(image(10))
                await anext(client)
                path = f"/v1/streams/{stream_id}"
                headers = {"Authorization": f"Bearer {token}", HEADER: "1"}
                monkeypatch.setattr(second.membership, "address", lambda name: None)  # it has heard more than the first
                async with httpx.AsyncClient(trust_env=False) as http:
                    answer = await http.delete(second.membership.own_address + path, headers=headers)
                assert answer.status_code == 204
                await come(lambda: len(first.service.streams) == 0)
                assert town.desk.directory.find(stream_id) is None

    asyncio.run(run())


def test_how_long_a_stream_is_kept_holds_wherever_it_goes() -> None:
    async def run() -> None:
        async with village(2, resume_s=1.0, max_resume_s=600.0) as town:
            first, second = town.members
            stream_id = next(ids_of(town, first))
            token = await made_at(town.url, stream_id)
            client = connecting(town.url, stream_id, token, resume_s=300.0)
            assert (await client.connect()).resume_s == 300.0
            await client.close(bye=False)
            await town.remove(first)
            found = town.desk.directory.find(stream_id)
            assert found is not None
            assert town.desk.directory._entries[stream_id].claim.patience_s == 300.0
            async with connecting(town.url, stream_id, token):
                stream = second.service.streams.get(stream_id)
                assert stream is not None
                assert stream.resume_s == 300.0

    asyncio.run(run())


def test_a_member_listens_once_it_knows_the_newest_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cluster.member.HEAR_S", 0.01)
    file, asked = tmp_path / "keys", 0
    for name in ("removed", "door"):
        add_key(file, name, [Scope.INFER])
    old = file.read_text()
    remove_key(file, "removed")
    new, newest = file.read_text(), "# none\n"

    class Link(Desk):
        answer: Keys | None = None

        async def keys(self) -> Keys | None:
            nonlocal asked
            asked += 1
            if asked == 1:
                raise Unreachable("away")
            return self.answer

    async def run() -> None:
        link, engine = Link(settle_s=0.0), FakeEngine()
        engine.gate.clear()  # it is not warm for long
        member = Member(Plan({"workers": 1}, keys=Keys(1.0, old)), "127.0.0.1", link, make_registry(engine.model()))
        starting = asyncio.create_task(member.start())
        await come(lambda: asked > 3)
        assert member._serving is None
        link.answer = Keys(2.0, new)
        await come(lambda: member._server.started)
        assert member._keys_file is not None
        assert member._keys_file.read_text() == new
        link.answer = Keys(3.0, newest)
        await come(lambda: member._keys_file.read_text() == newest)  # type: ignore[union-attr]
        assert not member.membership.joined
        engine.gate.set()
        await starting
        await member.stop()
        link.close()

    asyncio.run(run())
