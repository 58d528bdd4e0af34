"""`python -m benchmarks.cluster`: a cluster of its own under load; a member is killed, others come and go.

Frames carry their identity (`benchmarks.soak.identity`), so that a result that answers another frame is noticed. Needs
root and iproute2: Ray listens on all interfaces, and is started in a network namespace alone, with nothing but
loopback. Exit status 1 where it did not show what it must.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.cluster_course import COMMON, Answer, Course, Watched, enough, is_at, judge, latency, share, unserved
from benchmarks.soak import identity
from benchmarks.soak.report import Report
from clients.python import AsyncStreamClient, FrameRefused, FrameResult, FramesLost, Reconnect, StreamOptions
from clients.wire import Policy
from service.keys import Scope, add_key

PATIENT = Reconnect(attempts=200, maximum_s=1.0)
INSIDE = "BENCHMARK_INSIDE"
SETTLED_S = 240.0
"""For what Ray does: on a busy machine a process takes a minute to come."""


async def stream(watched: Watched, fps: float, done: asyncio.Event) -> None:
    """Send until done, whatever becomes of the members; then wait for what is due."""
    # a machine that is busy with Ray makes frames late, which is no reason to give a connection up
    options = StreamOptions(
        policy=Policy.ALL, token=watched.token, reconnect=PATIENT, ack_timeout_s=SETTLED_S, ping_s=None
    )
    try:
        async with AsyncStreamClient(COMMON, watched.stream_id, options) as client:
            reader = asyncio.create_task(read(client, watched))
            number = 0
            while not done.is_set() and not reader.done():
                image, begun = identity.frame(watched.number, number + 1), time.monotonic()
                seq = await client.try_send(image, number + 1)
                if seq is not None:
                    number += 1
                    watched.sent[seq], watched.sent_at[seq] = number, begun
                await asyncio.sleep(1 / fps)
            until = time.monotonic() + 20.0
            while client.unacked and time.monotonic() < until and not reader.done():
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.1)  # the last event is given out after its frame is settled
            watched.moves, watched.reconnections = client.moves, client.reconnections
            watched.dropped = client.server_dropped
            reader.cancel()
            (outcome,) = await asyncio.gather(reader, return_exceptions=True)
            if isinstance(outcome, Exception):
                raise outcome
    except Exception as error:
        watched.error = f"{type(error).__name__}: {error}"


async def read(client: AsyncStreamClient, watched: Watched) -> None:
    async for event in client:
        if isinstance(event, FrameResult):
            identity.check(event.result, watched.number, event.result.capture_ts_us)
            watched.answered.add(event.seq)
            decision = str(event.result.decision)
            watched.results.append(Answer(time.monotonic(), client.url, decision, event.round_trip_ms, event.seq))
        elif isinstance(event, FramesLost):
            watched.lost.update(event.seqs)
            watched.breaks += 1
        elif isinstance(event, FrameRefused):
            watched.refused.append(f"{event.code}: {event.detail}")


class Cluster:
    """`afterimage cluster`, and what the figures are read from."""

    def __init__(self, folder: Path) -> None:
        os.environ["AFTERIMAGE_CLUSTER"] = str(folder / "cluster.json")
        self._control: Any = None
        self._address = ""

    def run(self, *words: str) -> float:
        """The command; seconds that it took. Raises RuntimeError with what it said."""
        begun = time.monotonic()
        command = [sys.executable, "-m", "service.cli", "cluster", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode != 0:
            raise RuntimeError(f"cluster {words[0]}: {done.stderr[-2000:] or done.stdout[-2000:]}")
        return time.monotonic() - begun

    def status(self) -> dict[str, Any]:
        """As `cluster status --json`, without starting a process."""
        if self._control is None:
            from service.cluster.note import environment, read_note

            note = read_note()
            assert note is not None
            os.environ.update(environment(note.token_file))
            from service.cluster import control

            self._control, self._address = control, note.address
        told = self._control.status(self._address)
        assert isinstance(told, dict)
        return told

    def scale(self, members: int) -> None:
        """As `cluster scale`."""
        self._control.scale(members, self._address)

    def members(self) -> list[str]:
        """Addresses, in the order of their slots."""
        return list(self.slots().values())

    def slots(self) -> dict[str, str]:
        """Addresses by slot."""
        return {member["slot"]: member["address"] for member in self.status()["members"]}

    def kill_directory(self) -> float:
        """Have its process die; seconds until Ray's next one knows all streams again."""
        before, begun = self.status(), time.monotonic()
        import ray  # after the environment is as it is to find it

        with self._control.connected(self._address):
            ray.kill(ray.get_actor(self._control.DIRECTORY, namespace=self._control.NAMESPACE), no_restart=False)
        while time.monotonic() - begun < SETTLED_S:
            now = before
            with suppress(RuntimeError):  # it is away
                now = self.status()
            whole = all(now[what] == before[what] for what in ("streams", "waiting"))
            whole &= len(now["members"]) == len(before["members"])
            if now["directory_s"] < before["directory_s"] and whole:
                slots = [{m["slot"]: m["address"] for m in told["members"]} for told in (before, now)]
                if slots[0] != slots[1]:
                    raise AssertionError(f"members have other slots: {slots}")
                return time.monotonic() - begun
            time.sleep(0.2)
        raise RuntimeError("the directory does not come back")


