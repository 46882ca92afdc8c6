"""``lab.impostor``: a server that is not what it says, for the lesson about certificates.

It stands between the client and the lab's Postgres, shows a certificate of its own, and notes
what it hears. A client that checks certificates hangs up; one that only encrypts is overheard.
Only what goes from client to server is read, and that no further than to the SQL.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from engineroom.lab.endpoints import postgres_endpoint
from engineroom.lab.model import Endpoint, Server, Tenant

if TYPE_CHECKING:
    import trustme

Mode = Literal["stranger", "other_name", "no_tls", "asks_password"]
"""What is wrong with it: a stranger's certificate, the lab's for another host name, no TLS at
all, or (with a stranger's certificate) a plain question for the password."""

REMEMBERED = 200
TEXT_LIMIT = 2048
MAX_CONNECTIONS = 200

_CHUNK = 1 << 16
_GREETING_SECONDS = 20.0
_CLOSING_SECONDS = 2.0
_MAX_STARTUP = 10_000
_NAME_LIMIT = 256

_SSL_REQUEST = 80877103
_GSS_REQUEST = 80877104
_CANCEL_REQUEST = 80877102
_AUTH_CLEARTEXT = 3
_AUTH_SASL = 10

_TROUBLE = (OSError, EOFError, ValueError)
"""How a connection may end (timeouts and TLS errors are OSErrors); none is worth a word."""


class Stranger:
    """A relay with its own idea of TLS, and good ears."""

    def __init__(
        self,
        *,
        server: Server,
        tenant: Tenant,
        folder: Path,
        ca_file: Path | None,
        mode: Mode = "stranger",
        cert_file: Path | None = None,
        key_file: Path | None = None,
    ) -> None:
        if mode == "other_name" and (cert_file is None or key_file is None):
            raise ValueError("mode 'other_name' needs a certificate and its key")
        self._target = server
        self._tenant = tenant
        self._folder = folder
        self._ca_file = ca_file
        self._mode = mode
        self._cert_file = cert_file
        self._key_file = key_file
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._towards_client: ssl.SSLContext | None = None
        self._towards_server: ssl.SSLContext | None = None
        self._notes = itertools.count(1)
        self._connections = itertools.count(1)
        # Apart, so that many statements do not push out who said them.
        self._events: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
        self._statements: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)

    async def start(self) -> Endpoint:
        """Make the certificate and listen."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True, mode=0o700)
        ca_file = self._make_contexts()
        self._listener = await asyncio.start_server(self._meet, "127.0.0.1", 0, limit=_CHUNK)
        port: int = self._listener.sockets[0].getsockname()[1]
        as_server = replace(
            self._target, host="localhost", port=port, ca_file=ca_file, socket_dir=None
        )
        return postgres_endpoint(as_server, self._tenant, mode=self._mode)

    async def stop(self) -> None:
        """Stop listening, drop every connection and remove the certificate."""
        self._stopping = True
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        while self._tasks:  # one may have been accepted a moment ago
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def heard(self) -> list[dict[str, Any]]:
        """What clients said in clear, oldest first: connections, logins, passwords, SQL."""
        return sorted((*self._events, *self._statements), key=lambda note: int(note["number"]))

    # -- certificates ---------------------------------------------------------------------

    def _make_contexts(self) -> str | None:
        """Prepare both legs; the path of the CA that the client is shown."""
        if self._target.tls:
            context = ssl.create_default_context(
                cafile=str(self._ca_file) if self._ca_file else None
            )
            if self._ca_file is None:
                # A server that was given to us by URL may come without its CA.
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._towards_server = context
        if self._mode == "no_tls":
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._towards_client = context
        if self._mode == "other_name":
            assert self._cert_file is not None
            context.load_cert_chain(self._cert_file, self._key_file)
            return str(self._ca_file) if self._ca_file else None
        authority, certificate = _somebody_else()
        certificate.configure_cert(context)
        path = self._folder / "ca.pem"
        authority.cert_pem.write_to_path(path)
        return str(path)

    # -- one client -----------------------------------------------------------------------

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client, whatever it is; nothing it does reaches further than here."""
        task = asyncio.current_task()
        assert task is not None
        if self._stopping or len(self._tasks) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self._tasks.add(task)
        try:
            with contextlib.suppress(*_TROUBLE):
                await self._talk(next(self._connections), reader, writer)
            await self._close(writer)
        except asyncio.CancelledError:
            # That was stop(). Python 3.11's streams log a traceback for a cancelled handler.
            if not self._stopping:
                raise
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _talk(
        self, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._note("connected", connection)
        async with asyncio.timeout(_GREETING_SECONDS):
            packet = await self._greet(connection, reader, writer)
        if packet is None:
            return
        if _code(packet) == _CANCEL_REQUEST:
            await self._pass_cancel_on(packet)
            return
        names = _startup_parameters(packet)
        tls = writer.get_extra_info("ssl_object")
        self._note(
            "login",
            connection,
            user=names.get("user", ""),
            database=names.get("database", names.get("user", "")),
            tls=tls.version() if tls else None,
        )
        if self._mode == "asks_password":
            async with asyncio.timeout(_GREETING_SECONDS):
                await self._ask_password(connection, names.get("user", ""), reader, writer)
        else:
            await self._relay(connection, packet, reader, writer)

    async def _greet(
        self, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes | None:
        """Settle encryption and return the packet that says what the client wants."""
        for _ in range(3):  # at most: GSS? no. TLS? yes. And then the packet itself.
            length = int.from_bytes(await reader.readexactly(4))
            if not 8 <= length <= _MAX_STARTUP:
                return None
            packet = length.to_bytes(4) + await reader.readexactly(length - 4)
            code = _code(packet)
            if code == _SSL_REQUEST and self._towards_client is not None:
                writer.write(b"S")
                try:
                    await writer.start_tls(
                        self._towards_client, ssl_handshake_timeout=_GREETING_SECONDS
                    )
                except OSError:
                    self._note("hung_up", connection, text="on seeing the certificate")
                    return None
            elif code in (_SSL_REQUEST, _GSS_REQUEST):
                writer.write(b"N")
            elif code == _CANCEL_REQUEST or code >> 16 == 3:
                return packet
            else:
                return None
        return None

    async def _ask_password(
        self,
        connection: int,
        user: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Ask for the password itself, as any server may, and turn the client away."""
        writer.write(_message(b"R", _AUTH_CLEARTEXT.to_bytes(4)))
        kind, length = await _header(reader)
        if kind != b"p" or length > _MAX_STARTUP:
            return
        body = await reader.readexactly(length)
        self._note("password", connection, text=_text(body.partition(b"\0")[0]))
        writer.write(_error("28P01", f'password authentication failed for user "{user}"'))

    async def _relay(
        self,
        connection: int,
        packet: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Be the client to the real server, and pass everything on."""
        try:
            async with asyncio.timeout(_GREETING_SECONDS):
                server_reader, server_writer = await self._reach_server()
        except _TROUBLE:
            writer.write(_error("08006", "the server behind this one cannot be reached"))
            return
        try:
            server_writer.write(packet)
            encrypted = writer.get_extra_info("ssl_object") is not None
            async with asyncio.timeout(_GREETING_SECONDS):
                asked = await _pass_greeting_on(server_reader, writer, hide_binding=not encrypted)
            ear = _Ear(
                lambda what, text: self._note(what, connection, text=text),
                password=asked == _AUTH_CLEARTEXT,
            )
            ways = [
                asyncio.ensure_future(_pump(reader, server_writer, ear.listen)),
                asyncio.ensure_future(_pump(server_reader, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
            await self._close(server_writer)
        finally:
            server_writer.transport.abort()

    async def _pass_cancel_on(self, packet: bytes) -> None:
        async with asyncio.timeout(_GREETING_SECONDS):
            reader, writer = await self._reach_server()
            try:
                writer.write(packet)
                await reader.read(1)  # the server hangs up when it has acted
            finally:
                writer.transport.abort()

    async def _reach_server(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        target = self._target
        reader, writer = await asyncio.open_connection(target.host, target.port, limit=_CHUNK)
        try:
            if self._towards_server is not None:
                writer.write(_message(b"", _SSL_REQUEST.to_bytes(4)))
                if await reader.readexactly(1) != b"S":
                    raise ConnectionError("the server offers no TLS")
                await writer.start_tls(self._towards_server, server_hostname=target.host)
        except BaseException:
            writer.transport.abort()
            raise
        return reader, writer

    async def _close(self, writer: asyncio.StreamWriter) -> None:
        """Let what is written arrive, unless the other side takes too long to read it."""
        if self._stopping:
            return
        with contextlib.suppress(*_TROUBLE):
            async with asyncio.timeout(_CLOSING_SECONDS):
                writer.close()
                await writer.wait_closed()

    def _note(self, what: str, connection: int, **more: Any) -> None:
        note = {"number": next(self._notes), "connection": connection, "what": what, **more}
        (self._statements if what == "sql" else self._events).append(note)


class _Ear:
    """Reads along with what a client sends, in pieces of any size, keeping little of it."""

    def __init__(self, hear: Callable[[str, str], None], *, password: bool) -> None:
        self._hear = hear
        self._kinds = b"QPp" if password else b"QP"
        self._head = bytearray()
        self._kept = bytearray()
        self._left = 0

    def listen(self, data: bytes) -> None:
        position = 0
        while position < len(data):
            if len(self._head) < 5:
                piece = data[position : position + 5 - len(self._head)]
                self._head += piece
                position += len(piece)
                if len(self._head) < 5:
                    return
                # Less than 4 is not the protocol any more; the server will say so.
                self._left = max(0, int.from_bytes(self._head[1:]) - 4)
            piece_length = min(self._left, len(data) - position)
            if self._head[0] in self._kinds:
                room = _NAME_LIMIT + TEXT_LIMIT - len(self._kept)
                self._kept += data[position : position + min(piece_length, room)]
            position += piece_length
            self._left -= piece_length
            if self._left == 0:
                self._understand()
                self._head.clear()
                self._kept.clear()

    def _understand(self) -> None:
        match bytes(self._head[:1]):
            case b"Q":
                self._hear("sql", _text(self._kept.partition(b"\0")[0]))
            case b"P":  # a name, then the statement
                self._hear("sql", _text(self._kept.partition(b"\0")[2].partition(b"\0")[0]))
            case b"p" if self._kinds.endswith(b"p"):
                self._hear("password", _text(self._kept.partition(b"\0")[0]))


async def _pump(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    listen: Callable[[bytes], None] | None = None,
) -> None:
    """Pass on until one side ends; a slow reader slows the writer, so little is in between."""
    with contextlib.suppress(*_TROUBLE):
        while data := await reader.read(_CHUNK):
            if listen is not None:
                listen(data)  # before it is passed on: who has an answer finds it noted
            writer.write(data)
            await writer.drain()


async def _pass_greeting_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, hide_binding: bool
) -> int | None:
    """Pass the server's first words on; which kind of proof it asks the client for.

    SCRAM can be bound to the TLS connection. On a leg without TLS the offer would give us
    away (libpq: "not sane"), so we leave it out, and no client can tell.
    """
    while True:
        kind, length = await _header(reader)
        if kind not in b"RNv" or length > _MAX_STARTUP:
            # An error or a long story: no question for us to understand.
            writer.write(kind + (length + 4).to_bytes(4))
            return None
        body = await reader.readexactly(length)
        code = int.from_bytes(body[:4]) if kind == b"R" else None
        if hide_binding and code == _AUTH_SASL:
            kept = [name for name in body[4:].split(b"\0") if not name.endswith(b"-PLUS")]
            body = body[:4] + b"\0".join(kept)
        writer.write(_message(kind, body))
        if code is not None:
            return code


async def _header(reader: asyncio.StreamReader) -> tuple[bytes, int]:
    head = await reader.readexactly(5)
    length = int.from_bytes(head[1:]) - 4
    if length < 0:
        raise ValueError("a message of negative length")
    return head[:1], length


@cache
def _somebody_else() -> tuple[trustme.CA, trustme.LeafCert]:
    """A stranger and its certificate: the same one for every user of a lab, made at first use."""
    import trustme  # 80 ms, and only this lesson needs it

    authority = trustme.CA(organization_name="Somebody else entirely")
    return authority, authority.issue_cert("localhost", "127.0.0.1", "::1")


def _code(packet: bytes) -> int:
    return int.from_bytes(packet[4:8])


def _startup_parameters(packet: bytes) -> dict[str, str]:
    words = [_text(word) for word in packet[8:].split(b"\0")]
    return dict(zip(words[::2], words[1::2], strict=False))


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4) + body


def _error(code: str, text: str) -> bytes:
    fields = {"S": "FATAL", "V": "FATAL", "C": code, "M": text}
    body = "".join(f"{key}{value}\0" for key, value in fields.items())
    return _message(b"E", body.encode() + b"\0")


def _text(words: bytes | bytearray) -> str:
    return words[:TEXT_LIMIT].decode(errors="replace")
