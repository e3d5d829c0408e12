"""/ui-api: folders, chats, messages, search, presets, settings, files, and who is told what changes.

Every answer is checked against /openapi.json. Standard library only, so that it runs under sanitizers, too.
"""
import contextlib
import json
import os
import sqlite3
import threading

import support
import ui_support

HOSTILE = ["<script>alert(1)</script>", "'; DROP TABLE chats; --", "\"", "\u202egnp.exe", "\x01",
           "a\tb\r\nc", "\U0001f600" * 50, "%s%n", "../../etc/passwd", "{\"$ref\": \"#\"}", "\ufeff", "NEAR(a b)", "\x1b[31m",
           "<!-- mlxr:user -->", "]]>", "data: x\n\nevent: end"]  # fmt: skip


class Chats(ui_support.UiTest):
    def setUp(self):
        super().setUp()
        self.daemon = self.start()

    def c(self, method, path, body=None, status=None):
        return self.call(self.daemon, method, "/ui-api" + path, body, status)

    def test_a_chat_is_made_renamed_moved_removed_and_restored(self):
        folder = self.c("POST", "/folders", {"name": "Work"}, 201)
        chat = self.chat(self.daemon, title="One", parameters={"temperature": 0.5, "stop": ["x"]})
        self.assertEqual((chat["revision"], chat["folder"], chat["parameters"]), (1, None, {"temperature": 0.5, "stop": ["x"]}))
        path = f"/chats/{chat['id']}"
        chat = self.c("PATCH", path, {"revision": 1, "title": "Two", "folder": folder["id"], "pinned": True})
        self.assertEqual((chat["title"], chat["folder"], chat["pinned"], chat["revision"]), ("Two", folder["id"], True, 2))
        self.assertEqual([c["id"] for c in self.c("GET", f"/chats?folder={folder['id']}")["chats"]], [chat["id"]])
        self.assertEqual(self.c("GET", "/chats?folder=0")["chats"], [])
        self.assertEqual(self.c("GET", "/folders")["folders"][0]["n_chats"], 1)
        self.c("DELETE", path)
        self.c("GET", path, status=404)
        self.assertEqual(self.c("GET", "/chats")["chats"], [])
        removed = self.c("GET", "/chats?removed=true")["chats"][0]
        self.assertGreater(removed["purge_ms"], removed["removed_ms"] + 86400_000)
        self.assertEqual(self.c("POST", path + "/restore")["title"], "Two")
        self.c("DELETE", path + "?forever=true")
        self.c("POST", path + "/restore", status=404)
        self.c("DELETE", f"/folders/{folder['id']}")

    def test_two_tabs_do_not_lose_each_others_edits(self):
        chat = self.chat(self.daemon, title="One")
        path = f"/chats/{chat['id']}"
        results, barrier = [], threading.Barrier(8)

        def tab(i):
            barrier.wait()
            answer = self.daemon.ask("PATCH", "/ui-api" + path, {"revision": 1, "title": f"tab {i}"})
            results.append((answer.status, i))

        tabs = [threading.Thread(target=tab, args=(i,)) for i in range(8)]
        [t.start() for t in tabs]
        [t.join() for t in tabs]
        won = [i for status, i in results if status == 200]
        self.assertEqual(sorted(status for status, _ in results), [200] + [409] * 7)
        self.assertEqual(self.c("GET", path)["title"], f"tab {won[0]}")
        problem = self.c("PATCH", path, {"revision": 1, "title": "late"}, 409)["error"]
        self.assertIn("revision 2", problem["message"])
        self.assertEqual(problem["code"], "conflict")
        self.c("PATCH", path, {"title": "without"}, 400)
        message = self.add(self.daemon, chat["id"], "text")
        where = f"{path}/messages/{message['id']}"
        self.assertEqual(self.c("PATCH", where, {"revision": 1, "content": "edited"})["revision"], 2)
        self.c("PATCH", where, {"revision": 1, "content": "late"}, 409)

    def test_messages_make_a_tree(self):
        chat = self.chat(self.daemon)["id"]
        first = self.add(self.daemon, chat, "One\nmore")
        a = self.add(self.daemon, chat, "two a", first["id"])
        b = self.add(self.daemon, chat, "two b", first["id"], activate=False)
        got = self.c("GET", f"/chats/{chat}")
        self.assertEqual((got["title"], got["leaf"], got["n_messages"]), ("One", a["id"], 3))
        page = self.c("GET", f"/chats/{chat}/messages?limit=2")
        self.assertEqual([m["id"] for m in page["messages"]], [first["id"], a["id"]])
        rest = self.c("GET", f"/chats/{chat}/messages?after={page['next']}")
        self.assertEqual([(m["id"], m["parent"]) for m in rest["messages"]], [(b["id"], first["id"])])
        self.assertEqual(self.c("PATCH", f"/chats/{chat}", {"leaf": b["id"]})["leaf"], b["id"])
        self.c("PATCH", f"/chats/{chat}", {"leaf": 10**9}, 400)
        self.c("DELETE", f"/chats/{chat}/messages/{first['id']}")
        got = self.c("GET", f"/chats/{chat}")
        self.assertEqual((got["leaf"], got["n_messages"]), (None, 0))
        self.c("POST", f"/chats/{chat}/messages", {"role": "user", "content": "x", "parent": first["id"]}, 400)

    def test_what_is_wrong_is_named(self):
        chat = self.chat(self.daemon)["id"]
        for path, method, body, field in (
            ("/chats", "POST", {"titel": "x"}, None),
            ("/chats", "POST", {"title": 5}, "title"),
            ("/chats", "POST", {"title": "x" * 301}, "title"),
            ("/chats", "POST", {"folder": 77}, None),
            ("/chats", "POST", {"parameters": {"temprature": 1}}, "parameters.temprature"),
            ("/chats", "POST", {"parameters": {"temperature": "hot"}}, "parameters.temperature"),
            ("/chats", "POST", {"parameters": {"n": 2}}, "parameters.n"),
            ("/chats", "POST", {"parameters": {"messages": []}}, "parameters.messages"),
            ("/chats", "POST", [], None),
            ("/folders", "POST", {}, None),
            ("/folders", "POST", {"name": ""}, "name"),
            (f"/chats/{chat}/messages", "POST", {"role": "system", "content": "x"}, "role"),
            (f"/chats/{chat}/messages", "POST",
             {"role": "user", "content": "x", "attachments": [{"name": "a", "content": 1}]}, "attachments[0].content"),
            (f"/chats/{chat}/messages", "POST",
             {"role": "user", "content": "x", "attachments": [{"name": "a", "content": ""}] * 33}, "attachments"),
            ("/settings", "PATCH", {"revision": 0, "values": {"theme": "pink"}}, "theme"),
            ("/settings", "PATCH", {"revision": 0, "values": {"text_size": 99}}, "text_size"),
            ("/settings", "PATCH", {"revision": 0, "values": {"password": "x"}}, None),
            ("/import", "POST", {"markdown": "# nothing"}, None),
            ("/import", "POST", {}, None),
            (f"/chats/{chat}/generations", "POST", {}, None),
            (f"/chats/{chat}/generations", "POST", {"message": {"content": "x"}, "parent": 1}, None),
        ):  # fmt: skip
            error = self.c(method, path, body, 400)["error"]
            self.assertTrue(error["message"], body)
            if field:
                self.assertEqual(error["param"], field, error)
        for path in ("/chats/0", "/chats/-1", "/chats/x", "/chats/1e3", "/chats/99999999999999999999", "/chats/77"):
            self.c("GET", path, status=404)
        for query in ("limit=0", "limit=501", "limit=x", "limit=1.5", "folder=-1", "after=nonsense", "removed=maybe"):
            self.c("GET", "/chats?" + query, status=400)
        # One that does not fit is not taken for none.
        for path, name, value in (("/chats", "removed", "t" * 5000), ("/chats", "limit", "0" * 5000 + "1"), ("/search", "q", "w" * 5000),
                                  ("/chats", "after", "%zz"), ("/events", "after", "a" * 100)):  # fmt: skip
            self.assertEqual(self.c("GET", f"{path}?{name}={value}", status=400)["error"]["param"], name)
        self.c("GET", "/search", status=400)
        self.c("GET", "/search?q=%20", status=400)

    def test_hostile_text_is_text(self):
        chat = self.chat(self.daemon, title="t")["id"]
        for text in HOSTILE:
            made = self.chat(self.daemon, title=text, system=text)
            self.assertEqual((made["title"], made["system"]), (text, text))
            message = self.add(self.daemon, chat, text, attachments=[{"name": text.replace("\n", " ") or "x", "content": text}])
            self.assertEqual(self.message(self.daemon, chat, message["id"])["content"], text)
            quoted = support.cli.re.sub(r"[^A-Za-z0-9]", lambda m: "".join(f"%{b:02x}" for b in m.group().encode()), text)
            self.assertIn(self.daemon.ask("GET", f"/ui-api/search?q={quoted}").status, (200, 400), text)
        # what JSON cannot hold, or what is no Unicode, is refused
        for body in (b'{"title": "\\u0000"}', b'{"title": "\\ud800"}', b'{"title": "\xff"}', b'{"title": "a", "title": "b"}'):
            answer = self.daemon.ask("POST", "/ui-api/chats", body, [("Content-Type", "application/json")])
            self.assertEqual(answer.status, 400, body)
        exported = self.c("GET", f"/chats/{chat}/export")
        self.assertEqual([m["content"] for m in exported["messages"]], HOSTILE)

    def test_search_finds_words_with_their_places(self):
        chat = self.chat(self.daemon, title="About gardens")["id"]
        message = self.add(self.daemon, chat, "The quick brown fox jumps over the lazy dog.")
        found = self.c("GET", "/search?q=brown%20fo")["results"]
        self.assertEqual([(r["chat"], r["message"]) for r in found], [(chat, message["id"])])
        self.assertEqual([p["text"] for p in found[0]["snippet"] if p["hit"]], ["brown", "fox"])
        self.assertEqual([r["message"] for r in self.c("GET", "/search?q=gard")["results"]], [None])
        self.assertEqual(self.c("GET", "/search?q=cat")["results"], [])

    def test_search_in_ten_thousand_messages(self):
        file = {"format": "mlxr-chat", "version": 1, "chat": {"title": "large"},
                "messages": [{"id": i + 1, "role": "user", "content": f"number{i} " + "river stone light window " * 12}
                             for i in range(10000)]}  # fmt: skip
        self.c("POST", "/import", {"chat": file}, 201)

        def slowest_query():
            worst = 0
            for query in ("river", "r", "number4711", "stone%20light%20win", "river%20number99"):
                times = []
                self.assertTrue(self.c("GET", f"/search?q={query}")["results"])
                for _ in range(5):
                    began = support.time.monotonic()
                    self.daemon.ask("GET", f"/ui-api/search?q={query}")
                    times.append((support.time.monotonic() - began) * 1000)
                worst = max(worst, min(times))
            return worst

        self.best_figure("search in 10,000 messages, the slowest of five queries", slowest_query, "ms", 50)

    def test_files_come_back(self):
        chat = self.chat(self.daemon, title="T", system="S", parameters={"top_k": 3})["id"]
        first = self.add(self.daemon, chat, "one", attachments=[{"name": "a.txt", "type": "text/plain", "content": "file"}])
        self.add(self.daemon, chat, "two a", first["id"])
        self.add(self.daemon, chat, "two b", first["id"])
        file = self.c("GET", f"/chats/{chat}/export?format=json")
        again = self.c("POST", "/import", {"chat": file}, 201)
        self.assertNotEqual(again["id"], chat)
        other = self.c("GET", f"/chats/{again['id']}/export")

        def plain(f):
            ids = {m["id"]: i for i, m in enumerate(f["messages"])}
            return ({**f["chat"], "leaf": ids[f["chat"]["leaf"]], "created_ms": 0},
                    [{**m, "id": ids[m["id"]], "parent": ids.get(m.get("parent"))} for m in f["messages"]])  # fmt: skip

        self.assertEqual(plain(file), plain(other))
        markdown = self.c("GET", f"/chats/{chat}/export?format=markdown")["markdown"]
        self.assertIn("# T", markdown)
        back = self.c("POST", "/import", {"markdown": markdown}, 201)
        contents = [m["content"] for m in self.c("GET", f"/chats/{back['id']}/messages")["messages"]]
        self.assertEqual((back["title"], contents), ("T", ["one", "two b"]))
        bad = json.loads(json.dumps(file))
        bad["messages"][1]["parent"] = 10**6
        self.assertIn("messages[1]", self.c("POST", "/import", {"chat": bad}, 400)["error"]["message"])
        bad["messages"][1]["surprise"] = 1
        self.c("POST", "/import", {"chat": bad}, 400)

    def test_presets_and_settings_are_kept(self):
        preset = self.c("POST", "/presets", {"name": "Terse", "system": "Short.", "parameters": {"temperature": 0}}, 201)
        self.assertEqual(self.c("PATCH", f"/presets/{preset['id']}", {"revision": 1, "name": "Terser"})["name"], "Terser")
        self.c("PATCH", f"/presets/{preset['id']}", {"revision": 1, "name": "late"}, 409)
        settings = self.c("GET", "/settings")
        self.assertEqual((settings["version"], settings["revision"], settings["values"]["theme"]), (1, 0, "auto"))
        changed = self.c("PATCH", "/settings", {"revision": 0, "values": {"theme": "dark", "shortcuts": {"send": "Ctrl+Enter"}}})
        self.assertEqual((changed["revision"], changed["values"]["theme"]), (1, "dark"))
        self.c("PATCH", "/settings", {"revision": 0, "values": {"theme": "light"}}, 409)
        self.assertEqual(self.daemon.stop(), 0)
        self.daemon = self.start()
        self.assertEqual(self.c("GET", "/settings")["values"]["shortcuts"], {"send": "Ctrl+Enter"})
        self.assertEqual(self.c("PATCH", "/settings", {"revision": 1, "values": {"theme": None}})["values"]["theme"], "auto")
        self.assertEqual([p["name"] for p in self.c("GET", "/presets")["presets"]], ["Terser"])
        self.c("DELETE", f"/presets/{preset['id']}")

    def test_settings_of_another_version_do_not_stand_in_the_way(self):
        self.c("PATCH", "/settings", {"revision": 0, "values": {"theme": "dark"}})
        self.assertEqual(self.daemon.stop(), 0)
        with contextlib.closing(sqlite3.connect(os.path.join(self.models, ".mlxr", "chats.db"))) as db, db:
            self.assertEqual(db.execute("UPDATE settings SET content = json_set(content, '$.gone', true)").rowcount, 1)
        self.daemon = self.start()
        self.assertEqual(self.c("GET", "/settings")["values"]["theme"], "dark")  # the schema knows no `gone`
        self.assertEqual(self.c("PATCH", "/settings", {"revision": 1, "values": {"text_size": 20}})["values"]["text_size"], 20)
        self.c("PATCH", "/settings", {"revision": 2, "values": {"gone": True}}, 400)

    def test_changes_are_told(self):
        first = self.events(self.daemon, "/ui-api/events")
        place = first.wait(lambda e: e)[0]
        self.assertEqual(place[1], "hello")
        self.assertEqual(list(place[2]), ["quiet_ms"])
        chat = self.chat(self.daemon, title="x")
        told = first.wait(lambda e: len(e) == 2)[1]
        self.assertEqual(told[1:], ("change", {"kind": "chat", "op": "created", "id": chat["id"], "revision": 1}))
        self.add(self.daemon, chat["id"], "text")
        self.c("DELETE", f"/chats/{chat['id']}")
        both = first.wait(lambda e: len(e) == 4)[2:]
        self.assertEqual([(e[2]["kind"], e[2]["op"]) for e in both], [("message", "created"), ("chat", "removed")])
        first.close()
        # who was away gets what was missed, once
        again = self.events(self.daemon, f"/ui-api/events?after={told[0]}")
        self.assertEqual([e[2]["op"] for e in again.wait(lambda e: len(e) == 2)], ["created", "removed"])
        back = self.events(self.daemon, "/ui-api/events", [("Last-Event-ID", told[0])])
        self.assertEqual(len(back.wait(lambda e: len(e) == 2)), 2)
        once = self.c("GET", f"/events?after={told[0]}")
        self.assertEqual(([c["op"] for c in once["changes"]], once["reset"]), (["created", "removed"], False))
        self.assertEqual(self.c("GET", f"/events?after={once['next']}")["changes"], [])
        self.assertEqual(self.c("GET", "/events?after=abc-1")["reset"], True)
        stale = self.events(self.daemon, "/ui-api/events?after=abc-1")
        self.assertEqual(stale.wait(lambda e: e)[0][1], "reset")
        # who comes for the first time learns how long ago the newest change was
        support.time.sleep(0.31)
        late = self.events(self.daemon, "/ui-api/events").wait(lambda e: e)[0]
        self.assertGreaterEqual(late[2]["quiet_ms"], 300)
        before = support.time.monotonic()
        self.chat(self.daemon, title="y")
        soon = self.events(self.daemon, "/ui-api/events").wait(lambda e: e)[0]
        self.assertLessEqual(soon[2]["quiet_ms"], 1000 * (support.time.monotonic() - before) + 2)
        # a model that appears is told without being asked for, once the daemon has seen which ones there are

        def told_of_models():
            self.add_model("llama", f"another-{support.time.monotonic_ns()}")
            support.time.sleep(0.5)
            return any(e[2].get("kind") == "models" for e in again.events)

        self.until(told_of_models)
        for stream in (back, stale):
            stream.wait(lambda e: any(x[2].get("kind") == "models" for x in e))
        for stream in (again, back, stale):
            self.schema.check({"$ref": "#/components/schemas/UiChange"}, [e[2] for e in stream.events if e[1] == "change"][0]
                              if stream is not stale else {"kind": "chat", "op": "created"})  # fmt: skip
        began = support.time.monotonic()
        self.assertEqual(self.daemon.stop(), 0)  # followers end by themselves
        self.figure("end with followers of changes", support.time.monotonic() - began, "s", 3)
        self.assertFalse([line for line in self.daemon.lines if line and "ended unfinished" in line])

    def test_models_and_jobs_are_told_at_once(self):
        """What a list of models and a list of downloads need: nothing has to be polled."""
        self.add_model("llama")
        daemon = self.start(env=self.environment(MLXR_ALLOW_PRIVATE="127.0.0.1", http_proxy=None))
        feed = self.events(daemon, "/ui-api/events")
        feed.wait(lambda e: e)

        def told(kind, op, behind=0):
            return lambda e: any((x[2].get("kind"), x[2].get("op")) == (kind, op) for x in e[behind:])

        names = iter(range(100))

        def slowest_to_be_told():
            """Seconds, of a load, an unload and a name."""
            most = 0
            for kind, path, body in (("loaded", "load", {"model": "llama", "keep_alive_s": -1}), ("loaded", "unload", {"model": "llama"}),
                                     ("models", "copy", {"from": "llama", "to": f"other-{next(names)}", "alias": True})):  # fmt: skip
                seen, began = len(feed.events), support.time.monotonic()
                self.call(daemon, "POST", "/ui-api/models/" + path, body)
                feed.wait(told(kind, "changed", seen))
                most = max(most, support.time.monotonic() - began)
            return most

        self.best_figure("a load, an unload, a name: the last is told after", slowest_to_be_told, "s", 1)
        # a download that goes on without who asked for it: begun, how far it is, its end, and the model it made
        with open(support.os.path.join(support.tiny_models(), "llama.gguf"), "rb") as file:
            content = file.read()
        server = support.pull_servers().Server()
        self.addCleanup(server.close)

        def slowly(request):
            request.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(content))
            for i in range(20):
                request.write(content[len(content) * i // 20 : len(content) * (i + 1) // 20])
                support.time.sleep(0.1)

        server.on("/new.gguf", slowly)
        seen = len(feed.events)
        asker = threading.Thread(target=daemon.ask, args=("POST", "/ui-api/models/pull", {"source": server.url + "/new.gguf"}))
        asker.start()
        self.addCleanup(asker.join)
        events = feed.wait(lambda e: told("job", "ended", seen)(e) and told("models", "changed", seen)(e))[seen:]
        of_job = [e for e in events if e[2]["kind"] == "job"]
        self.assertEqual({e[2]["id"] for e in of_job}, {1})
        ops = [e[2]["op"] for e in of_job]
        self.assertEqual((ops[0], ops[-1], set(ops[1:-1])), ("started", "ended", {"progress"}), ops)
        self.assertEqual([e[1] for e in of_job], ["change", *["progress"] * (len(ops) - 2), "change"])
        done = [e[2]["job"]["progress"]["done"] for e in of_job[1:-1] if e[2]["job"]["progress"]]
        self.assertEqual(done, sorted(done))
        self.assertEqual(of_job[-1][2]["job"]["end"]["error"], None)
        for e in events:
            self.schema.check({"$ref": "#/components/schemas/UiChange"}, e[2])
        # progress has no number: who comes back gets what is lasting, once
        back = self.events(daemon, f"/ui-api/events?after={[e[0] for e in feed.events if e[0]][0]}")
        changes = [(e[2]["kind"], e[2]["op"]) for e in back.wait(told("job", "ended"))]
        self.assertNotIn("progress", [op for _, op in changes])
        self.assertIn(("job", "started"), changes)

    def test_a_second_daemon_serves_without_chats_and_says_why(self):
        other = self.start()
        answer = other.ask("GET", "/ui-api/chats")
        self.assertEqual((answer.status, answer.json["error"]["code"]), (503, "chats_unavailable"))
        self.assertIn("another daemon", answer.json["error"]["message"])
        self.assertIn("retry-after", answer.headers)
        self.assertEqual(self.daemon.stop(), 0)
        self.until(lambda: other.ask("GET", "/ui-api/chats").status == 200)  # it tries again once a second


class Owners(ui_support.UiTest):
    def test_keys_see_their_own_chats(self):
        daemon = self.start()
        old = self.chat(daemon, title="from before keys")["id"]
        self.assertEqual(daemon.stop(), 0)
        keys = {name: [("Authorization", "Bearer " + self.key(name, "--scopes", scopes)[0])]
                for name, scopes in (("alice", "inference"), ("bob", "inference"), ("admin", "admin"))}  # fmt: skip
        daemon = self.start()
        hers = self.call(daemon, "POST", "/ui-api/chats", {"title": "hers"}, 201, keys["alice"])["id"]
        seen = {n: [c["id"] for c in self.call(daemon, "GET", "/ui-api/chats", headers=k)["chats"]] for n, k in keys.items()}
        self.assertEqual(seen, {"alice": [hers], "bob": [], "admin": [old]})
        self.assertEqual(daemon.ask("GET", f"/ui-api/chats/{hers}", headers=keys["bob"]).status, 404)
        self.assertEqual(daemon.ask("GET", "/ui-api/chats").status, 401)
        follows = {n: self.events(daemon, "/ui-api/events", k) for n, k in keys.items()}
        [f.wait(lambda e: e) for f in follows.values()]
        # jobs are an admin's to see
        answer = daemon.ask("POST", "/ui-api/models/create", {"name": "no-such", "from": "nothing-there"}, keys["admin"])
        self.assertEqual(answer.status, 200)
        told = follows["admin"].wait(lambda e: any(x[2].get("op") == "ended" for x in e))
        # a daemon whose first look at the models is not over tells them as changed, too
        self.assertEqual({e[2]["kind"] for e in told if e[1] == "change"} - {"models", "loaded"}, {"job"})
        n_admin = len(follows["admin"].events)
        started = self.call(daemon, "POST", f"/ui-api/chats/{hers}/generations", {"message": {"content": "x"}, "model": "qwen2",
                            "parameters": {"max_tokens": 400, "temperature": 0}}, 201, keys["alice"])  # fmt: skip
        run = f"/ui-api/generations/{started['generation']}"
        for path, method in ((run, "GET"), (run + "/events", "GET"), (run + "/stop", "POST")):
            self.assertEqual(daemon.ask(method, path, headers=keys["bob"]).status, 404, path)
        self.assertEqual(daemon.ask("POST", run + "/stop", headers=keys["alice"]).status, 200)
        follows["alice"].wait(lambda e: any(x[2].get("op") == "ended" for x in e))
        for name, n in (("bob", 1), ("admin", n_admin)):
            others = [e for e in follows[name].events[n:] if e[2]["kind"] not in ("loaded", "models")]  # models are everybody's
            self.assertEqual(others, [], name)
        self.assertNotIn("job", [e[2].get("kind") for e in follows["alice"].events])


if __name__ == "__main__":
    support.main()
