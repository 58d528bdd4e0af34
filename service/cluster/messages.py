"""What members and their directory tell each other: plain values, pickled on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from service.token_store import KeptStream


class Refusal(StrEnum):
    """Why a stream is not counted."""

    OWNED = "owned"  # its key has as many as it may
    FULL = "full"  # the cluster has as many as it may
    NO_ROOM = "no_room"  # no member would admit another one
    FOREIGN = "foreign"  # it is another key's
    TAKEN = "taken"  # it was to be made, and there is one of its id
    NO_MEMBER = "no_member"  # who asks was given up, and is about to come back; or nobody is there


@dataclass(frozen=True)
class Load:
    """What a member has to do.

    live : streams with a connection. wanted : workers' time that streams want, in workers. room : whether it would
    admit another stream. most : streams that it takes
    """

    streams: int = 0
    live: int = 0
    wanted: float = 0.0
    room: bool = True
    most: int = 1


@dataclass(frozen=True)
class Claim:
    """A stream that is counted.

    owner : name of its key. kept : where it has a token. patience_s : how long it is counted while no member has it,
    seconds
    """

    stream_id: str
    owner: str | None
    kept: KeptStream | None
    patience_s: float


@dataclass(frozen=True)
class Named:
    """One stream among all that have had its id. token : hash of its token, where it has one"""

    stream_id: str
    token: str | None

    @classmethod
    def of(cls, claim: Claim) -> Named:
        """The stream of a claim."""
        return cls(claim.stream_id, None if claim.kept is None else claim.kept.token)


@dataclass(frozen=True)
class Keys:
    """A file of API keys. version : grows with each change; 0: there are none."""

    version: float = 0.0
    text: str = ""


@dataclass(frozen=True)
class Known:
    """All that a member knows, for a directory that has forgotten it.

    held : streams that it has. made : those that it made and that nobody has had yet. elsewhere : as in `Table`
    """

    held: tuple[Claim, ...] = ()
    made: tuple[Claim, ...] = ()
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    keys: Keys = field(default_factory=Keys)


@dataclass(frozen=True)
class Beat:
    """A member is alive. instance : names its process for ever. slot : as last told; None: it has none yet.

    address : as clients reach it, such as http://10.0.0.7:8100. probe : where it listens, host and port.
    version : of the table that it has. keys_version : of its keys. release : version of the product. known : where it
    was asked for
    """

    instance: str
    slot: str | None
    address: str
    probe: tuple[str, int]
    weight: float
    load: Load
    version: str = ""
    keys_version: float = 0.0
    release: str = ""
    known: Known | None = None


@dataclass(frozen=True)
class Seat:
    """A member, as the others see it."""

    instance: str
    address: str
    weight: float


@dataclass(frozen=True)
class Table:
    """Who is there. seats : by slot. elsewhere : streams that are not where the hash says, and their slots.

    secret : of the members, for what they pass on to each other
    """

    version: str
    seats: Mapping[str, Seat]
    elsewhere: Mapping[str, str]
    secret: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Told:
    """The answer to a beat. slot : None: come again. table, keys : where they are newer. refill : say all you know.

    lost : streams of this member that another one has by now. deleted : those that somebody has deleted elsewhere
    """

    slot: str | None
    table: Table | None = None
    refill: bool = False
    lost: tuple[str, ...] = ()
    deleted: tuple[Named, ...] = ()
    keys: Keys | None = None


@dataclass(frozen=True)
class Wanted:
    """A stream is to be counted.

    by : instance of the member that asks. holds : it is to be opened there; else it was made there, and is to be opened
    wherever it belongs. room : whether that member would admit it, or has it. most_owned : streams of a key, at most
    """

    claim: Claim
    by: str
    holds: bool
    room: bool
    most_owned: int


@dataclass(frozen=True)
class Placed:
    """Where a stream is to be opened."""

    slot: str


@dataclass(frozen=True)
class Refused:
    """It is not counted, and why."""

    why: Refusal
    detail: str


@dataclass(frozen=True)
class Found:
    """A stream that some member made or has, and where it is to be opened."""

    kept: KeptStream | None
    slot: str
