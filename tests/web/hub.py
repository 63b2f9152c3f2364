"""A FHIRcast hub for tests: HTTP for subscriptions, a WebSocket per subscriber, the published messages.

The example messages are those of HL7 FHIRcast 3.0.0 (sections 2.4, 2.5, 2.9, 3.2.1, 3.5, 3.6), which HL7
placed under CC0; they are spoken word for word, malformed hours included.
"""

from __future__ import annotations

import contextlib
import copy
import json
import queue
import secrets
import socket
import threading
from collections.abc import Collection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

serve = pytest.importorskip("websockets.sync.server").serve

TOPIC = "fdb2f928-5546-4f52-87a0-0648e9ded065"
STUDY_UID = "1.2.840.83474.8.231.875.3.15.661594731"
ACCESSION = "GH339884"

STUDY = {
    "resourceType": "ImagingStudy",
    "id": "e25c1d31-20a2-41f8-8d85-fe2fdeac74fd",
    "identifier": [
        {"system": "urn:dicom:uid", "value": "urn:oid:1.2.840.83474.8.231.875.3.15.661594731"},
        {
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]},
            "system": "urn:oid:2.16.840.1.113883.19.5",
            "value": "GH339884",
            "assigner": {
                "reference": "Organization/a92ac1be-fb34-49c1-be58-10928bd271cc",
                "display": "My Healthcare Provider",
            },
        },
    ],
    "status": "unknown",
    "subject": {"reference": "Patient/503824b8-fe8c-4227-b061-7181ba6c3926"},
}
PATIENT = {
    "resourceType": "Patient",
    "id": "503824b8-fe8c-4227-b061-7181ba6c3926",
    "identifier": [
        {
            "use": "official",
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]},
            "system": "urn:oid:2.16.840.1.113883.19.5",
            "value": "4438001",
            "assigner": {
                "reference": "Organization/a92ac1be-fb34-49c1-be58-10928bd271cc",
                "display": "My Healthcare Provider",
            },
        }
    ],
}
IMAGING_STUDY_OPEN: dict[str, Any] = {
    "timestamp": "2023-04-01T011:03:04.08",
    "id": "bfbe806f-7f94-47bc-b6b8-4c0cf4d4ef7d",
    "event": {
        "hub.topic": TOPIC,
        "hub.event": "ImagingStudy-open",
        "context": [{"key": "study", "resource": STUDY}, {"key": "patient", "resource": PATIENT}],
    },
}
IMAGING_STUDY_CLOSE = {
    "timestamp": "2023-04-01T011:13:12.42",
    "id": "bccaeba4-494a-459b-adf3-be0cf29dd2a0",
    "event": {
        "hub.topic": TOPIC,
        "hub.event": "ImagingStudy-close",
        "context": [{"key": "study", "resource": STUDY}, {"key": "patient", "resource": PATIENT}],
    },
}
REPORT = {
    "resourceType": "DiagnosticReport",
    "id": "2402d3bd-e988-414b-b7f2-4322e86c9327",
    "identifier": [
        {
            "use": "official",
            "system": "http://myhealthcare.example.org/reporting-system",
            "value": "GH339884.RPT.0001",
        }
    ],
    "status": "unknown",
    "subject": {"reference": "Patient/503824b8-fe8c-4227-b061-7181ba6c3926"},
    "study": [{"reference": "ImagingStudy/e25c1d31-20a2-41f8-8d85-fe2fdeac74fd"}],
}
REPORT_STUDY = {
    "resourceType": "ImagingStudy",
    "id": "e25c1d31-20a2-41f8-8d85-fe2fdeac74fd",
    "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.999.840.83474.8.231.875.3.15.661594731"}],
    "status": "unknown",
    "subject": {"reference": "Patient/503824b8-fe8c-4227-b061-7181ba6c3926"},
    "basedOn": [
        {
            "type": "ServiceRequest",
            "identifier": {
                "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]},
                "system": "urn:oid:2.999.16.840.1.113883.19.5",
                "value": "GH339884",
                "assigner": {
                    "reference": "Organization/a92ac1be-fb34-49c1-be58-10928bd271cc",
                    "display": "My Healthcare Provider",
                },
            },
        }
    ],
}
DIAGNOSTIC_REPORT_OPEN = {
    "timestamp": "2023-04-01T011:14:24.31",
    "id": "6930b943-39fc-447f-8099-92d17650a375",
    "event": {
        "hub.topic": TOPIC,
        "hub.event": "DiagnosticReport-open",
        "context.versionId": "b9574cb0-e9e5-4be1-8957-5fcb51ef33c1",
        "context": [
            {"key": "report", "resource": REPORT},
            {"key": "study", "resource": REPORT_STUDY},
            {"key": "patient", "resource": PATIENT},
        ],
    },
}
STU1_OPEN = {
    "timestamp": "2018-01-08T01:37:05.14",
    "id": "q9v3jubddqt63n1",
    "event": {
        "hub.topic": "https://hub.example.com/7jaa86kgdudewiaq0wtu",
        "hub.event": "imagingstudy-open",
        "context": [
            {
                "key": "study",
                "resource": {
                    "resourceType": "ImagingStudy",
                    "id": "8i7tbu6fby5ftfbku6fniuf",
                    "uid": "urn:oid:2.16.124.113543.6003.1154777499.30246.19789.3503430045",
                    "identifier": [{"system": "7678", "value": "185444"}],
                    "patient": {"reference": "Patient/ewUbXT9RWEbSj5wPEdgRaBw3"},
                },
            }
        ],
    },
}
SYNC_ERROR = {
    "timestamp": "2018-01-08T01:37:05.14",
    "id": "q9v3jubddqt63n1",
    "event": {
        "hub.topic": TOPIC,
        "hub.event": "syncerror",
        "context": [
            {
                "key": "operationoutcome",
                "resource": {
                    "resourceType": "OperationOutcome",
                    "issue": [
                        {
                            "severity": "warning",
                            "code": "processing",
                            "diagnostics": "Acme Product failed to follow context",
                        }
                    ],
                },
            }
        ],
    },
}
CONFIRMATION = {
    "hub.mode": "subscribe",
    "hub.topic": TOPIC,
    "hub.events": "patient-open,patient-close",
    "hub.lease_seconds": 7200,
}
DENIAL = {
    "hub.mode": "denied",
    "hub.topic": "fba7b1e2-53e9-40aa-883a-2af57ab4e2c",
    "hub.events": "patient-open,patient-close",
    "hub.reason": "session unexpectedly stopped",
}
REPLY = {"id": "q9v3jubddqt63n1", "status": "200"}


