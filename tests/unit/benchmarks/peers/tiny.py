"""A broker of some lines on threads, for the drivers: it takes every produce, and gives what it took for fetches."""

from __future__ import annotations

import socket
import struct
import threading
from collections import defaultdict
from contextlib import suppress

from benchmarks.peers import wire


class TinyBroker(threading.Thread):
    """One topic. `refused` partitions answer with an error."""

    def __init__(self, topic: str = "t", refused: frozenset[int] = frozenset()) -> None:
        super().__init__(name="tiny-broker", daemon=True)
        self.topic = topic
        self.refused = refused
        self.batches: dict[int, list[bytes]] = defaultdict(list)  # by partition; each has one offset
        self.requests: list[list[int]] = []  # the partitions of each produce
        self.changed = threading.Condition()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.bootstrap = f"127.0.0.1:{self.listener.getsockname()[1]}"

    def run(self) -> None:
        while True:
            peer, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer: socket.socket) -> None:
        with suppress(ConnectionError), peer, peer.makefile("rb") as stream:
            while head := stream.read(4):
                request = stream.read(struct.unpack(">i", head)[0])
                key, version, correlation_id = struct.unpack_from(">hhi", request)
                answers = {wire.PRODUCE: self.produce, wire.FETCH: self.fetch, wire.LIST_OFFSETS: self.end}
                body = answers[key](version, request[10 + len(wire.client_id) :])
                peer.sendall(struct.pack(">ii", len(body) + 4, correlation_id) + body)

    def produce(self, version: int, body: bytes) -> bytes:
        at = 12 + 2 + len(self.topic)
        (count,) = struct.unpack_from(">i", body, at)
        at += 4
        answers = []
        with self.changed:
            self.requests.append([])
            for _ in range(count):
                partition, size = struct.unpack_from(">ii", body, at)
                offset = len(self.batches[partition])
                batch = struct.pack(">q", offset) + body[at + 16 : at + 8 + size]
                self.batches[partition].append(batch)
                self.requests[-1].append(partition)
                answers.append(struct.pack(">ihqq", partition, 3 if partition in self.refused else 0, offset, -1))
                at += 8 + size
            self.changed.notify_all()
        return struct.pack(">i", 1) + wire.text(self.topic) + struct.pack(">i", count) + b"".join(answers) + bytes(4)

    def end(self, version: int, body: bytes) -> bytes:
        (partition,) = struct.unpack_from(">i", body, 8 + 2 + len(self.topic) + 4)
        end = len(self.batches[partition])
        return struct.pack(">i", 1) + wire.text(self.topic) + struct.pack(">iihqq", 1, partition, 0, -1, end)

    def fetch(self, version: int, body: bytes) -> bytes:
        """Waits until there is something."""
        head = 17 + (8 if version >= 7 else 0)
        at = head + 4 + 2 + len(self.topic) + 4
        if version >= 9:
            partition, _, offset = struct.unpack_from(">iiq", body, at)
        else:
            partition, offset = struct.unpack_from(">iq", body, at)
        with self.changed:
            self.changed.wait_for(lambda: len(self.batches[partition]) > offset, 10)
            data = b"".join(self.batches[partition][offset:])
        start = struct.pack(">i", 0) + (struct.pack(">hi", 0, 0) if version >= 7 else b"")
        row = struct.pack(">iihqq", 1, partition, 0, 100, 100) + (struct.pack(">q", 0) if version >= 5 else b"")
        aborted = struct.pack(">i", 0) + (struct.pack(">i", -1) if version >= 11 else b"")
        return (
            start + struct.pack(">i", 1) + wire.text(self.topic) + row + aborted + struct.pack(">i", len(data)) + data
        )
