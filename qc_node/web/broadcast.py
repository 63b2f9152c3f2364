"""From any thread to any number of open pages: server-sent events without a message bus."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool

HEARTBEAT_S = 10.0
"""A stream that is silent for so long sends ``beat``, so that a page knows that it is not cut off."""
QUEUE = 64
MAX_SUBSCRIBERS = 1000

Message = tuple[str, Mapping[str, Any]]
First = Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None


class Full(Exception):
    """Too many pages are open."""


class Broadcaster:
    """Named channels; a page that cannot keep up loses its oldest messages, never its newest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Queue[Message | None]]]] = {}
        self._closed = False

    def publish(self, channel: str, event: str, data: Mapping[str, Any]) -> int:
        """Send to every page on `channel`, from any thread; returns how many there are."""
        with self._lock:
            subscribers = list(self._open.get(channel, ()))
        for loop, queue in subscribers:
            try:
                loop.call_soon_threadsafe(_put, queue, (event, data))
            except RuntimeError:
                continue  # that page's loop has just ended; its subscription goes with it
        return len(subscribers)

    def subscribers(self) -> int:
        """How many pages listen."""
        with self._lock:
            return sum(len(s) for s in self._open.values())

    def open_channels(self) -> list[str]:
        """Channels that pages listen to."""
        with self._lock:
            return list(self._open)

    def close(self) -> None:
        """End every stream, so that a stopping server need not wait for its pages."""
        with self._lock:
            self._closed = True
            everyone = [s for group in self._open.values() for s in group]
        for loop, queue in everyone:
            try:
                loop.call_soon_threadsafe(_put, queue, None)
            except RuntimeError:
                continue

    async def stream(self, *channels: str, first: First = None) -> AsyncIterator[str]:
        """Server-sent events of some channels (WHATWG HTML, section 9.2), with the event ``beat`` in silence.

        `first` is sent at once as the event ``hello``: a page that comes back after a cut has all it needs.  A
        function is called in a thread, after the page has subscribed: what changes meanwhile is sent as well.

        Raises
        ------
        Full
            1,000 pages are open already.
        """
        queue: asyncio.Queue[Message | None] = asyncio.Queue(QUEUE)
        entry = (asyncio.get_running_loop(), queue)
        with self._lock:
            if self._closed or sum(len(s) for s in self._open.values()) >= MAX_SUBSCRIBERS:
                raise Full
            for channel in channels:
                self._open.setdefault(channel, set()).add(entry)
        try:
            yield "retry: 1000\n\n"
            if first is not None:
                yield frame("hello", await run_in_threadpool(first) if callable(first) else first)
            while True:
                try:
                    message = await asyncio.wait_for(queue.get(), HEARTBEAT_S)
                except TimeoutError:
                    yield frame("beat", {})
                    continue
                if message is None:
                    return
                yield frame(*message)
        finally:
            with self._lock:
                for channel in channels:
                    group = self._open.get(channel)
                    if group is not None:
                        group.discard(entry)
                        if not group:
                            del self._open[channel]


def frame(event: str, data: Mapping[str, Any]) -> str:
    """One server-sent event; JSON holds no raw line break, so data is one line."""
    return f"event: {event}\ndata: {json.dumps(data)}\n\n"


def _put(queue: asyncio.Queue[Message | None], message: Message | None) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(message)