def told(name: str, number: int, context: Any = ()) -> dict[str, Any]:
    """An event without a study, such as ``Home-open``, `number` seconds after the published one."""
    stamp = f"2023-04-01T12:{number // 60:02}:{number % 60:02}.00Z"
    event = {"hub.topic": TOPIC, "hub.event": name, "context": list(context)}
    return {"timestamp": stamp, "id": f"event-{name}-{number}", "event": event}


HEARTBEAT = {
    "timestamp": "2021-05-19T10:24:58.614989800Z",
    "id": "sdkasldkals;610101498614",
    "event": {"context": [{"key": "period", "decimal": "10"}], "hub.topic": TOPIC, "hub.event": "Heartbeat"},
}


def open_event(uid: str, number: int, *, verb: str = "open", kind: str = "ImagingStudy") -> dict[str, Any]:
    """The published event for another study, `number` seconds after the published one."""
    message = copy.deepcopy(IMAGING_STUDY_OPEN)
    message["timestamp"] = f"2023-04-01T12:{number // 60:02}:{number % 60:02}.00Z"
    message["id"] = f"event-{kind}-{verb}-{number}-{uid}"
    message["event"]["hub.event"] = f"{kind}-{verb}"
    study = message["event"]["context"][0]["resource"]
    study["identifier"] = [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}]
    return message


