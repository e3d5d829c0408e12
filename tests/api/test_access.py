"""Who may ask what: every route × credentials × kind of header × Host × Origin × tricks with the path.

The routes come from the daemon itself (`mlxr serve --routes`), so that a new one is tested by being there.
"""
import itertools
import re

import support

KEY_HEADERS = {"bearer": lambda key: ("Authorization", "Bearer " + key), "x-api-key": lambda key: ("X-Api-Key", key)}
NEEDS = {"use": "inference", "read": "read", "admin": "admin"}
HOSTS_REFUSED = ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0", "localhost.", "127.1"]
TRICKS = ["/{0}", "/{0}/", "/./{0}", "/../{0}", "/%2e/{0}", "/%2e%2e/{0}", "//{0}", "/x/../{0}", "/x/%2e%2e/{0}",
          "/x%2f..%2f{0}", "/%00{0}", "/{0}%00", "/{0}%20", "/\\{0}", "/%5c{0}", "/{0}%2f", "/{0};x", "/{0}?x"]  # fmt: skip


def path_of(route):
    """A path that the pattern takes, of something that is not there."""
    return re.sub(r"\{[^}]*\}", "no-such-thing", route["pattern"])


# The web page and its files: known before anybody has a key.
PAGE = {("GET", pattern) for pattern in (
    "/", "/chat", "/chat/{id}", "/models", "/models/{name...}", "/logs", "/settings", "/dashboard", "/playground", "/tray", "/sw.js", "/assets/{file}",
    "/favicon.svg", "/manifest.webmanifest",
)}  # fmt: skip


