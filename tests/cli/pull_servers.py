"""Servers for the tests of `mlxr pull`: Hugging Face, Ollama's registry and plain files, on loopback, on raw sockets so that
each of them can misbehave in any way. A script is a function that gets the request and writes whatever it likes.
"""
import hashlib
import json
import re
import socket
import threading


class Request:
    def __init__(self, path, headers, connection, method="GET", rest=b""):
        self.path, self.headers, self.connection = path, headers, connection
        self.method, self.rest = method, rest

    def body(self):
        """What the client sends behind its head."""
        data, n = self.rest, int(self.headers.get("content-length", 0))
        while len(data) < n:
            more = self.connection.recv(65536)
            if not more:
                raise OSError("the client left")
            data += more
        return data

    @property
    def range(self):
        """(first, last) of a Range header, or None."""
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        return (int(match.group(1)), int(match.group(2))) if match else None

    def write(self, data):
        self.connection.sendall(data)

    def answer(self, code=200, body=b"", headers=(), length=True):
        lines = [f"HTTP/1.1 {code} X", "Connection: close"]
        if length:
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in headers]
        self.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def redirect(self, url, code=302):
        self.answer(code, headers=[("Location", url)])

    def file(self, data, etag=None, ranges=True, headers=()):
        """A file, or the part of it that was asked for."""
        more = list(headers) + ([("ETag", f'"{etag}"')] if etag else [])
        wanted = self.range if ranges else None
        if wanted and self.headers.get("if-range", f'"{etag}"') == f'"{etag}"':
            first, last = wanted[0], min(wanted[1], len(data) - 1)
            more.append(("Content-Range", f"bytes {first}-{last}/{len(data)}"))
            self.answer(206, data[first : last + 1], more)
        else:
            self.answer(200, data, more)


class Server:
    """Answers every connection once, with the script of the longest prefix of the path. Remembers what was asked."""

    def __init__(self, host="127.0.0.1", tls=None):
        """tls: an ssl.SSLContext, for https."""
        self.scripts, self.requests, self.tls = {}, [], tls
        self.lock = threading.Lock()
        self.socket = socket.create_server((host, 0))
        self.host, self.port = host, self.socket.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://{host}:{self.port}"
        self.n_connections = 0
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)  # wakes accept
        self.thread.join()
        self.socket.close()

    def on(self, prefix, script):
        self.scripts[prefix] = script

    def asked(self, prefix):
        with self.lock:
            return [r for r in self.requests if r.path.startswith(prefix)]

    def accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.n_connections += 1
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            if self.tls:
                connection.settimeout(10)
                connection = self.tls.wrap_socket(connection, server_side=True)
            data = b""
            while b"\r\n\r\n" not in data:
                more = connection.recv(65536)
                if not more:
                    return
                data += more
            head = data.split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
            headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in head[1:])}
            method, path = head[0].split(" ")[:2]
            request = Request(path, headers, connection, method, data.split(b"\r\n\r\n", 1)[1])
            with self.lock:
                self.requests.append(request)
            best = max((p for p in self.scripts if request.path.startswith(p)), key=len, default=None)
            if best is None:
                request.answer(404, b"no such thing")
            else:
                self.scripts[best](request)
        except OSError:
            pass
        finally:
            try:
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(0.2)
                while connection.recv(65536):
                    pass
            except OSError:
                pass
            connection.close()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def git_digest(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


KINDS = {name: f"application/vnd.ollama.image.{name}" for name in
         ("model", "template", "system", "params", "license", "messages", "adapter", "projector")}  # fmt: skip


class Ollama(Server):
    """A registry with the model library/m:latest."""

    def __init__(self, model, **texts):
        super().__init__()
        self.blobs = {}
        self.layers = [self.layer("model", model)]
        for kind, text in texts.items():
            self.layers.append(self.layer(kind, text))
        self.on("/v2/", lambda r: r.answer(404))
        self.publish(self.manifest())

    def layer(self, kind, data):
        self.blobs[digest(data)] = data
        self.on("/v2/library/m/blobs/" + digest(data), lambda r: r.file(data))
        return {"mediaType": KINDS[kind], "digest": digest(data), "size": len(data)}

    def manifest(self, **changes):
        return {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "layers": self.layers, **changes}  # fmt: skip

    def publish(self, manifest):
        text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
        self.on("/v2/library/m/manifests/latest", lambda r: r.answer(200, text))

    @property
    def blob(self):
        """The path of the weights."""
        return "/v2/library/m/blobs/" + self.layers[0]["digest"]


class Hub(Server):
    """A hub with the repository o/r; large files are at a CDN, which is another server."""

    SHA = "0123456789abcdef0123456789abcdef01234567"

    def __init__(self, files, cdn):
        super().__init__()
        self.cdn = cdn
        self.on("/api/models/o/r/revision/main", lambda r: r.answer(200, json.dumps({"sha": self.SHA}).encode()))
        self.list([self.entry(path, data) for path, data in files.items()])

    def entry(self, path, data):
        at = f"/o/r/resolve/{self.SHA}/{path}"
        if len(data) < 10000:
            self.on(at, lambda r: r.file(data))
            return {"type": "file", "path": path, "size": len(data), "oid": git_digest(data)}
        self.on(at, lambda r: r.redirect(f"{self.cdn.url}/cdn/{path}?signature=1"))
        self.cdn.on(f"/cdn/{path}", lambda r: r.file(data))
        return {"type": "file", "path": path, "size": len(data), "oid": "0" * 40,
                "lfs": {"oid": digest(data)[7:], "size": len(data)}}  # fmt: skip

    def list(self, entries):
        text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
        self.on("/api/models/o/r/tree/", lambda r: r.answer(200, text))


class Store(Server):
    """A registry that models are pushed to. With `token` it wants one, which its own service gives."""

    def __init__(self, token=None):
        super().__init__()
        self.blobs, self.manifests, self.token, self.uploads = {}, {}, token, 0
        self.on("/v2/", self.answer)
        self.on("/token", lambda r: r.answer(200, json.dumps({"token": token}).encode()))

    def answer(self, r):
        if self.token and r.headers.get("authorization") != f"Bearer {self.token}":
            scope = r.path.split("/")[2] + "/" + r.path.split("/")[3]
            r.answer(401, headers=[("WWW-Authenticate", f'Bearer realm="{self.url}/token",service="s",scope="repository:{scope}:pull,push"')])
            return
        path, _, query = r.path.partition("?")
        repository, kind, what = re.fullmatch(r"/v2/(.+?)/(blobs|manifests)/(.*)", path).groups()
        if kind == "manifests" and r.method == "PUT":
            self.manifests[repository, what] = r.body()
            r.answer(201)
        elif kind == "manifests":
            found = self.manifests.get((repository, what))
            r.answer(200 if found else 404, found or b"")
        elif r.method == "POST":
            self.uploads += 1
            r.answer(202, headers=[("Location", f"/v2/{repository}/blobs/uploads/{self.uploads}?state=x")])
        elif r.method == "PUT":
            data = r.body()
            wanted = dict(p.split("=") for p in query.split("&"))["digest"]
            good = digest(data) == wanted
            if good:
                self.blobs[wanted] = data
            r.answer(201 if good else 400)
        elif what in self.blobs and r.method == "HEAD":
            r.connection.sendall(b"HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(self.blobs[what]))
        elif what in self.blobs:
            r.file(self.blobs[what])
        else:
            r.answer(404)