class Relay:
    """Carries bytes between a subscriber and a hub until it is frozen: then neither hears anything any more."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.flows = threading.Event()
        self.flows.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                there = socket.create_connection(("127.0.0.1", self._target))
                for one, other in ((here, there), (there, here)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                self.flows.wait()
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.flows.set()
        self._listener.close()


class Hub:
    """A hub on loopback; ``requests`` are the forms it got, ``replies`` what subscribers answered.

    `knows` are the only events for which it takes subscriptions (None: any); `relay` makes its sockets go through
    one that can be frozen.  After :meth:`kill` another one may start on the same ``port``.
    """

    def __init__(
        self,
        lease_s: int = 7200,
        context: dict[str, Any] | None = None,
        *,
        knows: Collection[str] | None = None,
        denies: bool = False,
        relay: bool = False,
        port: int = 0,
    ) -> None:
        self.lease_s = lease_s
        self.knows = knows
        self.denies = denies
        self.context = context
        self.open_event: dict[str, Any] | None = None
        self.requests: list[dict[str, str]] = []
        self.tokens: list[str | None] = []
        self.replies: queue.Queue[dict[str, Any]] = queue.Queue()
        self.sockets: list[Any] = []
        self._endpoints: dict[str, dict[str, str]] = {}
        self._ws = serve(self._socket, "127.0.0.1", 0)
        self.relay = Relay(self._ws.socket.getsockname()[1]) if relay else None
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.headers["content-type"] == "application/x-www-form-urlencoded"
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                form = {k: v[0] for k, v in parse_qs(body).items()}
                hub.requests.append(form)
                hub.tokens.append(self.headers["authorization"])
                asked = set(form.get("hub.events", "").split(",")) - {""}
                if hub.knows is not None and not asked <= set(hub.knows) and not hub.denies:
                    self.answer(400, {"error": "unknown event"})
                    return
                endpoint = form.get("hub.channel.endpoint") or hub.new_endpoint(form)
                self.answer(202, {"hub.channel.endpoint": endpoint})

            def do_GET(self) -> None:
                self.answer(200, hub.context or {"context.type": "", "context": []})

            def answer(self, status: int, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                """Tests are quiet."""

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = int(self._http.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}/hub"
        for server in (self._ws, self._http):
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def new_endpoint(self, form: dict[str, str]) -> str:
        name = secrets.token_urlsafe(16)
        self._endpoints[f"/{name}"] = form
        port = self.relay.port if self.relay is not None else self._ws.socket.getsockname()[1]
        return f"ws://127.0.0.1:{port}/{name}"

    def _socket(self, socket: Any) -> None:
        form = self._endpoints[socket.request.path]
        if self.denies and self.knows is not None and not set(form["hub.events"].split(",")) <= set(self.knows):
            reason = {
                "hub.topic": form["hub.topic"],
                "hub.events": form["hub.events"],
                "hub.reason": "unknown event",
            }
            socket.send(json.dumps({**DENIAL, **reason}))
            return
        confirmation = {
            **CONFIRMATION,
            "hub.topic": form["hub.topic"],
            "hub.events": form["hub.events"],
            "hub.lease_seconds": self.lease_s,
        }
        socket.send(json.dumps(confirmation))
        if self.open_event is not None:
            socket.send(json.dumps(self.open_event))
        self.sockets.append(socket)
        for text in socket:
            self.replies.put(json.loads(text))

    def say(self, message: dict[str, Any]) -> None:
        """Send one message to every subscriber."""
        for subscriber in list(self.sockets):
            subscriber.send(json.dumps(message))

    def cut(self) -> None:
        """Break every connection."""
        sockets, self.sockets = self.sockets, []
        for subscriber in sockets:
            subscriber.socket.close()

    def kill(self) -> None:
        """End as a process does that is killed: every connection breaks, and nobody listens any more."""
        self.cut()
        self.close()

    def close(self) -> None:
        if self.relay is not None:
            self.relay.close()
        self._ws.shutdown()
        self._http.shutdown()
        self._http.server_close()
