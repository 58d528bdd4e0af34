"""Who is in a cluster and which streams it has: counted in one place, so that limits are exact and all members agree.

Everything here is soft: members beat twice a second, and tell all they know to a directory that does not know them. One
that was started again is whole within a second or two. Clocks are given to it; it does no I/O.

Bounds: streams by what members take together, members by what beats.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from service.cluster.messages import (
    Beat,
    Claim,
    Found,
    Keys,
    Known,
    Named,
    Placed,
    Refusal,
    Refused,
    Seat,
    Table,
    Told,
    Wanted,
)
from service.cluster.rendezvous import owner

LOST_S = 5.0
"""A member that has not beaten for so long is given up; one whose process is gone is found out sooner, by a knock."""
SETTLE_S = 2.0
"""A directory that was started again hears for so long who is there, and what they have, before it says anything."""
SLEPT_S = 1.0
REFUSED_S = 5.0
"""A member that would not admit a stream is passed over for it for so long."""
_EARLY = Refused(Refusal.NO_MEMBER, "the directory has only just been started")


@dataclass
class _Member:
    beat: Beat
    slot: str
    seen: float
    heard: bool = False
    """Whether it has said all that it knows."""
    lost: list[str] = field(default_factory=list)
    deleted: list[Named] = field(default_factory=list)


@dataclass
class _Entry:
    """A stream. holder : instance of the member that has it; None: nobody, since `since`."""

    claim: Claim
    since: float
    holder: str | None = None
    slot: str | None = None
    """Where it is, if not where the hash says."""
    refused: dict[str, float] = field(default_factory=dict)
    """Instances that would not admit it, and when that was."""


class Directory:
    """clock : seconds that only grow. settle_s : as SETTLE_S. wall : seconds that the next directory goes on with"""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        settle_s: float = SETTLE_S,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._clock, self._wall = clock, wall
        self._settle_s = settle_s
        self._born = self._looked = clock()
        self._name = secrets.token_hex(4)
        self._secret = secrets.token_bytes(32)
        self._changes = 0
        self._members: dict[str, _Member] = {}  # by instance
        self._entries: dict[str, _Entry] = {}
        self._keys = Keys()

    @property
    def version(self) -> str:
        """Of the table of members and of streams that are elsewhere."""
        return f"{self._name}.{self._changes}"

    def beat(self, beat: Beat) -> Told:
        """Take a member's word, and tell it what is new."""
        member = self._members.get(beat.instance)
        if member is None:
            slot = self._slot_for(beat)
            if slot is None:
                return Told(None)
            member = self._members[beat.instance] = _Member(beat, slot, self._clock())
            self._changes += 1
        elif (member.beat.weight, member.beat.address) != (beat.weight, beat.address):
            self._changes += 1
        member.beat, member.seen = beat, self._clock()
        if beat.known is not None:
            self._learn(member, beat.known)
            member.heard = True
        return self._told(member, beat)

    def told(self, instance: str, beat: Beat) -> Told:
        """What is new by now, for a member that has beaten and waits."""
        member = self._members.get(instance)
        return Told(None) if member is None else self._told(member, beat)

    def leave(self, instance: str) -> None:
        """A member ends: its streams belong to the others."""
        member = self._members.pop(instance, None)
        if member is None:
            return
        self._changes += 1
        now = self._clock()
        for entry in self._entries.values():
            if entry.holder == instance:
                entry.holder, entry.since = None, now
            if entry.slot == member.slot:
                entry.slot = None

    def silent(self, after_s: float) -> list[Beat]:
        """The last beats of members that have not been heard of for so long."""
        now = self._clock()
        return [member.beat for member in self._members.values() if now - member.seen > after_s]

    def expire(self) -> None:
        """Give up members that are silent, and forget streams that nobody has for too long. Called often."""
        now = self._clock()
        slept_s, self._looked = now - self._looked, now
        if slept_s > SLEPT_S:  # who was away is this directory
            for member in self._members.values():
                member.seen += slept_s
        for beat in self.silent(LOST_S):
            self.leave(beat.instance)
        over = [
            stream_id
            for stream_id, entry in self._entries.items()
            if entry.holder is None and now - entry.since >= entry.claim.patience_s
        ]
        for stream_id in over:
            self._forget(stream_id)

    def claim(self, wanted: Wanted) -> Placed | Refused:
        """Count a stream, and say where it is to be opened."""
        claim, asks = wanted.claim, self._members.get(wanted.by)
        if not self._settled:
            return _EARLY
        if asks is None:
            return Refused(Refusal.NO_MEMBER, "this member is not counted now")
        entry = self._entries.get(claim.stream_id)
        if entry is not None and not wanted.holds and entry.claim != claim:  # else it has been asked twice
            return Refused(Refusal.TAKEN, f"there is a stream {claim.stream_id!r} already; use another id")
        if entry is not None and entry.claim.owner != claim.owner:
            return Refused(Refusal.FOREIGN, f"stream {claim.stream_id!r} is not of this key")
        if entry is None:
            too_many = self._too_many(claim, wanted.most_owned)
            if too_many is not None:
                return too_many
        slot = self._place(entry, wanted, asks)
        if slot is None:
            return Refused(
                Refusal.NO_ROOM, f"expected a member with room for one more stream, all {len(self)} are full"
            )
        if entry is None:
            entry = self._entries[claim.stream_id] = _Entry(claim, self._clock())
        elif claim.kept is not None or entry.claim.kept is None:
            entry.claim = claim
        if wanted.holds and not wanted.room:
            entry.refused[wanted.by] = self._clock()
        self._put(entry, slot)
        if wanted.holds and slot == asks.slot:
            self._hold(entry, wanted.by)
        elif wanted.holds and entry.holder == wanted.by:  # who asks sends it away
            entry.holder, entry.since = None, self._clock()
        return Placed(slot)

    def find(self, stream_id: str) -> Found | Refused | None:
        """A stream that is counted, whoever has it."""
        if not self._settled:
            return _EARLY
        entry = self._entries.get(stream_id)
        slot = None if entry is None else entry.slot or self._natural(stream_id)
        return None if entry is None or slot is None else Found(entry.claim.kept, slot)

    def release(
        self,
        instance: str,
        forgotten: tuple[str, ...],
        left: tuple[str, ...],
        unmade: tuple[Named, ...] = (),
        deleted: tuple[Named, ...] = (),
    ) -> None:
        """A member has streams no longer. forgotten : for good. left : others may have them, within their patience.

        unmade : their making was given up. deleted : whoever has them ends them
        """
        for stream_id in forgotten:
            entry = self._entries.get(stream_id)
            if entry is not None and entry.holder in (instance, None):
                self._forget(stream_id)
        for stream_id in left:
            entry = self._entries.get(stream_id)
            if entry is not None and entry.holder == instance:
                entry.holder, entry.since = None, self._clock()
        for named in unmade:
            entry = self._entries.get(named.stream_id)
            if entry is not None and entry.holder is None and Named.of(entry.claim) == named:
                self._forget(named.stream_id)
        for named in deleted:
            self._delete(named)

    def keys(self) -> Keys | None:
        """The newest API keys; None while members may still bring newer ones."""
        return self._keys if self._settled else None

    def change_keys(self, text: str) -> Keys | None:
        """Have members take other API keys: those, with a version; None where it is too early to say which is newer.

        Versions are this directory's alone, whatever the clock of whoever asks says.
        """
        if not self._settled:
            return None
        if not self._keys.version or text != self._keys.text:
            self._set_keys(Keys(max(self._wall(), self._keys.version + 1), text))
        return self._keys

    def status(self) -> dict[str, Any]:
        """Members and streams, for people."""
        now = self._clock()
        members = sorted(self._members.values(), key=lambda member: int(member.slot))
        return {
            "members": [
                {
                    "slot": member.slot,
                    "address": member.beat.address,
                    "weight": member.beat.weight,
                    "streams": member.beat.load.streams,
                    "live": member.beat.load.live,
                    "load": round(member.beat.load.wanted / member.beat.weight, 3),
                    "room": member.beat.load.room,
                    "version": member.beat.release,
                    "seen_s": round(now - member.seen, 2),
                }
                for member in members
            ],
            "streams": len(self._entries),
            "waiting": sum(entry.holder is None for entry in self._entries.values()),
            "elsewhere": sum(entry.slot is not None for entry in self._entries.values()),
            "directory_s": round(now - self._born, 1),
        }

    def _set_keys(self, keys: Keys) -> None:
        if keys.version > self._keys.version:
            self._keys = keys
            self._changes += 1

    def _delete(self, named: Named) -> None:
        """Forget a stream; a member that has it is told."""
        entry = self._entries.get(named.stream_id)
        if entry is None or Named.of(entry.claim) != named:
            return
        holder = None if entry.holder is None else self._members.get(entry.holder)
        if holder is not None:
            holder.deleted.append(named)
        self._forget(named.stream_id)
        self._changes += 1

    @property
    def _settled(self) -> bool:
        """Whether all that there was before it has been heard of."""
        return self._clock() - self._born >= self._settle_s

    def __len__(self) -> int:
        return len(self._members)

    def _slot_for(self, beat: Beat) -> str | None:
        """The slot that it had, or the lowest free one, so that who takes a lost member's place takes its streams too.

        None at first for one without: those that had theirs before this directory was started are heard first.
        """
        taken = {member.slot for member in self._members.values()}
        if beat.slot is not None and beat.slot not in taken:
            return beat.slot
        if beat.slot is None and not self._settled:
            return None
        return next(str(number) for number in range(len(taken) + 1) if str(number) not in taken)

    def _told(self, member: _Member, beat: Beat) -> Told:
        lost, member.lost = tuple(member.lost), []
        deleted, member.deleted = tuple(member.deleted), []
        table = None if beat.version == self.version or not self._settled else self._table()
        keys = self._keys if self._keys.version > beat.keys_version else None
        return Told(member.slot, table, not member.heard, lost, deleted, keys)

    def _table(self) -> Table:
        seats = {
            member.slot: Seat(beat.instance, beat.address, beat.weight)
            for member in self._members.values()
            for beat in (member.beat,)
        }
        elsewhere = {name: entry.slot for name, entry in self._entries.items() if entry.slot is not None}
        return Table(self.version, seats, elsewhere, self._secret)

    def _learn(self, member: _Member, known: Known) -> None:
        """What a member says that was here before this directory, or while it was not counted."""
        for claim in known.held:
            entry = self._entries.setdefault(claim.stream_id, _Entry(claim, self._clock()))
            if entry.holder is None:
                entry.holder = member.beat.instance
            elif entry.holder != member.beat.instance:
                member.lost.append(claim.stream_id)
        for claim in known.made:
            self._entries.setdefault(claim.stream_id, _Entry(claim, self._clock()))
        slots = {other.slot for other in self._members.values()}
        for stream_id, slot in known.elsewhere.items():
            entry_there = self._entries.get(stream_id)
            if entry_there is not None and slot in slots:
                self._put(entry_there, slot)
        self._set_keys(known.keys)

    def _too_many(self, claim: Claim, most_owned: int) -> Refused | None:
        if claim.owner is not None:
            owned = sum(entry.claim.owner == claim.owner for entry in self._entries.values())
            if owned >= most_owned:
                return Refused(Refusal.OWNED, f"expected at most {most_owned} streams of one key, they are all in use")
        most = sum(member.beat.load.most for member in self._members.values())
        if len(self._entries) >= most:
            return Refused(Refusal.FULL, f"expected at most {most} streams in the cluster, they are all in use")
        return None

    def _place(self, entry: _Entry | None, wanted: Wanted, asks: _Member) -> str | None:
        """The slot for a stream: where it is; one that its member would not admit goes to the next one with room."""
        stream_id, soon = wanted.claim.stream_id, self._clock() - REFUSED_S
        refused = {} if entry is None else entry.refused
        rooms = {
            member.slot: member.beat.load.room and refused.get(name, soon) <= soon
            for name, member in self._members.items()
        }
        rooms[asks.slot] = wanted.room
        slot = self._natural(stream_id) if entry is None or entry.slot is None else entry.slot
        if entry is not None and (slot != asks.slot or not wanted.holds):
            return slot
        if rooms.get(slot or "", False):
            return slot
        return owner(stream_id, self._weights(), lambda name: rooms[name])

    def _put(self, entry: _Entry, slot: str) -> None:
        elsewhere = None if slot == self._natural(entry.claim.stream_id) else slot
        if entry.slot != elsewhere:
            entry.slot = elsewhere
            self._changes += 1

    def _hold(self, entry: _Entry, instance: str) -> None:
        before = None if entry.holder is None or entry.holder == instance else self._members.get(entry.holder)
        if before is not None:
            before.lost.append(entry.claim.stream_id)
        holder = self._members[instance]
        holder.lost = [stream_id for stream_id in holder.lost if stream_id != entry.claim.stream_id]
        entry.holder = instance

    def _forget(self, stream_id: str) -> None:
        if self._entries.pop(stream_id).slot is not None:
            self._changes += 1

    def _natural(self, stream_id: str) -> str | None:
        return owner(stream_id, self._weights())

    def _weights(self) -> dict[str, float]:
        return {member.slot: member.beat.weight for member in self._members.values()}
