"""What the tests of the UI's API share: calls that check every answer against /openapi.json, and event streams."""
import json
import re
import struct
import threading

import support


class Schema:
    """A small JSON Schema of its own, so that the daemon's is not judged by itself."""

    TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "object": dict, "array": list,
             "null": type(None)}  # fmt: skip

    def __init__(self, document):
        self.document = document

    def check(self, schema, value, at="answer"):
        if "$ref" in schema:
            schema = self.document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        if "anyOf" in schema:
            problems = []
            for one in schema["anyOf"]:
                try:
                    self.check(one, value, at)
                    break
                except AssertionError as problem:
                    problems.append(str(problem))
            else:
                raise AssertionError(problems)
        types = schema.get("type", list(self.TYPES))
        types = [types] if isinstance(types, str) else types
        fits = [t for t in types if isinstance(value, self.TYPES[t]) and not (isinstance(value, bool) and t != "boolean")]
        assert fits, f"{at}: {value!r} is none of {types}"
        assert value in schema.get("enum", [value]), f"{at}: {value!r}"
        assert value == schema.get("const", value), f"{at}: {value!r}"
        if isinstance(value, dict):
            for name in schema.get("required", []):
                assert name in value, f"{at}: {name} is missing: {value}"
            known = schema.get("properties", {})
            for name, member in value.items():
                if name in known:
                    self.check(known[name], member, f"{at}.{name}")
                else:  # an answer tells nothing that is not described
                    assert not known or schema.get("additionalProperties") not in (None, False), f"{at}: {name} is not described"
        if isinstance(value, list):
            for i, item in enumerate(value):
                self.check(schema.get("items", {}), item, f"{at}[{i}]")


class Events:
    """A stream of server-sent events on a connection of its own, read on a thread."""

    def __init__(self, daemon, target, headers=(), slow=0):
        self.events, self.ended, self.told = [], False, threading.Condition()
        self.connection = daemon.connect()
        lines = [f"GET {target} HTTP/1.1", "Host: localhost", "Accept: text/event-stream",
                 *[f"{n}: {v}" for n, v in headers]]
        self.connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        self.file = self.connection.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.head = {}
        while (line := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            self.head[name.lower()] = value.strip()
        self.slow = slow
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        text = b""
        try:
            while size := int(self.file.readline() or b"0", 16):
                data = self.file.read(size)
                self.file.readline()
                text += data
                while b"\n\n" in text:
                    event, text = text.split(b"\n\n", 1)
                    self._take(event.decode())
                    if self.slow:
                        support.time.sleep(self.slow)
        except (OSError, ValueError):
            pass
        with self.told:
            self.ended = True
            self.told.notify_all()

    def _take(self, text):
        fields = {}
        for line in text.split("\n"):
            name, _, value = line.partition(":")
            if name:
                fields[name] = value[1:]
        if "data" in fields:
            with self.told:
                self.events.append((fields.get("id"), fields.get("event"), json.loads(fields["data"])))
                self.told.notify_all()

    def wait(self, condition, timeout=support.TIMEOUT):
        """Until condition(events) is true, or the stream has ended."""
        end = support.time.monotonic() + timeout
        with self.told:
            while not condition(self.events):
                left = end - support.time.monotonic()
                if self.ended or left <= 0:
                    raise AssertionError(f"it did not come (ended: {self.ended}): {self.events[-5:]}")
                self.told.wait(left)
            return list(self.events)

    def wait_end(self, timeout=support.TIMEOUT):
        with self.told:
            end = support.time.monotonic() + timeout
            while not self.ended and support.time.monotonic() < end:
                self.told.wait(end - support.time.monotonic())
            assert self.ended, "the stream did not end"
            return list(self.events)

    def numbered(self):
        """The generation's own events, which are numbered."""
        with self.told:
            return [data for _, _, data in self.events if "type" in data]

    def close(self):
        try:
            self.connection.shutdown(2)
        except OSError:
            pass
        self.thread.join()
        self.file.close()
        self.connection.close()


CONTEXT = 16384


def long_model():
    """The tiny Qwen 2 with room for long answers: its file says that its context is longer. Made once a process."""
    path = support.os.path.join(support.tiny_models(), "long", "qwen2.gguf")
    if support.os.path.exists(path):
        return path
    with open(support.os.path.join(support.tiny_models(), "qwen2.gguf"), "rb") as file:
        data = file.read()
    key = b"qwen2.context_length" + struct.pack("<I", 4)
    at = data.index(key) + len(key)
    support.os.makedirs(support.os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data[:at] + struct.pack("<I", CONTEXT) + data[at + 4:])
    return path


class UiTest(support.ApiTest):
    def start(self, *arguments, **options):
        path = long_model()
        daemon = self.serve("--model", path, "--threads", "1", *arguments, **options)
        if not hasattr(self, "schema"):
            self.schema = Schema(daemon.ask("GET", "/openapi.json").json)
        return daemon

    def events(self, daemon, target, headers=(), slow=0):
        stream = Events(daemon, target, headers, slow)
        self.addCleanup(stream.close)
        return stream

    def call(self, daemon, method, path, body=None, status=None, headers=()):
        """A call; its answer must be as it is described. `status`: what is expected, else any success."""
        answer = daemon.ask(method, path, body, headers)
        plain = path.split("?")[0]
        for pattern, methods in self.schema.document["paths"].items():
            if re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", pattern), plain) and method.lower() in methods:
                described = methods[method.lower()]["responses"]
                break
        else:
            raise AssertionError(f"{method} {path} is not described")
        self.assertIn(str(answer.status), described, answer)
        content = described[str(answer.status)].get("content", {})
        if "application/json" in content:
            self.schema.check(content["application/json"]["schema"], answer.json)
        if status:
            self.assertEqual(answer.status, status, answer)
        else:
            self.assertIn(answer.status, (200, 201), answer)
        return answer.json

    def chat(self, daemon, **fields):
        return self.call(daemon, "POST", "/ui-api/chats", fields, 201)

    def add(self, daemon, chat, content, parent=None, **more):
        return self.call(daemon, "POST", f"/ui-api/chats/{chat}/messages",
                         {"role": "user", "content": content, "parent": parent, **more}, 201)  # fmt: skip

    def generate(self, daemon, chat, **fields):
        return self.call(daemon, "POST", f"/ui-api/chats/{chat}/generations", fields, 201)

    def message(self, daemon, chat, message):
        return self.call(daemon, "GET", f"/ui-api/chats/{chat}/messages/{message}")

    def finish(self, daemon, started):
        """Waits for the end of what was started; the message."""
        stream = self.events(daemon, f"/ui-api/generations/{started['generation']}/events")
        self.assertEqual(stream.status, 200)
        stream.wait_end()
        answer = started["answer"]["id"]
        return self.message(daemon, started["chat"]["id"], answer)