class Access(support.ApiTest):
    def setUp(self):
        super().setUp()
        self.routes = self.succeed("serve", "--routes").json
        self.assertTrue(self.routes)

    def ask(self, route, headers=(), path=None, **more):
        body = {} if route["method"] in ("POST", "PUT", "PATCH") and route["body"] == "json" else None
        return self.daemon.ask(route["method"], path or path_of(route), body, headers, **more)

    def test_every_route_declares_a_policy(self):
        for route in self.routes:
            self.assertIn(route["policy"], ("public", "use", "read", "admin"), route)
            public = route["pattern"] in ("/health", "/ready", "/api/version", "/ui-api/version", "/openapi.json") or \
                (route["method"], route["pattern"]) in PAGE  # fmt: skip
            self.assertTrue(route["policy"] != "public" or public, route)
            self.assertIn(route["body"], ("none", "json", "stream"), route)

    def test_keys_open_what_their_scope_says_and_nothing_else(self):
        keys = {scope: self.key(scope, "--scopes", scope)[0] for scope in ("inference", "read", "admin")}
        revoked, revoked_id = self.key("gone", "--scopes", "inference,read,admin")
        self.succeed("key", "revoke", revoked_id)
        good = keys["admin"]
        wrong = [good[:-1] + ("0" if good[-1] != "0" else "1"), good[:-1], good + "0", good.upper(), "x", "", " ",
                 "mlxr-" + "0" * 16 + "-" + "0" * 64, revoked]  # fmt: skip
        self.daemon = self.serve()
        n = 0
        for route in self.routes:
            public = route["policy"] == "public"
            for kind, header in KEY_HEADERS.items():
                for key in wrong:
                    status = self.ask(route, [header(key)]).status
                    self.assertEqual(status == 401, not public, (route, kind, key))
                    n += 1
                for scope, key in keys.items():
                    status = self.ask(route, [header(key)]).status
                    allowed = public or scope == "admin" or NEEDS[route["policy"]] == scope
                    self.assertNotEqual(status, 401, (route, kind, scope))
                    self.assertEqual(status != 403, allowed, (route, kind, scope, status))
                    n += 1
            self.assertEqual(self.ask(route).status == 401, not public, route)
            for headers in (
                [KEY_HEADERS["bearer"](good), KEY_HEADERS["x-api-key"]("x")],
                [KEY_HEADERS["bearer"]("x"), KEY_HEADERS["x-api-key"](good)],
                [KEY_HEADERS["bearer"](good), KEY_HEADERS["bearer"](good)],
                [("Authorization", "Basic " + good)],
                [("Authorization", good)],
                [("Cookie", "key=" + good)],
            ):
                self.assertEqual(self.ask(route, headers).status == 401, not public, (route, headers))
                n += 1
        print(f"{n} combinations of {len(self.routes)} routes and credentials")

    def test_a_key_that_is_revoked_stops_within_seconds(self):
        key, key_id = self.key("soon", "--scopes", "admin")
        self.key("other")  # so that there still is one
        self.daemon = self.serve()
        routes = [r for r in self.routes if r["policy"] != "public"]
        if not routes:
            self.skipTest("all routes are public")
        header = [KEY_HEADERS["bearer"](key)]
        self.assertNotEqual(self.ask(routes[0], header).status, 401)
        self.succeed("key", "revoke", key_id)
        self.until(lambda: self.ask(routes[0], header).status == 401)

    def test_hosts_and_origins_of_others_are_refused_on_every_route(self):
        self.daemon = self.serve("--allow-host", "llm.example", "--allow-origin", "https://chat.example")
        port = self.daemon.port
        for route in self.routes:
            for host in HOSTS_REFUSED:
                self.assertEqual(self.ask(route, host=host).status, 403, (route, host))
            for more, host in (([], None), ([("Host", "evil.example")], "localhost")):
                answer = self.ask(route, more, host=host)
                told = route["method"] == "HEAD" or b"header Host" in answer.body
                self.assertTrue(answer.status == 400 and told, (route, answer))
            for host in ("localhost", f"127.0.0.1:{port}", "[::1]:80", "llm.example", "LOCALHOST:1"):
                answer = self.ask(route, host=host)
                self.assertFalse(answer.status == 403 or b"header Host" in answer.body, (route, host, answer))
            for origin in ("http://evil.example", "null", "http://localhost", f"http://localhost:{port + 1}",
                           "https://chat.example.evil.example"):  # fmt: skip
                answer = self.ask(route, [("Origin", origin)], host=f"localhost:{port}")
                self.assertEqual(answer.status, 403, (route, origin))
                self.assertNotIn("access-control-allow-origin", answer.headers)
            answer = self.ask(route, [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")])
            self.assertEqual(answer.status, 403, route)
            answer = self.ask(route, [("Origin", f"http://localhost:{port}")], host=f"localhost:{port}")
            self.assertNotEqual(answer.status, 403, route)
            self.assertNotIn("access-control-allow-origin", answer.headers)
            answer = self.ask(route, [("Origin", "https://chat.example")])
            self.assertNotEqual(answer.status, 403, route)
            self.assertEqual(answer.headers["access-control-allow-origin"], "https://chat.example")
            self.assertIn("Origin", answer.headers["vary"])

    def test_preflights_tell_allowed_pages_what_is_allowed(self):
        self.daemon = self.serve("--allow-origin", "https://chat.example")
        for route in self.routes:
            asking = [("Origin", "https://chat.example"), ("Access-Control-Request-Method", route["method"]),
                      ("Access-Control-Request-Headers", "authorization,content-type")]  # fmt: skip
            answer = self.daemon.ask("OPTIONS", path_of(route), headers=asking)
            self.assertEqual(answer.status, 204, route)
            self.assertIn(route["method"], answer.headers["access-control-allow-methods"])
            self.assertIn("authorization", answer.headers["access-control-allow-headers"].lower())
            self.assertNotIn("access-control-allow-credentials", answer.headers)
            answer = self.daemon.ask("OPTIONS", path_of(route), headers=[("Origin", "https://evil.example")])
            self.assertEqual(answer.status, 403, route)

    def test_bodies_must_say_that_they_are_json(self):
        self.daemon = self.serve()
        for route in self.routes:
            if route["body"] != "json":
                continue
            for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
                         "application/json; charset=utf-16", "application/jsonx"):  # fmt: skip
                answer = self.daemon.ask(route["method"], path_of(route), "{}", [("Content-Type", kind)])
                self.assertEqual(answer.status, 415, (route, kind))
            answer = self.daemon.ask(route["method"], path_of(route), "{}")
            self.assertEqual(answer.status, 415, route)
            answer = self.daemon.ask(route["method"], path_of(route), "{}",
                                     [("Content-Type", "application/json; charset=UTF-8")])  # fmt: skip
            self.assertNotEqual(answer.status, 415, route)

    def test_no_spelling_of_a_path_gets_around_the_key(self):
        key, _ = self.key("all", "--scopes", "admin")
        self.daemon = self.serve()
        n = 0
        for route, trick in itertools.product(self.routes, TRICKS):
            path = trick.format(path_of(route).lstrip("/"))
            for method in {route["method"], "GET", "HEAD", "POST", "DELETE", "OPTIONS", "PROPFIND"}:
                answer = self.daemon.ask(method, path)
                n += 1
                allowed = (400, 401, 404, 405) if route["policy"] != "public" else (200, 204, 400, 401, 404, 405, 503)
                if method == "OPTIONS":
                    allowed += (204,)
                self.assertIn(answer.status, allowed, (method, path, answer))
        print(f"{n} spellings of paths")
        # with the key: what is spelt plainly is found, what is not is refused or nothing
        for route in self.routes:
            for trick in TRICKS[2:17]:
                path = trick.format(path_of(route).lstrip("/"))
                answer = self.daemon.ask(route["method"], path, headers=[KEY_HEADERS["bearer"](key)])
                # Below a page's path anything is a name, and the answer always the same document.
                named = (route["method"], route["pattern"]) in PAGE and "{" in route["pattern"] and answer.status == 200
                self.assertTrue(answer.status // 100 == 4 or named and b'<div id="root">' in answer.body, (path, answer))

    def test_errors_have_the_shape_of_their_dialect(self):
        self.key("one")
        self.daemon = self.serve()
        for path, check in (
            ("/v1/no-such-thing", lambda e: self.assertEqual(e["error"]["type"], "invalid_request_error")),
            ("/api/no-such-thing", lambda e: self.assertIsInstance(e["error"], str)),
            ("/v1/messages/no-such-thing", lambda e: self.assertEqual(e["type"], "error")),
            ("/no-such-thing", lambda e: self.assertEqual((e["error"]["code"], e["error"]["message"]), (
                "not_found", "there is nothing at GET /no-such-thing; /openapi.json lists what there is"))),
        ):
            answer = self.daemon.ask("GET", path)
            self.assertEqual(answer.status, 404)
            check(answer.json)
        self.assertNotIn(b"/tmp", answer.body)

    def test_without_a_key_only_this_machine_is_served(self):
        for host in ("0.0.0.0", "::"):
            self.fail_with(2, "there is no API key", "serve", "--port", "0", *support.SANDBOX, "--host", host)
        self.key("one")
        daemon = self.serve("--host", "0.0.0.0")
        self.assertEqual(daemon.ask("GET", "/health").status, 200)
        self.assertEqual(daemon.ask("GET", "/health", host="0.0.0.0").status, 403)


if __name__ == "__main__":
    support.main()
