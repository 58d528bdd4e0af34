"""A server's place in its cluster: what it tells the directory, and where, by what it was told, each stream belongs.

Knows nothing of how messages get there: a `Link` takes them. While the directory is away a member goes on with what it
knows; only streams that are new to it have to wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
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
    Named,
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
UNTAKEN_S = 1.0
"""Before API keys that could not be kept are told again."""
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
K = TypeVar("K", bound=Hashable)
_Untold = dict[K, object]
"""What the directory has not heard yet; each has a mark of its own, anew where it comes to be once more."""


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

    async def release(
        self,
        instance: str,
        forgotten: tuple[str, ...],
        left: tuple[str, ...],
        unmade: tuple[Named, ...],
        deleted: tuple[Named, ...],
    ) -> None:
        """As the directory's."""

    async def keys(self) -> Keys | None:
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

    def deleted(self, stream_ids: Sequence[str]) -> None:
        """Somebody has deleted these at another member."""

    def take_keys(self, text: str) -> bool:
        """The file of API keys is another one; False where that is to be told again."""


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
        self._unsure: dict[str, Claim] = {}  # asked for, and no answer came
        self._forgotten: _Untold[str] = {}
        self._vacated: _Untold[str] = {}
        self._unmade: _Untold[Named] = {}
        self._deleted: _Untold[Named] = {}
        self._telling = self._untaken = False
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

    async def make(self, kept: KeptStream, room: bool | None = None) -> None:
        """Count a stream that was made here, wherever it belongs."""
        claim = Claim(kept.id, kept.owner, kept, max(kept.resume_s, self._resume_s))
        now = time.monotonic()
        self._made = {name: made for name, made in self._made.items() if made[1] > now}
        await self._claim(claim, holds=False, room=room)
        self._made[kept.id] = claim, now + claim.patience_s

    async def claim(self, stream_id: str, owner: str | None, kept: KeptStream | None, room: bool | None = None) -> None:
        """Count a stream that is to be opened here; one that is counted may be opened while the directory is away."""
        patience_s = self._resume_s if kept is None else max(kept.resume_s, self._resume_s)
        claim = Claim(stream_id, owner, kept, patience_s)
        await self._claim(claim, holds=True, room=room)

    def release(self, stream_id: str) -> None:
        """The stream is forgotten here for good: have it counted no longer, unless another member has it."""
        held = self._held.pop(stream_id, None) is not None
        if (held or self.home(stream_id) is None) and not self._left:
            self._made.pop(stream_id, None)
            self._tell(self._forgotten, stream_id)

    def leave(self, stream_id: str) -> None:
        """The stream was sent to the member that it belongs to, which may have claimed it by now."""
        if self._held.pop(stream_id, None) is not None and not self._left:
            self._tell(self._vacated, stream_id)

    def delete(self, stream_id: str, kept: KeptStream | None) -> None:
        """The stream was deleted here: another member that has it is told."""
        self._made.pop(stream_id, None)
        self._tell(self._deleted, Named(stream_id, None if kept is None else kept.token))

    async def hear_keys(self, take: Callable[[str], bool]) -> bool:
        """Take the directory's API keys, where they are newer, before this member beats; False: ask once more."""
        try:
            keys = await self._link.keys()
        except Unreachable as error:
            log.warning("the directory does not say which API keys there are: %s", error)
            return False
        if keys is not None and keys.version > self._keys.version:
            if not take(keys.text):
                return False
            self._keys = keys
        return keys is not None

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
            if told.slot is None or self._untaken:
                await asyncio.sleep(RETRY_S if told.slot is None else UNTAKEN_S)

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
        self._untaken = told.keys is not None and not host.take_keys(told.keys.text)
        if told.keys is not None and not self._untaken:
            self._keys = told.keys
        recent = time.monotonic() - CLAIMED_S
        lost = [stream_id for stream_id in told.lost if stream_id in self._held and self._held[stream_id][1] < recent]
        for stream_id in lost:
            del self._held[stream_id]
        if lost:
            host.lost(lost)
        ended = [named.stream_id for named in told.deleted if self._is_held(named)]
        if ended:
            host.deleted(ended)
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

    async def _claim(self, claim: Claim, *, holds: bool, room: bool | None) -> None:
        """Ask for a stream, and note what was answered. room : whether it would be admitted here; None: by the load"""
        stream_id, host = claim.stream_id, self._host
        if room is None:
            room = host is None or host.has(stream_id) or host.load().room
        wanted = Wanted(claim, self.instance, holds, room, self._most_owned)
        held, unsure = stream_id in self._held, self._unsure.pop(stream_id, None)
        untold = [kind for kind in (self._forgotten, self._vacated) if kind.pop(stream_id, None) is not None]
        try:
            answer = await self._ask(lambda: self._link.claim(wanted), 0.0 if held else self._patience_s)
        except BaseException as error:  # it may be counted all the same
            if held and isinstance(error, Overloaded):
                return
            for kind in untold:
                self._tell(kind, stream_id)
            if not holds:
                self._tell(self._unmade, Named.of(claim))
            if unsure is not None or (holds and not held):
                self._unsure[stream_id] = claim if holds or unsure is None else unsure
            raise
        if isinstance(answer, Refused):
            for kind in untold if unsure is None else [*untold, self._vacated]:
                self._tell(kind, stream_id)
            raise ERRORS[answer.why](answer.detail)
        self._note(stream_id, answer.slot)
        if holds and answer.slot == self._slot:
            self._held[stream_id] = claim, time.monotonic()
            self._made.pop(stream_id, None)
        elif holds:
            self._held.pop(stream_id, None)

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
        for stream_id, claim in list(self._unsure.items()):
            del self._unsure[stream_id]
            if host.has(stream_id):
                self._later(self._claim_again(claim))
            elif stream_id not in self._held:
                self._tell(self._vacated, stream_id)
        self._later(self._send_untold())

    async def _claim_again(self, claim: Claim) -> None:
        """Of a stream that was opened while nobody answered."""
        with contextlib.suppress(RuntimeError):  # as `claim` raises
            await self._claim(claim, holds=True, room=True)

    def _is_held(self, named: Named) -> bool:
        held = self._held.get(named.stream_id)
        return held is not None and Named.of(held[0]) == named

    def _tell(self, kind: _Untold[K], what: K) -> None:
        """Have the directory told, now and until it has heard."""
        kind.pop(what, None)
        kind[what] = object()
        while len(kind) > MOST_UNTOLD:
            del kind[next(iter(kind))]
        self._later(self._send_untold())

    async def _send_untold(self) -> None:
        """One message at a time; what is claimed again meanwhile is taken out, and what cannot be told is kept."""
        if self._telling:
            return
        self._telling = True
        try:
            while self._forgotten or self._vacated or self._unmade or self._deleted:
                forgotten, left = dict(self._forgotten), dict(self._vacated)
                unmade, deleted = dict(self._unmade), dict(self._deleted)
                await self._link.release(self.instance, tuple(forgotten), tuple(left), tuple(unmade), tuple(deleted))
                _told(self._forgotten, forgotten)
                _told(self._vacated, left)
                _told(self._unmade, unmade)
                _told(self._deleted, deleted)
        except Unreachable:
            pass  # with a beat that is answered again
        finally:
            self._telling = False

    def _later(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        task = asyncio.get_running_loop().create_task(run(), name="afterimage-release")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _told(untold: _Untold[K], heard: _Untold[K]) -> None:
    for what, mark in heard.items():
        if untold.get(what) is mark:
            del untold[what]
