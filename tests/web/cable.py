"""A network cable between browser and pages that can be pulled out and put back."""

from __future__ import annotations

import asyncio
import socket
import threading


class Cable:
    """Passes what comes to a loopback port on to another; pulled out, it ends every connection and takes none."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._whole = True
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = listening.getsockname()[1]
        self._server = self._loop.run_until_complete(asyncio.start_server(self._take, sock=listening))
        self._thread = threading.Thread(target=self._loop.run_forever, name="cable")
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def pull(self) -> None:
        self._loop.call_soon_threadsafe(self._set, False)

    def mend(self) -> None:
        self._loop.call_soon_threadsafe(self._set, True)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._set, False)
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        for writer in self._open:
            writer.transport.abort()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)

    def _set(self, whole: bool) -> None:
        self._whole = whole
        if not whole:
            for writer in self._open:
                writer.transport.abort()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._whole:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, far_writer}
        self._open |= both
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        self._open -= both

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