def listener(address: str) -> int:
    """The process that listens at an address."""
    port = address.rpartition(":")[2]
    said = subprocess.run(["ss", "-ltnpH", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"pid=(\d+)", said)
    if found is None:
        raise RuntimeError(f"nothing listens at {address}")
    return int(found[1])


def make_stream(base: str, key: str) -> tuple[int, dict[str, Any]]:
    """POST /v1/streams: status and body."""
    request = urllib.request.Request(f"{base}/v1/streams", method="POST", headers={"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


async def until(condition: Callable[[], bool], what: str) -> float:
    """Seconds until a condition holds."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > SETTLED_S:
            raise RuntimeError(f"it never came to this: {what}")
        await asyncio.sleep(0.05)
    return time.monotonic() - begun


async def members(cluster: Cluster, wanted: int, other_than: str = "") -> float:
    """Seconds until there are so many members; a status costs a moment."""
    begun = time.monotonic()
    while True:
        now = await asyncio.to_thread(cluster.members)
        if len(now) == wanted and other_than not in now:
            return time.monotonic() - begun
        if time.monotonic() - begun > SETTLED_S:
            raise RuntimeError(f"expected {wanted} members, there are {now}")
        await asyncio.sleep(0.2)


async def load(
    cluster: Cluster, watched: list[Watched], key: str, fps: float, seconds: float
) -> tuple[Course, dict[str, Any]]:
    """The whole course of things, and its figures."""
    done, marks = asyncio.Event(), {"begun": time.monotonic()}
    tasks = [asyncio.create_task(stream(one, fps, done)) for one in watched]
    figures: dict[str, Any] = {}

    def all_since(mark: float) -> Callable[[], bool]:
        return lambda: all(one.error or (one.results and one.results[-1].at > mark) for one in watched)

    try:
        await until(all_since(marks["begun"]), "every stream has a result")
        await asyncio.sleep(seconds)
        figures["directory_back_s"] = round(await asyncio.to_thread(cluster.kill_directory), 1)
        figures["moved_by_a_new_directory"] = sum(len(one.places) - 1 for one in watched)
        addresses = await asyncio.to_thread(cluster.members)
        refused = [await asyncio.to_thread(make_stream, base, key) for base in (COMMON, *addresses)]
        figures["one_too_many"] = [status for status, _ in refused]
        there = {place: sum(is_at(place, one.results[-1]) for one in watched) for place in addresses}
        figures["streams_by_member"] = sorted(there.values())
        victim = max(there, key=lambda place: there[place])
        process = await asyncio.to_thread(listener, victim)
        course = Course(victim, time.monotonic())
        marks["killed"] = course.killed_at
        os.kill(process, signal.SIGKILL)
        await until(
            lambda: all(one.error or one.back_at(course) < math.inf for one in watched),
            "every stream has a result after the kill",
        )
        figures["moved_after_kill_s"] = [
            round(one.back_at(course) - course.killed_at, 2)
            for one in watched
            if not one.error and one.was_at(victim, course.killed_at)
        ]
        marks["over"] = time.monotonic()
        figures["replaced_s"] = round(await members(cluster, len(addresses), victim), 1)
        await asyncio.sleep(seconds)
        before, more = await asyncio.to_thread(cluster.members), enough(watched, len(addresses))
        await asyncio.to_thread(cluster.scale, more)
        figures["added"] = more - len(addresses)
        figures["added_s"] = round(await members(cluster, more), 1)
        course.share = share(watched, await asyncio.to_thread(cluster.slots), before)
        await until(
            lambda: any(one.error for one in watched) or not unserved(watched, course),
            "members that were added answer their streams",
        )
        await asyncio.sleep(seconds)
        await asyncio.to_thread(cluster.scale, len(addresses))
        await members(cluster, len(addresses))
        marks["scaled"] = time.monotonic()
        await asyncio.sleep(seconds)
        await until(all_since(marks["scaled"]), "every stream has a result after the last change")
    finally:
        done.set()
        await asyncio.gather(*tasks)
    figures["latency_ms"] = {
        name: latency(watched, first, last)
        for name, first, last in (
            ("before", marks["begun"], marks["killed"]),
            ("moving", marks["killed"], marks["over"]),
            ("after", marks["over"], time.monotonic()),
        )
    }
    return course, figures


def inside(streams: int, replicas: int, fps: float, seconds: float) -> Report:
    """All of it, in the namespace that this process is in."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = identity.write_model(folder)
        key = add_key(folder / "keys", "door", [Scope.INFER])
        cluster = Cluster(folder)
        up_s = cluster.run(
            "up", str(model), "--replicas", str(replicas), "--workers", "1", "--keys", str(folder / "keys"),
            "--set", f"max_streams_per_key={streams}", "--set", "drain_s=3", "--set", "admission=false",
        )  # fmt: skip
        try:
            made = [make_stream(COMMON, key) for _ in range(streams)]
            wrong = [body for status, body in made if status != 201]
            if wrong:
                raise RuntimeError(f"a stream cannot be made: {wrong[0]}")
            watched = [Watched(n, body["stream_id"], body["token"]) for n, (_, body) in enumerate(made)]
            course, figures = asyncio.run(load(cluster, watched, key, fps, seconds))
        finally:
            down_s = cluster.run("down")
        return judge(watched, course, {"up_s": round(up_s, 1), "down_s": round(down_s, 1), **figures})


@contextmanager
def namespace() -> Iterator[str]:
    """A network that is loopback alone; gone at the end."""
    name = f"afterimage-cluster-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False)


def main(
    streams: Annotated[int, typer.Option(help="Streams of one key.")] = 12,
    replicas: Annotated[int, typer.Option(help="Members at the start.")] = 3,
    fps: Annotated[float, typer.Option(help="Frames a second of each stream.")] = 5.0,
    seconds: Annotated[float, typer.Option(help="Between one event and the next.")] = 15.0,
    output: Annotated[Path | None, typer.Option("--json", help="Write all figures here.")] = None,
) -> None:
    """Three members, one killed, one added, one removed, under load; prints what was shown."""
    if os.environ.get(INSIDE) != "1":
        with namespace() as name:
            command = ["ip", "netns", "exec", name, sys.executable, "-m", "benchmarks.cluster", *sys.argv[1:]]
            raise typer.Exit(subprocess.run(command, env=os.environ | {INSIDE: "1"}, check=False).returncode)
    report = inside(streams, replicas, fps, seconds)
    print(json.dumps(report.as_dict(), indent=1))
    if output is not None:
        output.write_text(json.dumps(report.as_dict(), indent=1))
    raise typer.Exit(not report.passed)


if __name__ == "__main__":
    typer.run(main)
