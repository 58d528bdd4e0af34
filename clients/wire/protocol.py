"""The two ends of a connection as state machines that do no I/O: phases, sequence numbers, credits, acks.

An end is fed whole WebSocket messages and says what to send. It never sleeps, never reads a clock and never
touches a socket; whoever owns the socket does.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

import msgspec

from .binary import MAX_SEQ, Flags, FrameMessage, Op, decode_frame, encode_frame
from .errors import ErrorCode, WireError
from .handshake import Encoding
from .messages import (
    Bye,
    ClientMessage,
    Draining,
    ErrorMessage,
    Hello,
    Moved,
    Ready,
    Result,
    ServerMessage,
    decode_client_message,
    decode_server_message,
    encode_message,
)

_LOOSE = 64
"""Settled frames that a server remembers behind one that is not settled yet, before they are merged."""


class Phase(Enum):
    """Where a connection stands."""

    NEW = auto()  # nothing said
    GREETING = auto()  # hello said, ready awaited
    OPEN = auto()  # frames and results
    DRAINING = auto()  # results may still come, frames may not be sent
    MOVED = auto()  # the same; the stream goes on elsewhere
    CLOSED = auto()


_TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.NEW: frozenset({Phase.GREETING, Phase.CLOSED}),
    Phase.GREETING: frozenset({Phase.OPEN, Phase.DRAINING, Phase.MOVED, Phase.CLOSED}),
    Phase.OPEN: frozenset({Phase.DRAINING, Phase.MOVED, Phase.CLOSED}),
    Phase.DRAINING: frozenset({Phase.DRAINING, Phase.MOVED, Phase.CLOSED}),
    Phase.MOVED: frozenset({Phase.MOVED, Phase.CLOSED}),
    Phase.CLOSED: frozenset({Phase.NEW, Phase.CLOSED}),
}


class ClientProtocol:
    """The client's end: says hello, numbers frames, spends credits and reads results.

    One object lives through reconnections: `connection_lost` then `hello` again; sequence numbers go on, and
    the resume token of the last `ready` is offered.
    """

    def __init__(self, hello: Hello, encoding: Encoding = Encoding.JSON) -> None:
        self._hello = hello
        self._encoding = encoding
        self._phase = Phase.NEW
        self._unacked: deque[int] = deque()
        self._last_seq = 0
        self._answered: set[int] = set()  # of those unacked, which have their result or refusal
        self.ready: Ready | None = None
        self.resume_token: str | None = hello.resume

    @property
    def phase(self) -> Phase:
        """Where the connection stands."""
        return self._phase

    @property
    def encoding(self) -> Encoding:
        """Encoding of the structured messages."""
        return self._encoding

    @property
    def unacked(self) -> int:
        """Frames sent and not yet settled by an ack."""
        return len(self._unacked)

    @property
    def credits(self) -> int:
        """How many frames may be sent now."""
        if self._phase is not Phase.OPEN or self.ready is None:
            return 0
        return max(0, self.ready.window - len(self._unacked))

    def hello(self) -> str | bytes:
        """The first message to send on a fresh connection, with the resume token where there is one."""
        self._go(Phase.GREETING)
        message = msgspec.structs.replace(self._hello, resume=self.resume_token)
        return encode_message(message, self._encoding)

    def frame(self, payload: bytes, capture_ts_us: int, *, reset: bool = False, op: Op = Op.IMAGE) -> tuple[int, bytes]:
        """Number an encoded image, or (op 3) tiles; returns its seq and the message to send.

        WireError when there is no credit, when the connection is not open, when the message would be larger
        than the server takes, or when the numbers are used up (a reconnection starts them afresh); and for tiles
        where the server does not offer them.
        """
        if self._phase is not Phase.OPEN or self.ready is None:
            raise WireError(ErrorCode.HELLO_EXPECTED, f"expected an open connection, it is {self._phase.name}")
        if not self.credits:
            raise WireError(
                ErrorCode.OVERLOADED,
                f"expected fewer than {self.ready.window} frames unacked, got {self.unacked}",
            )
        if op is not Op.IMAGE and (op is not Op.TILES or self.ready.tiles is None):
            raise WireError(ErrorCode.UNKNOWN_OP, f"expected an op that this server takes, got {int(op)}")
        seq = self._last_seq + 1
        flags = Flags.RESET if reset else Flags.NONE
        data = encode_frame(FrameMessage(op, flags, seq, capture_ts_us, payload))
        if len(data) > self.ready.limits.max_message_bytes:
            raise WireError(
                ErrorCode.MESSAGE_TOO_LARGE,
                f"expected at most {self.ready.limits.max_message_bytes} bytes, got {len(data)}",
                seq,
            )
        self._last_seq = seq
        self._unacked.append(seq)
        return seq, data

    def receive(self, data: str | bytes) -> ServerMessage | FrameMessage:
        """Take one message of the server; WireError for one that breaks the protocol."""
        if isinstance(data, bytes) and self._is_frame(data):
            frame = decode_frame(data)
            if frame.op is not Op.ANNOTATED:
                raise WireError(ErrorCode.UNKNOWN_OP, f"expected op 2 from a server, got {int(frame.op)}", frame.seq)
            self._expect_open("a frame")
            return frame
        message = decode_server_message(data, self._encoding)
        if isinstance(message, Ready):
            self._go(Phase.OPEN)
            self.ready = message
            self.resume_token = message.resume
        elif isinstance(message, Draining):
            self._go(Phase.MOVED if self._phase is Phase.MOVED else Phase.DRAINING)
        elif isinstance(message, Moved):
            if self._phase is Phase.MOVED:
                raise WireError(ErrorCode.BAD_MESSAGE, "expected one move, got another")
            self._go(Phase.MOVED)
        elif isinstance(message, ErrorMessage):
            if message.seq is not None:
                self._answer(message.seq)
            if message.ack is not None:
                self._acked(message.ack)
        else:
            self._expect_open("a result or an ack")
            if isinstance(message, Result):
                self._answer(message.seq)
            self._acked(message.ack)
        return message

    def bye(self) -> str | bytes:
        """The last message to send: no more frames will follow."""
        self._go(Phase.DRAINING)
        return encode_message(Bye(), self._encoding)

    def connection_lost(self) -> tuple[int, ...]:
        """The connection is gone: returns the frames that will get no result; another hello may follow."""
        self._go(Phase.CLOSED)
        lost = tuple(seq for seq in self._unacked if seq not in self._answered)
        self._unacked.clear()
        self._answered.clear()
        if self._last_seq > MAX_SEQ // 2:
            self._last_seq = 0
        self._go(Phase.NEW)
        return lost

    def _is_frame(self, data: bytes) -> bool:
        # A msgpack map starts at 0x80 or above; a header starts with the version.
        return self._encoding is Encoding.JSON or (len(data) > 0 and data[0] < 0x80)

    def _expect_open(self, what: str) -> None:
        if self._phase not in (Phase.OPEN, Phase.DRAINING, Phase.MOVED):
            raise WireError(ErrorCode.BAD_MESSAGE, f"expected ready before {what}, it is {self._phase.name}")

    def _answer(self, seq: int) -> None:
        """WireError unless frame `seq` is under way and not answered yet."""
        if seq not in self._unacked or seq in self._answered:
            raise WireError(ErrorCode.BAD_SEQ, f"expected an answer to a frame under way, got one to {seq}")
        self._answered.add(seq)

    def _acked(self, ack: int) -> None:
        if ack > self._last_seq:
            raise WireError(ErrorCode.BAD_SEQ, f"expected an ack of at most {self._last_seq}, got {ack}")
        while self._unacked and self._unacked[0] <= ack:
            self._answered.discard(self._unacked.popleft())

    def _go(self, phase: Phase) -> None:
        if phase not in _TRANSITIONS[self._phase]:
            raise WireError(
                ErrorCode.BAD_MESSAGE, f"{phase.name} does not follow {self._phase.name}: message out of turn"
            )
        self._phase = phase


class ServerProtocol:
    """The server's end: checks what comes in, orders it, and works out the cumulative ack."""

    def __init__(self, encoding: Encoding, *, window: int, max_message_bytes: int) -> None:
        self._encoding = encoding
        self._window = window
        self._max_message_bytes = max_message_bytes
        self._phase = Phase.NEW
        self._last_seq = 0
        self._ack = 0
        self._settled: dict[int, bool] = {}  # in order of arrival; True where settled out of order; bounded by _merge
        self._ops: tuple[Op, ...] = (Op.IMAGE,)
        self.hello: Hello | None = None

    @property
    def phase(self) -> Phase:
        """Where the connection stands."""
        return self._phase

    @property
    def encoding(self) -> Encoding:
        """Encoding of the structured messages."""
        return self._encoding

    @property
    def ack(self) -> int:
        """Every frame up to this one is settled; 0 before the first."""
        return self._ack

    @property
    def unsettled(self) -> int:
        """Frames received whose result, drop or refusal is still to come."""
        return sum(not settled for settled in self._settled.values())

    @property
    def waiting(self) -> tuple[int, ...]:
        """The numbers of those frames."""
        return tuple(seq for seq, settled in self._settled.items() if not settled)

    def receive(self, data: str | bytes) -> ClientMessage | FrameMessage:
        """Take one message of the client.

        WireError for one that breaks the protocol; where it carries a `seq`, that frame is already settled
        and the error message to send acknowledges it (`refusal`).
        """
        if len(data) > self._max_message_bytes:
            raise WireError(
                ErrorCode.MESSAGE_TOO_LARGE,
                f"expected at most {self._max_message_bytes} bytes, got {len(data)}",
            )
        if not data:
            raise WireError(ErrorCode.EMPTY_MESSAGE, "expected a message, got 0 bytes")
        if isinstance(data, str) or (self._encoding is Encoding.MSGPACK and data[0] >= 0x80):
            return self._receive_message(data)
        return self._receive_frame(data)

    def opened(self, *, tiles: bool = False) -> None:
        """`ready` is being sent: frames may come, and where it offers tiles those too."""
        self._go(Phase.OPEN)
        self._ops = (Op.IMAGE, Op.TILES) if tiles else (Op.IMAGE,)

    def draining(self) -> None:
        """`draining` is being sent: frames that still come are refused."""
        self._go(Phase.DRAINING)

    def settle(self, seq: int) -> int:
        """Frame `seq` is computed, dropped or refused; returns the cumulative ack after that.

        A sequence number that never came or is settled already changes nothing.
        """
        if self._settled.get(seq) is False:
            self._settled[seq] = True
        while self._settled:
            first = next(iter(self._settled))
            if not self._settled[first]:
                break
            del self._settled[first]
            self._ack = first
        return self._ack

    def refusal(self, error: WireError) -> ErrorMessage:
        """The error message for a WireError of `receive`."""
        seq = error.seq
        return ErrorMessage(
            code=error.code.value, detail=error.detail, seq=seq, ack=self._ack if seq is not None else None
        )

    def encode(self, message: ServerMessage) -> str | bytes:
        """`message` in this connection's encoding: str is a text message, bytes a binary one."""
        return encode_message(message, self._encoding)

    def _receive_message(self, data: str | bytes) -> ClientMessage:
        message = decode_client_message(data, self._encoding)
        if isinstance(message, Bye):
            if self._phase is not Phase.OPEN:
                raise WireError(ErrorCode.HELLO_EXPECTED, f"expected no bye in phase {self._phase.name}")
            self._go(Phase.DRAINING)
            return message
        if self._phase is not Phase.NEW:
            raise WireError(ErrorCode.HELLO_REPEATED, "expected hello once, at the start of the connection")
        self._go(Phase.GREETING)
        self.hello = message
        return message

    def _receive_frame(self, data: bytes) -> FrameMessage:
        if self._phase is not Phase.OPEN:
            raise WireError(ErrorCode.HELLO_EXPECTED, f"expected no frame in phase {self._phase.name}")
        try:
            frame = decode_frame(data)
            if frame.op not in self._ops:
                taken = " or ".join(str(int(op)) for op in self._ops)
                raise WireError(
                    ErrorCode.UNKNOWN_OP, f"expected op {taken} from this client, got {int(frame.op)}", frame.seq
                )
        except WireError as error:
            if error.seq is not None and error.seq > self._last_seq:
                self._arrived(error.seq)
                self.settle(error.seq)
            raise
        if frame.seq <= self._last_seq:
            raise WireError(ErrorCode.BAD_SEQ, f"expected seq above {self._last_seq}, got {frame.seq}", frame.seq)
        self._arrived(frame.seq)
        return frame

    def _arrived(self, seq: int) -> None:
        self._last_seq = seq
        self._settled[seq] = False
        if len(self._settled) > 2 * self._window + _LOOSE:
            self._merge()

    def _merge(self) -> None:
        """Keep the last of each run of settled frames: what a client sends beyond its credits is not remembered."""
        kept: dict[int, bool] = {}
        last = 0
        for seq, settled in self._settled.items():
            if settled and kept.get(last):
                del kept[last]
            kept[seq], last = settled, seq
        self._settled = kept

    def _go(self, phase: Phase) -> None:
        if phase not in _TRANSITIONS[self._phase]:
            raise RuntimeError(f"{phase.name} does not follow {self._phase.name}")
        self._phase = phase
