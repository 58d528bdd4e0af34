"""A server's place in its cluster: what it tells the directory, and where, by what it was told, each stream belongs.

Knows nothing of how messages get there: a `Link` takes them. While the directory is away a member goes on with what it
knows; only streams that are new to it have to wait.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextvars import ContextVar
from typing import Protocol, TypeVar

from service.admission import Overloaded
from service.cluster.messages import (
    Beat,
    Claim,
    Found,
    Keys,
    Known,
    Load,
    Placed,
    Refusal,
    Refused,
    Seat,
    Table,
    Told,
    Wanted,
)
from service.cluster.rendezvous import owner as owner_of
from service.streams import NotAuthorised, StreamTaken, TooManyOwned, TooManyStreams
from service.token_store import KeptStream

log = logging.getLogger("afterimage.cluster")

THROUGH_GATEWAY: ContextVar[bool] = ContextVar("afterimage_through_gateway", default=False)
"""Whether a request came by the cluster's common address: then even a stream of this member is told its own one."""
PATIENCE_S = 2.5
"""For a directory that is away, seconds: Ray starts another one meanwhile."""
RETRY_S = 0.1
CLAIMED_S = 1.0
"""What was claimed so lately is not lost, whatever an answer says that was on its way meanwhile."""
UNOPENED_S = 30.0
"""A stream that was claimed so long ago and is not there was never opened."""
MOST_UNTOLD = 4096
ERRORS = {
    Refusal.OWNED: TooManyOwned,
    Refusal.FULL: TooManyStreams,
    Refusal.NO_ROOM: Overloaded,
    Refusal.FOREIGN: NotAuthorised,
    Refusal.TAKEN: StreamTaken,
    Refusal.NO_MEMBER: Overloaded,
}
T = TypeVar("T")


class Unreachable(RuntimeError):
    """The directory does not answer."""


class Link(Protocol):
    """The way to the directory. Each raises Unreachable."""

    async def beat(self, beat: Beat) -> Told:
        """Answered as soon as there is something new, at the latest after half a second."""

    async def leave(self, instance: str) -> None:
        """As the directory's."""

    async def claim(self, wanted: Wanted) -> Placed | Refused:
        """As the directory's."""

    async def find(self, stream_id: str) -> Found | Refused | None:
        """As the directory's."""

    async def release(self, instance: str, forgotten: tuple[str, ...], left: tuple[str, ...]) -> None:
        """As the directory's."""


class Host(Protocol):
    """The server whose place it is. Called on its event loop."""

    def load(self) -> Load:
        """What it has to do now."""

    def has(self, stream_id: str) -> bool:
        """Whether the stream is there."""

    def changed(self) -> None:
        """Other streams belong here than before."""

    def lost(self, stream_ids: Sequence[str]) -> None:
        """Another member has these by now."""

    def take_keys(self, text: str) -> None:
        """The file of API keys is another one."""


