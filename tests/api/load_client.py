"""Many streams from one thread: hundreds of clients that cost the machine little, so that the daemon has it.

A Crowd keeps `at_once` requests open, reads what comes without looking at it, and hands each complete answer to a function.
"""
import io
import json
import selectors
import socket
import time

import support


class Stream:
    """One request on a connection of its own, and what has come of it."""

    def __init__(self, daemon, target, body, key=None, receive_bytes=0, headers=()):
        self.key, self.data, self.began, self.first = key, [], time.monotonic(), None
        text = json.dumps(body).encode()
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers).encode()
        self.socket = socket.socket()
        if receive_bytes:  # before it connects, so that the window is small from the beginning
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(support.TIMEOUT)
        self.socket.connect(("127.0.0.1", daemon.port))
        self.socket.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
                            b"Content-Length: %d\r\n%s\r\n" % (target.encode(), len(text), lines) + text)  # fmt: skip

    def read(self, n=1 << 18):
        """Whether there is more to come."""
        part = self.socket.recv(n)
        if part:
            self.first = self.first or time.monotonic()
            self.data.append(part)
        return bool(part)

    def read_all(self):
        while self.read():
            pass
        return self.end()

    def end(self):
        self.close()
        self.seconds = time.monotonic() - self.began
        return support.read_answer(io.BytesIO(b"".join(self.data)))

    def close(self):
        self.socket.close()


class Crowd:
    def __init__(self, daemon, target="/v1/completions"):
        self.daemon, self.target = daemon, target
        self.selector, self.open = selectors.DefaultSelector(), set()

    def start(self, body, key=None):
        stream = Stream(self.daemon, self.target, body, key)
        stream.socket.setblocking(False)
        self.selector.register(stream.socket, selectors.EVENT_READ, stream)
        self.open.add(stream)
        return stream

    def leave(self, stream):
        self.selector.unregister(stream.socket)
        self.open.discard(stream)
        stream.close()

    def poll(self, timeout, on_answer):
        """Reads what has come; calls on_answer(stream, answer) for whatever is complete."""
        for ready, _ in self.selector.select(timeout):
            stream = ready.data
            if stream not in self.open or stream.read():
                continue
            self.selector.unregister(stream.socket)
            self.open.discard(stream)
            on_answer(stream, stream.end())

    def run(self, bodies, at_once, on_answer):
        """Every one of `bodies`, pairs of a key and a body, `at_once` at a time."""
        bodies = iter(bodies)
        more = True
        while more or self.open:
            while more and len(self.open) < at_once:
                pair = next(bodies, None)
                more = pair is not None
                if more:
                    self.start(pair[1], pair[0])
            self.poll(1, on_answer)


def texts(answer):
    """The text and the finish reason of each choice. A stream must end properly: one reason for each choice, nothing behind
    it, [DONE]."""
    if answer.headers["content-type"].startswith("application/json"):
        return [(c["text"] if "text" in c else c["message"]["content"], c["finish_reason"]) for c in answer.json["choices"]]
    events = [e[6:] for e in answer.body.decode().split("\n\n") if e]
    assert events[-1] == "[DONE]", events[-1]
    found, reasons = {}, {}
    for event in map(json.loads, events[:-1]):
        for c in event["choices"]:
            i = c["index"]
            assert i not in reasons, "something came behind the finish reason"
            found.setdefault(i, []).append(c["text"] if "text" in c else c["delta"].get("content") or "")
            if c["finish_reason"]:
                reasons[i] = c["finish_reason"]
    assert set(found) == set(reasons), (set(found), reasons)
    return [("".join(found[i]), reasons[i]) for i in sorted(found)]
