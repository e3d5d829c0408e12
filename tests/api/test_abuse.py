"""HTTP that no client of good will speaks, against the running daemon: it is refused, and the daemon lives on."""
import os
import random
import socket
import struct
import threading
import time

import support

HOST = b"Host: localhost\r\n"


class Abuse(support.ApiTest):
    def setUp(self):
        super().setUp()
        self.daemon = self.serve()
        self.before = self.files()

    def files(self):
        return len(os.listdir(f"/proc/{self.daemon.process.pid}/fd"))

    def tearDown(self):
        """It answers, has not grown, and ends properly."""
        self.assertEqual(self.daemon.ask("GET", "/health").status, 200)
        # a sanitizer has pipes to the program that looks up names for it
        self.until(lambda: self.files() <= self.before + (2 if support.SLOW == 1 else 8))
        self.assertEqual(self.daemon.stop(), 0)
        super().tearDown()

    def one_refusal(self, data, statuses=(400,)):
        """Exactly one answer, an error, and the end of the connection: nothing behind it was taken for a request."""
        heard = self.daemon.raw(data)
        self.assertEqual(heard.count(b"HTTP/1.1 "), 1, (data[:200], heard))
        self.assertIn(int(heard.split()[1]), statuses, (data[:200], heard))
        self.assertIn(b"\r\nConnection: close\r\n", heard)

    def test_smuggled_requests_are_refused(self):
        hidden = b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"
        for data in (
            b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
            b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + hidden,
            b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n" + hidden,
            b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 44\r\nContent-Length: 44\r\n\r\n" + hidden,
            b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0, 44\r\n\r\n" + hidden,
            b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length : 44\r\n\r\n" + hidden,
            b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +44\r\n\r\n" + hidden,
            b"POST / HTTP/1.1\r\n" + HOST + b"Dummy: x\rContent-Length: 44\r\n\r\n" + hidden,
            b"POST / HTTP/1.1\r\n" + HOST + b"Dummy:\rContent-Length: 44\r\n\r\n" + hidden,
            b"POST / HTTP/1.1\r\n" + HOST + b"Dummy: x\nContent-Length: 44\r\n\r\n" + hidden,
            b"POST / HTTP/1.1\r\n" + HOST + b"Dummy: x\r\n Content-Length: 44\r\n\r\n" + hidden,
            b"POST / HTTP/1.1\r\n" + HOST + b"Dummy: x\0\r\nContent-Length: 44\r\n\r\n" + hidden,
            b"GET / HTTP/1.1\r\n" + HOST + b"\n" + hidden,
            b"GET http://localhost/health HTTP/1.1\r\n" + HOST + b"\r\n" + hidden,
            b"GET /he alth HTTP/1.1\r\n" + HOST + b"\r\n" + hidden,
            b"\0" + hidden,
        ):
            self.one_refusal(data)
        chunked = b"POST /health HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
        for data in (b"5;x\r\nhello\r\n0\r\n\r\n", b"5\nhello\r\n0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"-1\r\n", b"ffffffffffffffff1\r\n"):
            heard = self.daemon.raw(chunked + data + hidden)
            self.assertEqual(heard.count(b"HTTP/1.1 "), 1, heard)
        for coding in (b"gzip", b"gzip, chunked", b"chunked, chunked", b"xchunked", b"identity", b"chunked;q=1"):
            self.one_refusal(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: " + coding + b"\r\n\r\n0\r\n\r\n" + hidden,
                             (400, 501))  # fmt: skip

    def test_oversized_heads_and_bodies_are_refused_early(self):
        self.one_refusal(b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", (414,))
        self.one_refusal(b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 40000, (431,))
        self.one_refusal(b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: y\r\n" % i for i in range(101)) + b"\r\n", (431,))
        self.one_refusal(b"POST /health HTTP/1.1\r\n" + HOST + b"Content-Length: 999999999999\r\n\r\n", (405, 413))
        for route in self.succeed("serve", "--routes").json:
            if route["body"] == "json" and "{" not in route["pattern"]:
                head = f"{route['method']} {route['pattern']} HTTP/1.1\r\nContent-Type: application/json\r\n".encode() + HOST
                self.one_refusal(head + b"Content-Length: 999999999999\r\n\r\n", (413,))
                self.one_refusal(head + b"Content-Length: %d\r\n\r\n" % (64 * 2**20 + 1), (413,))
                break

    def test_random_bytes_and_torn_requests_do_no_harm(self):
        random.seed(7)
        good = b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        for i in range(300):
            data = bytearray(good if i % 2 else random.randbytes(random.randrange(1, 400)))
            for _ in range(random.randrange(4)):
                data[random.randrange(len(data))] = random.choice(b"\0\r\n \t:;%/\xff") if i % 3 else random.randrange(256)
            with self.daemon.connect() as connection:
                connection.sendall(bytes(data[: random.randrange(1, len(data) + 1)]))
                if i % 4 == 0:  # a reset
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def test_slow_clients_cannot_take_all_connections(self):
        """Heads that come a byte at a time are cut off, after 10 s and not before, and meanwhile others are served."""
        slow = [self.daemon.connect() for _ in range(200)]
        began = time.monotonic()
        for connection in slow:
            connection.sendall(b"GET /health HTTP/1.1\r\n")
        open_ones = set(slow)
        while open_ones and time.monotonic() - began < support.TIMEOUT:
            for connection in list(open_ones):
                try:
                    connection.sendall(b"X")
                except OSError:
                    open_ones.discard(connection)
            self.assertEqual(self.daemon.ask("GET", "/health").status, 200)
            time.sleep(0.25)
        seconds = time.monotonic() - began
        for connection in slow:
            connection.close()
        self.assertFalse(open_ones)
        self.assertGreater(seconds, 9)
        self.figure("200 slow heads are cut off after", seconds, "s", 16)

    def test_more_connections_than_there_may_be_are_told_so(self):
        """1,024 idle ones; the next hears 503 with Retry-After at once."""
        idle = []
        try:
            for _ in range(1024):
                idle.append(self.daemon.connect())
            self.best_figure("a refusal takes", self.refusal_ms, "ms", 100)
        finally:
            for connection in idle:
                connection.close()
        self.until(self.is_served)

    def refusal_ms(self):
        began = time.monotonic()
        with self.daemon.connect() as connection:
            heard = connection.makefile("rb").read()
        self.assertTrue(heard.startswith(b"HTTP/1.1 503 "), heard)
        self.assertIn(b"\r\nRetry-After: 1\r\n", heard)
        return (time.monotonic() - began) * 1e3

    def is_served(self):
        try:
            return self.daemon.ask("GET", "/health").status == 200
        except (OSError, AttributeError):
            return False

    def test_many_clients_at_once_get_their_own_answers(self):
        failures = []

        def client(number):
            try:
                with self.daemon.connect() as connection, connection.makefile("rb") as file:
                    for i in range(50):
                        name = f"c{number}-{i}"
                        connection.sendall(b"GET /health HTTP/1.1\r\n" + HOST + f"X-Request-Id: {name}\r\n\r\n".encode())
                        answer = support.read_answer(file)
                        if answer.status != 200 or answer.headers["x-request-id"] != name:
                            failures.append((name, answer))
            except OSError as problem:
                failures.append((number, problem))

        threads = [threading.Thread(target=client, args=(i,)) for i in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])


if __name__ == "__main__":
    support.main()