class Membership:
    """One member's `service.placement.Placement`. For one event loop.

    address : as clients reach it. probe : where it listens. weight : as in `rendezvous`. resume_s : how long a stream
    without a token is counted while nobody has it. most_owned : streams of one key. release : version of the product
    keys : API keys that it starts with. patience_s : for answers. origins : of what stands before the cluster
    secret : of the members, as last told; none before
    """

    def __init__(
        self,
        link: Link,
        address: str,
        probe: tuple[str, int],
        *,
        weight: float = 1.0,
        resume_s: float = 60.0,
        most_owned: int = 64,
        release: str = "",
        keys: Keys | None = None,
        patience_s: float = PATIENCE_S,
        origins: Collection[str] = (),
    ) -> None:
        self.instance = secrets.token_hex(8)
        self.own_address = address
        self._link = link
        self._probe, self._weight, self._release = probe, weight, release
        self._resume_s, self._most_owned = resume_s, most_owned
        self._keys = keys or Keys()
        self._patience_s = patience_s
        self._origins = tuple(origins)
        self._host: Host | None = None
        self._slot: str | None = None
        self._left = False
        self._table = Table("", {}, {})
        self.secret = b""
        self._weights: dict[str, float] = {}
        self._elsewhere: dict[str, str] = {}
        self._held: dict[str, tuple[Claim, float]] = {}
        self._made: dict[str, tuple[Claim, float]] = {}
        self._forgotten: list[str] = []
        self._vacated: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def members(self) -> int:
        """Members that share the limits on rates, this one included."""
        return max(1, len(self._weights))

    @property
    def origins(self) -> tuple[str, ...]:
        """Where pages of the cluster come from: each member, and what stands before them."""
        return (*self._origins, *(seat.address for seat in self._table.seats.values()))

    @property
    def seats(self) -> dict[str, Seat]:
        """Members by slot, as last told."""
        return dict(self._table.seats)

    @property
    def joined(self) -> bool:
        """Whether the directory counts this member, by what it last said."""
        return self._slot is not None

    def home(self, stream_id: str) -> str | None:
        """The address of the member that a stream belongs to; None: this one."""
        slot = self._elsewhere.get(stream_id)
        if slot is None or slot not in self._weights:
            slot = owner_of(stream_id, self._weights)
        if slot is None or slot == self._slot:
            return None
        return self._table.seats[slot].address

    def address(self, stream_id: str) -> str | None:
        """As `home`; by the common address even this member's own: frames are to come straight to it."""
        home = self.home(stream_id)
        return self.own_address if home is None and THROUGH_GATEWAY.get() and not self._left else home

    async def find(self, stream_id: str) -> KeptStream | None:
        """A stream with a token that any member has made. Raises Overloaded."""
        found = await self._ask(lambda: self._link.find(stream_id))
        if not isinstance(found, Found):
            return None
        self._note(stream_id, found.slot)
        return found.kept

    async def make(self, kept: KeptStream) -> None:
        """Count a stream that was made here, wherever it belongs."""
        claim = Claim(kept.id, kept.owner, kept, max(kept.resume_s, self._resume_s))
        now = time.monotonic()
        self._made = {name: made for name, made in self._made.items() if made[1] > now}
        await self._claim(claim, holds=False)
        self._made[kept.id] = claim, now + claim.patience_s

    async def claim(self, stream_id: str, owner: str | None, kept: KeptStream | None) -> None:
        """Count a stream that is to be opened here; one that is counted may be opened while the directory is away."""
        patience_s = self._resume_s if kept is None else max(kept.resume_s, self._resume_s)
        claim = Claim(stream_id, owner, kept, patience_s)
        await self._claim(claim, holds=True)

    def release(self, stream_id: str) -> None:
        """The stream is forgotten here for good: have it counted no longer, unless another member has it."""
        held = self._held.pop(stream_id, None) is not None
        if (held or self.home(stream_id) is None) and not self._left:
            self._made.pop(stream_id, None)
            self._forgotten.append(stream_id)
            self._later(self._send_released())

    def leave(self, stream_id: str) -> None:
        """The stream was sent to the member that it belongs to, which may have claimed it by now."""
        if self._held.pop(stream_id, None) is not None and not self._left:
            self._vacated.append(stream_id)
            self._later(self._send_released())

    async def run(self, host: Host) -> None:
        """Join, and beat until cancelled."""
        self._host, refill = host, False
        away = False
        while True:
            known = self._known() if refill else None
            try:
                told = await self._link.beat(self._beat(host.load(), known))
            except Unreachable as error:
                if not away:
                    log.warning("the directory is away, going on with what is known: %s", error)
                away = True
                await asyncio.sleep(RETRY_S)
                continue
            if away:
                log.info("the directory is back")
            away, refill = False, told.refill
            self._take(host, told)
            self._tidy(host)
            if told.slot is None:
                await asyncio.sleep(RETRY_S)

    async def quit(self) -> None:
        """Belong to the cluster no longer: every stream belongs to others, where there are any."""
        self._left = True
        slot, self._slot = self._slot, None
        seats = {name: seat for name, seat in self._table.seats.items() if name != slot}
        self._use(Table("", seats, {s: n for s, n in self._elsewhere.items() if n != slot}))
        try:
            await self._link.leave(self.instance)
        except Unreachable as error:
            log.warning("the directory was not told that this member leaves: %s", error)

    def _take(self, host: Host, told: Told) -> None:
        slot = (
            self._slot if told.slot is None else told.slot
        )  # one that was given up keeps its own until it has another
        moved, self._slot = slot != self._slot, slot
        if told.table is not None:
            moved |= self._use(told.table)
            self.secret = told.table.secret
        if told.keys is not None:
            self._keys = told.keys
            host.take_keys(told.keys.text)
        recent = time.monotonic() - CLAIMED_S
        lost = [stream_id for stream_id in told.lost if stream_id in self._held and self._held[stream_id][1] < recent]
        for stream_id in lost:
            del self._held[stream_id]
        if lost:
            host.lost(lost)
        if moved:
            log.info("member %s of %d", self._slot, len(self._weights))
            host.changed()

    def _use(self, table: Table) -> bool:
        """Take a table; whether streams may belong elsewhere by it."""
        before = self._table.seats, self._elsewhere
        self._table = table
        self._weights = {slot: seat.weight for slot, seat in table.seats.items()}
        self._elsewhere = dict(table.elsewhere)
        return before != (table.seats, self._elsewhere)

    def _note(self, stream_id: str, slot: str) -> None:
        """Where the directory says that a stream is, ahead of the next table."""
        if slot == owner_of(stream_id, self._weights):
            self._elsewhere.pop(stream_id, None)
        else:
            self._elsewhere[stream_id] = slot

    async def _claim(self, claim: Claim, *, holds: bool) -> None:
        room = self._host is None or self._host.load().room
        wanted = Wanted(claim, self.instance, holds, room, self._most_owned)
        patience_s = 0.0 if claim.stream_id in self._held else self._patience_s
        try:
            answer = await self._ask(lambda: self._link.claim(wanted), patience_s)
        except Overloaded:
            if claim.stream_id in self._held:
                return
            raise
        if isinstance(answer, Refused):
            raise ERRORS[answer.why](answer.detail)
        self._note(claim.stream_id, answer.slot)
        if holds and answer.slot == self._slot:
            self._held[claim.stream_id] = claim, time.monotonic()
            self._made.pop(claim.stream_id, None)

    async def _ask(self, call: Callable[[], Awaitable[T]], patience_s: float | None = None) -> T:
        """An answer of the directory, once it counts this member. Raises Overloaded where none comes for too long."""
        until = time.monotonic() + (self._patience_s if patience_s is None else patience_s)
        while True:
            try:
                answer = await call()
                if not isinstance(answer, Refused) or answer.why is not Refusal.NO_MEMBER:
                    return answer
                reason = answer.detail
            except Unreachable as error:
                reason = f"the cluster's directory does not answer: {error}"
            if time.monotonic() >= until:
                raise Overloaded(reason)
            await asyncio.sleep(RETRY_S)

    def _beat(self, load: Load, known: Known | None) -> Beat:
        return Beat(
            self.instance, self._slot, self.own_address, self._probe, self._weight, load,
            self._table.version, self._keys.version, self._release, known,
        )  # fmt: skip

    def _known(self) -> Known:
        now = time.monotonic()
        made = tuple(claim for claim, until in self._made.values() if until > now)
        held = tuple(claim for claim, _ in self._held.values())
        return Known(held, made, dict(self._elsewhere), self._keys)

    def _tidy(self, host: Host) -> None:
        """Tell again what could not be told, and leave what was claimed and never opened."""
        before = time.monotonic() - UNOPENED_S
        for stream_id in [name for name, (_, at) in self._held.items() if at < before and not host.has(name)]:
            self.leave(stream_id)
        if self._forgotten or self._vacated:
            self._later(self._send_released())

    async def _send_released(self) -> None:
        forgotten, self._forgotten = tuple(self._forgotten), []
        left, self._vacated = tuple(self._vacated), []
        if not forgotten and not left:
            return
        try:
            await self._link.release(self.instance, forgotten, left)
        except Unreachable:
            self._forgotten = [*forgotten, *self._forgotten][-MOST_UNTOLD:]
            self._vacated = [*left, *self._vacated][-MOST_UNTOLD:]

    def _later(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        task = asyncio.get_running_loop().create_task(run(), name="afterimage-release")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
