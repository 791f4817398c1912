"""The connection between a simulated client and a simulated server: bytes that arrive in pieces, late or never."""

from __future__ import annotations

from pubsub.protocol.frames import CLOSE, FIN, FIN_TEXT, PING, PONG
from tests.client.simulated_server import Life
from tests.harness import masked_frame, take_frame
from tests.simulation import Transport

LOST = 1006  # the close code for a connection that ended without a close frame


class Link:
    """See the module. ``closed``: the close code, once the client has read it or noticed the end.

    ``silent``: nothing passes any more, and no side notices that.
    """

    def __init__(self, life: Life, transport: Transport) -> None:
        self.life = life
        self.silent = False
        self.closed: tuple[int, str] | None = None
        self._transport = transport
        self._unsent = bytearray()
        self._received = bytearray()

    def send(self, text: str) -> None:
        """Take a text message of the client; :meth:`move_up` lets it arrive."""
        self._unsent += masked_frame(FIN_TEXT, text.encode())

    def send_close(self, code: int) -> None:
        self._unsent += masked_frame(FIN | CLOSE, code.to_bytes(2))

    @property
    def is_quiet(self) -> bool:
        """True if nothing is under way, as far as the network knows."""
        return self.silent or not (self._unsent or self._transport.get_write_buffer_size())

    def move_up(self, size: int) -> None:
        """Let some bytes of the client arrive, if the server reads."""
        if not self.silent and self._transport.reading and not self._transport.closing and self._unsent:
            sent = bytes(self._unsent[:size])
            del self._unsent[:size]
            self._transport.connection.data_received(sent)

    def move_down(self, size: int) -> list[str]:
        """Let some bytes of the server arrive; return the texts that are complete now."""
        if self.silent or self.closed is not None:
            return []
        self._received += self._transport.drain(size)
        texts: list[str] = []
        while self.closed is None and (frame := take_frame(self._received)) is not None:
            first, payload = frame
            if first == FIN_TEXT:
                texts.append(payload.decode())
            elif first == FIN | PING:
                self._unsent += masked_frame(FIN | PONG, payload)
            elif first == FIN | CLOSE:
                self.closed = int.from_bytes(payload[:2]), payload[2:].decode()
        if self.closed is None and self._transport.lost:
            self.closed = LOST, ""
        return texts

    def cut(self, *, server_notices: bool) -> None:
        """End the connection for the client. ``server_notices`` False: it waits for signs of life."""
        self.closed = self.closed or (LOST, "")
        if server_notices:
            self.vanish()

    def vanish(self) -> None:
        """End the connection for the server, unless it is dead itself."""
        if self.life.alive and not self._transport.lost:
            self._transport.vanish()
