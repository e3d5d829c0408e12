"""Answers in chats, which belong to the server: followed by many, left, stopped, gone on with, over the daemon's end.

Standard library only, so that it runs under sanitizers, too. The tiny model answers nonsense, but always the same.
"""
import json
import os
import random
import re
import select
import signal
import sqlite3
import threading

import support
import ui_support

GREEDY = {"temperature": 0, "max_tokens": 300}


class Generations(ui_support.UiTest):
    def setUp(self):
        super().setUp()
        self.daemon = self.start()

    def begin(self, text="Tell me something long.", daemon=None, chat=None, **fields):
        daemon = daemon or self.daemon
        chat = chat or self.chat(daemon)["id"]
        defaults = {} if "continue" in fields else {"model": "qwen2", "parameters": GREEDY}
        fields = {**defaults, **fields}
        if not {"parent", "continue", "message"} & set(fields):
            fields["message"] = {"content": text}
        return self.generate(daemon, chat, **fields)

    def attach(self, started, after=None, daemon=None, slow=0):
        query = "" if after is None else f"?after={after}"
        return self.events(daemon or self.daemon, f"/ui-api/generations/{started['generation']}/events{query}", slow=slow)

    def reference(self, text="Tell me something long.", **parameters):
        """The same answer in a chat of its own, uninterrupted."""
        message = self.finish(self.daemon, self.begin(text, parameters={**GREEDY, **parameters}))
        self.assertEqual(message["state"], "complete", message)
        return message

    def same(self, message, whole):
        """The same tokens to the last; where not, the first difference."""
        a, b = message["content"], whole["content"]
        at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        self.assertTrue(a == b, f"differs at {at} of {len(b)}: {a[at - 10:at + 20]!r}, {b[at - 10:at + 20]!r}")
        self.assertEqual(message["state"], "complete")

    def check_events(self, events, message):
        """Numbers without gaps; what they add up to is the message."""
        self.assertEqual([e["n"] for e in events], list(range(1, len(events) + 1)))
        for e in events:
            self.schema.check({"$ref": "#/components/schemas/UiGenerationEvent"}, e)
        self.assertEqual([e["type"] for e in events].count("end"), 1)
        self.assertEqual((events[0]["type"], events[-1]["type"]), ("start", "end"))
        content = events[0]["content"] + "".join(e["text"] for e in events if e["type"] == "text")
        self.assertEqual(content, message["content"])
        self.assertEqual(events[-1]["state"], message["state"])
        self.assertEqual(events[-1]["stats"], message["stats"])

    def test_an_answer_is_streamed_and_kept_with_its_figures(self):
        started = self.begin()
        self.assertEqual((started["answer"]["state"], started["question"]["role"]), ("running", "user"))
        stream = self.attach(started)
        stream.wait_end()
        message = self.message(self.daemon, started["chat"]["id"], started["answer"]["id"])
        self.check_events(stream.numbered(), message)
        stats = message["stats"]
        self.assertIn(stats["finish_reason"], ("stop", "length"))
        self.assertGreater(stats["answer_tokens"], 5)
        self.assertGreater(stats["first_token_ms"], 0)
        self.assertGreater(stats["tokens_per_second"], 0)
        self.assertEqual((message["model"], message["parameters"]["max_tokens"]), ("qwen2", 300))
        chat = self.call(self.daemon, "GET", f"/ui-api/chats/{started['chat']['id']}")
        self.assertEqual((chat["leaf"], chat["title"], chat["generation"]), (message["id"], "Tell me something long.", None))
        # the same is what /v1/chat/completions answers
        plain = self.daemon.ask("POST", "/v1/chat/completions", {"model": "qwen2", "messages": [
            {"role": "user", "content": "Tell me something long."}], **GREEDY}).json  # fmt: skip
        self.assertEqual(plain["choices"][0]["message"]["content"], message["content"])
        self.assertEqual(stats["answer_tokens"], plain["usage"]["completion_tokens"] - (stats["finish_reason"] == "stop"))
        # a follow-up finds the beginning in the cache
        more = self.finish(self.daemon, self.begin("And more?", chat=chat["id"]))
        self.assertGreater(more["stats"]["cached_tokens"], 0)

    def test_many_clients_see_every_event_once(self):
        started = self.begin()
        streams = [self.attach(started) for _ in range(8)]
        # some leave in the middle and come back where they were; two read slowly
        slow = [self.attach(started, slow=0.002) for _ in range(2)]
        left = streams[0]
        left.wait(lambda e: len(e) > 3)
        left.close()
        seen = left.numbered()
        back = self.attach(started, after=len(seen))
        [s.wait_end() for s in streams[1:] + slow + [back]]
        message = self.message(self.daemon, started["chat"]["id"], started["answer"]["id"])
        for stream in streams[1:] + slow:
            self.check_events(stream.numbered(), message)
        self.check_events(seen + back.numbered(), message)
        # and so do those that come later, from the store
        for after in (0, 1, len(seen)):
            late = self.attach(started, after=after)
            late.wait_end()
            self.assertEqual(late.numbered(), streams[1].numbered()[after:])
        for after in ("x", "0" * 40, "%zz"):
            self.assertEqual(self.daemon.ask("GET", f"/ui-api/generations/{started['generation']}/events?after={after}").status, 400, after)
        lost = self.attach(started, after=10**6)
        self.assertEqual(lost.wait_end()[0][1], "reset")
        self.check_events(lost.numbered(), message)

    def test_events_come_together_some_times_a_second(self):
        # Each that comes alone wakes a browser's network, page and screen, on the cores that the model computes on.
        started = self.begin()
        begun = support.time.monotonic()
        connection = self.daemon.connect()
        self.addCleanup(connection.close)
        connection.sendall(f"GET /ui-api/generations/{started['generation']}/events HTTP/1.1\r\nHost: localhost\r\n"
                           "Connection: close\r\n\r\n".encode())  # fmt: skip
        pieces = []
        while piece := connection.recv(1 << 20):
            pieces.append(piece)
        seconds = support.time.monotonic() - begun
        whole = b"".join(pieces)
        n_events = whole.count(b"event: text\n")
        self.assertGreater(n_events, 50)
        self.assertLess(len(pieces), 6 + seconds / 0.045, f"{n_events} events in {seconds:.2f} s")
        # and one is one piece of HTTP's
        self.assertEqual(whole.count(b"\nid: "), whole.count(b"\r\nid: "))

    def test_it_goes_on_when_everybody_leaves(self):
        started = self.begin()
        stream = self.attach(started)
        stream.wait(lambda e: len(e) > 3)
        stream.close()
        self.until(lambda: self.call(self.daemon, "GET", f"/ui-api/generations/{started['generation']}")["state"] != "running")
        message = self.message(self.daemon, started["chat"]["id"], started["answer"]["id"])
        self.assertEqual(message["content"], self.reference()["content"])

    def test_what_is_stopped_goes_on_exactly(self):
        whole = self.reference()
        started = self.begin()
        chat, answer = started["chat"]["id"], started["answer"]["id"]
        for _ in range(4):  # stopped and gone on with several times
            stream = self.attach(started)
            stream.wait(lambda e: sum(x[1] == "text" for x in e) >= 5 or any(x[1] == "end" for x in e))
            stopped = self.call(self.daemon, "POST", f"/ui-api/generations/{started['generation']}/stop")
            self.assertIn(stopped["state"], ("stopped", "complete"))
            stream.wait_end()
            message = self.message(self.daemon, chat, answer)
            self.check_events(stream.numbered(), message)
            self.assertTrue(whole["content"].startswith(message["content"]), message)
            if stopped["state"] == "complete":
                break
            started = self.begin(chat=chat, **{"continue": answer})
            self.assertEqual((started["question"], started["answer"]["id"]), (None, answer))
        message = self.finish(self.daemon, started)
        self.same(message, whole)
        self.assertEqual(message["stats"]["answer_tokens"], whole["stats"]["answer_tokens"])
        again = self.call(self.daemon, "POST", f"/ui-api/generations/{started['generation']}/stop")
        self.assertEqual(again["state"], "complete")  # one that has ended stays as it is

    def test_a_continuation_that_ends_before_its_first_token_loses_nothing(self):
        """A stop, or SIGKILL, at growing delays: before the answer so far was taken in, within that, and behind it."""
        started = self.begin(parameters={**GREEDY, "max_tokens": 4000})
        chat, answer = started["chat"]["id"], started["answer"]["id"]
        stream = self.attach(started)
        stream.wait(lambda e: sum(x[1] == "text" for x in e) >= 100)
        self.call(self.daemon, "POST", f"/ui-api/generations/{started['generation']}/stop")
        stream.wait_end()
        message = self.message(self.daemon, chat, answer)
        before = message["content"]
        self.assertEqual(message["state"], "stopped")
        self.assertTrue(before)
        for i in range(60):
            started = self.begin(chat=chat, **{"continue": answer})
            support.time.sleep(i * 0.0002)
            if i % 20 == 19:
                self.daemon.process.send_signal(signal.SIGKILL)
                self.daemon.process.wait()
                self.daemon = self.start()
            else:
                self.call(self.daemon, "POST", f"/ui-api/generations/{started['generation']}/stop")
            message = self.message(self.daemon, chat, answer)
            self.assertIn(message["state"], ("stopped", "interrupted"), message["stats"])
            self.assertTrue(message["content"].startswith(before), f"round {i}: {len(message['content'])} of {len(before)}")
            before = message["content"]
        message = self.finish(self.daemon, self.begin(chat=chat, **{"continue": answer}))
        self.same(message, self.reference(max_tokens=4000))

    def test_a_killed_daemon_loses_no_token_that_was_told_to_be_saved(self):
        whole = self.reference(max_tokens=4000)
        chance = random.Random(4)
        started = self.begin(parameters={**GREEDY, "max_tokens": 4000})
        chat, answer = started["chat"]["id"], started["answer"]["id"]
        n_kills, shown = 0, 0
        while True:
            stream = self.attach(started)
            told = chance.randrange(1, 3)
            try:
                stream.wait(lambda e: sum(x[1] == "saved" for x in e) >= told)
            except AssertionError:
                break  # it ended before
            self.daemon.process.send_signal(signal.SIGKILL)
            self.daemon.process.wait()
            stream.wait_end()
            saved = max(data["n"] for _, event, data in stream.events if event == "saved")
            acknowledged = [e for e in stream.numbered() if e["n"] <= saved]
            content = acknowledged[0]["content"] + "".join(e["text"] for e in acknowledged if e["type"] == "text")
            began = support.time.monotonic()
            self.daemon = self.start()
            self.figure("start behind SIGKILL", support.time.monotonic() - began, "s", 2)
            message = self.message(self.daemon, chat, answer)
            if message["state"] == "complete":
                break
            n_kills += 1
            self.assertEqual(message["state"], "interrupted")
            self.assertTrue(message["content"].startswith(content), f"{len(content)} of {len(message['content'])}")
            self.assertTrue(whole["content"].startswith(message["content"]), len(message["content"]))
            self.assertGreaterEqual(len(message["content"]), shown)
            shown = len(message["content"])
            # the events of the interrupted one are there, with its end
            old = self.attach(started)
            old.wait_end()
            self.check_events(old.numbered(), message)
            started = self.begin(chat=chat, **{"continue": answer})
        message = self.finish(self.daemon, started)
        print(f"{n_kills} kills in one answer of {message['stats']['answer_tokens']} tokens")
        self.assertGreater(n_kills, 0)
        self.same(message, whole)
        self.assertEqual(message["stats"]["answer_tokens"], whole["stats"]["answer_tokens"])

    def test_a_store_that_cannot_be_written_loses_nothing(self):
        whole = self.reference(max_tokens=6000)
        store = sqlite3.connect(os.path.join(self.models, ".mlxr", "chats.db"), isolation_level=None)
        started = self.begin(parameters={**GREEDY, "max_tokens": 6000})
        store.execute("BEGIN EXCLUSIVE")
        stream = self.attach(started)
        answer = self.call(self.daemon, "POST", "/ui-api/chats", {"title": "x"}, 500)
        self.assertEqual(answer["error"]["code"], "store_failed")
        self.assertEqual(self.daemon.ask("GET", "/v1/models").status, 200)
        self.daemon.wait_line("answers cannot be saved; trying again")
        stream.wait(lambda e: len(e) > 1000)  # it goes on, to its end, which nobody is told before it is saved
        self.assertNotIn("end", [event for _, event, _ in list(stream.events)])
        store.execute("ROLLBACK")
        store.close()
        stream.wait_end()
        message = self.message(self.daemon, started["chat"]["id"], started["answer"]["id"])
        self.check_events(stream.numbered(), message)
        self.same(message, whole)
        self.chat(self.daemon, title="x")

    def test_who_waits_for_the_chats_keeps_nobody_else_waiting(self):
        body = {"model": "qwen2", "prompt": "x", "max_tokens": 4, "temperature": 0}
        waiting = [self.daemon.connect() for _ in range(12)]
        store = sqlite3.connect(os.path.join(self.models, ".mlxr", "chats.db"), isolation_level=None)
        store.execute("BEGIN EXCLUSIVE")
        for connection in waiting:
            connection.sendall(b"GET /ui-api/chats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        self.assertEqual(self.daemon.ask("GET", "/health").status, 200)  # the loop has them all
        self.assertEqual(self.daemon.ask("POST", "/v1/completions", body).status, 200)
        answered = select.select(waiting, [], [], 0)[0]
        store.execute("ROLLBACK")
        store.close()
        self.assertEqual(answered, [])
        for connection in waiting:
            with connection, connection.makefile("rb") as file:
                self.assertEqual(support.read_answer(file).status, 200)

    def test_a_streams_finish_comes_with_its_end(self):
        """The last text is there, and the pool's only thread, which the end needs, waits for the responses' database."""
        self.assertEqual(self.daemon.stop(), 0)
        self.daemon = self.start(env={**self.environment(), "UV_THREADPOOL_SIZE": "1"})
        ask = {"model": "qwen2", "messages": [{"role": "user", "content": "Tell me."}], "max_tokens": 1000, "temperature": 0}
        whole = self.daemon.ask("POST", "/v1/chat/completions", ask).json["choices"][0]["message"]["content"]
        kept = self.daemon.ask("POST", "/v1/responses", {"model": "qwen2", "input": "x", "max_output_tokens": 1}).json["id"]
        store = sqlite3.connect(os.path.join(self.models, ".mlxr", "responses.db"), isolation_level=None)
        body = json.dumps({**ask, "stream": True}).encode()
        store.execute("BEGIN EXCLUSIVE")
        with self.daemon.connect() as connection, self.daemon.connect() as waits:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                               b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            data = connection.recv(1)  # it is being made: its beginning needs the pool no more
            waits.sendall(b"GET /v1/responses/%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % kept.encode())
            self.assertEqual(self.daemon.ask("GET", "/health").status, 200)
            content, n_read = "", 0
            while len(content) < len(whole):
                data += connection.recv(1 << 20)
                for event in re.finditer(rb"^data: (\{.*\})\n", data[n_read:], re.M):
                    content += json.loads(event.group(1))["choices"][0]["delta"].get("content", "")
                n_read = data.rindex(b"\n") + 1
            self.assertEqual(content, whole)
            self.assertNotIn(b'"finish_reason":"', data)
            store.execute("ROLLBACK")
            while part := connection.recv(1 << 20):
                data += part
        store.close()
        self.assertIn(b'"finish_reason":"', data)
        self.assertTrue(data.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"), data[-100:])

    def test_a_drained_daemon_finishes_what_it_can_and_marks_the_rest(self):
        started = self.begin()
        self.assertEqual(self.daemon.stop(), 0)  # it may take 30 s
        self.daemon = self.start("--drain", "1")
        message = self.message(self.daemon, started["chat"]["id"], started["answer"]["id"])
        self.assertEqual((message["state"], message["content"]), ("complete", self.reference()["content"]))
        started = [self.begin(text=f"Number {i}.", parameters={"temperature": 0, "max_tokens": 12000})
                   for i in range(24)]  # fmt: skip
        drained = self.daemon
        self.assertEqual(drained.stop(), 0)
        self.daemon = self.start()
        states = [self.message(self.daemon, s["chat"]["id"], s["answer"]["id"])["state"] for s in started]
        self.assertTrue(set(states) <= {"complete", "interrupted"}, states)
        if "interrupted" in states:
            drained.wait_line(r"nothing new is taken; for 1 s at most there go on: (\d+ requests?, )?\d+ answers? of chats$")
            drained.wait_line(r"ended unfinished: (\d+ requests?, )?\d+ answers? of chats$")
        self.assertEqual(self.call(self.daemon, "GET", "/ui-api/generations")["generations"], [])

    def test_regenerate_edit_and_compare_make_branches(self):
        first = self.begin()
        answer = self.finish(self.daemon, first)
        chat, question = first["chat"]["id"], first["question"]["id"]
        pair = [self.begin(chat=chat, parent=question, activate=i == 0, parameters={**GREEDY, "max_tokens": 20 + i})
                for i in range(2)]  # two panes  # fmt: skip
        made = [self.finish(self.daemon, p) for p in pair]
        self.assertEqual({m["parent"] for m in made}, {question})
        self.assertTrue(all(answer["content"].startswith(m["content"]) for m in made))
        self.assertEqual(self.call(self.daemon, "GET", f"/ui-api/chats/{chat}")["leaf"], made[0]["id"])
        edited = self.begin(chat=chat, message={"content": "Something else, please.", "parent": None})
        self.assertIsNone(edited["question"]["parent"])
        self.finish(self.daemon, edited)
        page = self.call(self.daemon, "GET", f"/ui-api/chats/{chat}/messages")["messages"]
        self.assertEqual(len([m for m in page if m["parent"] is None]), 2)
        self.assertEqual(len(page), 6)

    def test_an_edited_answer_goes_on_with_its_text(self):
        started = self.begin(parameters={**GREEDY, "max_tokens": 10})
        message = self.finish(self.daemon, started)
        chat = started["chat"]["id"]
        self.call(self.daemon, "PATCH", f"/ui-api/chats/{chat}/messages/{message['id']}",
                  {"revision": message["revision"], "content": "Edited by hand: "})  # fmt: skip
        more = self.finish(self.daemon, self.begin(chat=chat, parameters={**GREEDY, "max_tokens": 10},
                                                   **{"continue": message["id"]}))  # fmt: skip
        self.assertTrue(more["content"].startswith("Edited by hand: "), more)
        self.assertGreater(len(more["content"]), len("Edited by hand: "))

    def test_an_answer_of_another_file_goes_on_with_its_text_and_says_so(self):
        started = self.begin(parameters={**GREEDY, "max_tokens": 10})
        self.finish(self.daemon, started)
        self.assertEqual(self.daemon.stop(), 0)
        os.utime(ui_support.long_model(), (1, 1))
        self.daemon = self.start()
        more = self.finish(self.daemon, self.begin(chat=started["chat"]["id"], **{"continue": started["answer"]["id"]}))
        self.assertIn("goes on with its text", more["stats"]["warnings"][0])

    def test_no_continuation_takes_what_another_model_wrote(self):
        """The first model's tokens make only a part of the answer by then, also where the other one was killed."""
        self.assertEqual(self.daemon.stop(), 0)
        models = ("--model", os.path.join(support.tiny_models(), "llama.gguf"))
        for killed in (False, True):
            self.daemon = self.start(*models)
            started = self.begin(parameters={**GREEDY, "max_tokens": 20})
            chat, first = started["chat"]["id"], self.finish(self.daemon, started)
            go_on = {"chat": chat, "continue": first["id"]}
            other = self.begin(**go_on, model="llama", parameters={"max_tokens": 150})
            if killed:
                self.attach(other).wait(lambda e: any(x[1] == "saved" and x[2]["n"] > 1 for x in e))
                self.daemon.process.send_signal(signal.SIGKILL)
                self.daemon.process.wait()
                self.daemon = self.start(*models)
                second = self.message(self.daemon, chat, first["id"])
            else:
                second = self.finish(self.daemon, other)
            self.assertTrue(second["content"].startswith(first["content"]), second)
            self.assertGreater(len(second["content"]), len(first["content"]))
            third = self.finish(self.daemon, self.begin(**go_on, model="qwen2", parameters={"max_tokens": 20}))
            self.assertTrue(third["content"].startswith(second["content"]), (second, third))
            self.assertGreater(len(third["content"]), len(second["content"]))
            self.assertEqual(self.daemon.stop(), 0)

    def test_a_stop_string_of_a_continuation_cuts_nothing_from_what_there_was(self):
        started = self.begin(parameters={**GREEDY, "max_tokens": 40})
        message = self.finish(self.daemon, started)
        chat, answer = started["chat"]["id"], message["id"]
        for i in range(9):  # within the text, its very end, which may be the beginning of a stop string, and that being one
            before = message["content"]
            stop = (before[1:3], before[-1] + "\u2603", before[-2:])[i % 3]
            message = self.finish(self.daemon, self.begin(chat=chat, parameters={"max_tokens": 40, "stop": [stop]},
                                                          **{"continue": answer}))  # fmt: skip
            self.assertTrue(message["content"].startswith(before), f"round {i}: {message['content']!r} for {before!r}")
        message = self.finish(self.daemon, self.begin(chat=chat, parameters={"stop": None}, **{"continue": answer}))
        self.assertTrue(message["content"].startswith(before))

    def test_what_cannot_be_answered_changes_nothing(self):
        chat = self.chat(self.daemon)["id"]
        path = f"/ui-api/chats/{chat}/generations"
        for fields, status, code in (
            ({"message": {"content": "x"}}, 201, None),
            ({"message": {"content": "x"}, "model": "nobody"}, 404, "model_not_found"),
            ({"message": {"content": "x"}, "parameters": {"temperature": -5}}, 400, None),
            ({"parent": 10**9, "model": "qwen2"}, 400, None),
            ({"continue": 10**9, "model": "qwen2"}, 400, None),
        ):
            error = self.call(self.daemon, "POST", path, fields, status)
            if code:
                self.assertEqual(error["error"]["code"], code)
            if status == 201:  # the daemon's own model
                self.finish(self.daemon, error)
        self.assertEqual(self.call(self.daemon, "GET", f"/ui-api/chats/{chat}")["n_messages"], 2)
        long = self.begin("word " * 20000, chat=chat)
        stream = self.attach(long)
        message = self.finish(self.daemon, long)
        self.assertEqual((message["state"], message["stats"]["error"]["code"]), ("failed", "context_length_exceeded"))
        stream.wait_end()
        self.assertEqual((stream.numbered()[-1]["type"], stream.numbered()[-1]["stats"]), ("end", message["stats"]))
        self.assertIn("tokens", message["stats"]["error"]["message"])

    SCHEMA = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}, "minItems": 2000}},
              "required": ["a"], "additionalProperties": False}  # fmt: skip

    def cut_and_continued(self, parameters):
        """An answer that is stopped, and one that is killed, gone on with to the end; and one that nobody disturbed.

        It has to last: what is there is saved after a quarter of a second, and 3,000 tokens took 0.35 s at 8,900 a second.
        """
        whole = self.finish(self.daemon, self.begin(parameters=parameters))
        self.assertEqual(whole["state"], "complete", whole)
        for end in ("stop", "kill"):
            started = self.begin(parameters=parameters)
            stream = self.attach(started)
            stream.wait(lambda e: sum(x[1] == "saved" for x in e) >= 1)
            if end == "stop":
                self.call(self.daemon, "POST", f"/ui-api/generations/{started['generation']}/stop")
            else:
                self.daemon.process.send_signal(signal.SIGKILL)
                self.daemon.process.wait()
                self.daemon = self.start()
            chat, answer = started["chat"]["id"], started["answer"]["id"]
            self.assertEqual(self.message(self.daemon, chat, answer)["state"], {"stop": "stopped", "kill": "interrupted"}[end])
            message = self.finish(self.daemon, self.begin(chat=chat, **{"continue": answer}))
            yield message, whole

    def test_an_answer_bound_to_a_schema_goes_on_within_it(self):
        for message, whole in self.cut_and_continued({"temperature": 0, "max_tokens": 8000, "response_format": {
                "type": "json_schema", "json_schema": {"name": "x", "schema": self.SCHEMA}}}):  # fmt: skip
            self.assertTrue(whole["content"].startswith("{"), whole["content"][:40])
            self.same(message, whole)
        # its text was edited: which tokens that is made of nobody knows, and what they are bound to neither
        started = self.begin(parameters={"temperature": 0, "max_tokens": 40, "response_format": {
            "type": "json_schema", "json_schema": {"name": "x", "schema": self.SCHEMA}}})  # fmt: skip
        message = self.finish(self.daemon, started)
        chat = started["chat"]["id"]
        self.call(self.daemon, "PATCH", f"/ui-api/chats/{chat}/messages/{message['id']}",
                  {"revision": message["revision"], "content": '{"a": ['}, 200)  # fmt: skip
        failed = self.finish(self.daemon, self.begin(chat=chat, **{"continue": message["id"]}))
        self.assertEqual(failed["state"], "failed")
        self.assertIn("from its own tokens only", failed["stats"]["error"]["message"])

    def test_forced_calls_go_on_within_them(self):
        tool = {"type": "function", "function": {"name": "look", "parameters": self.SCHEMA}}
        for message, whole in self.cut_and_continued({"temperature": 0, "max_tokens": 8000, "tools": [tool],
                                                      "tool_choice": "required"}):  # fmt: skip
            self.assertEqual([c["function"] for c in message["tool_calls"] or []],
                             [c["function"] for c in whole["tool_calls"] or []])  # fmt: skip
            self.same(message, whole)

    def test_tools_are_called_and_their_results_answered(self):
        tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {
            "place": {"enum": ["here", "there"]}}, "required": ["place"], "additionalProperties": False}}}  # fmt: skip
        started = self.begin(parameters={"temperature": 0, "max_tokens": 60, "tools": [tool], "tool_choice": "required"})
        message = self.finish(self.daemon, started)
        self.assertEqual(message["stats"]["finish_reason"], "tool_calls", message)
        call = message["tool_calls"][0]
        self.assertEqual(call["function"]["name"], "look")
        result = self.call(self.daemon, "POST", f"/ui-api/chats/{started['chat']['id']}/messages",
                           {"role": "tool", "content": "a river", "tool_call_id": call["id"], "parent": message["id"]}, 201)
        more = self.finish(self.daemon, self.begin(chat=started["chat"]["id"], parent=result["id"],
                                                   parameters={"temperature": 0, "max_tokens": 10}))  # fmt: skip
        self.assertEqual((more["state"], more["parent"]), ("complete", result["id"]))

    def test_conflicts_are_told(self):
        started = self.begin(parameters={"temperature": 0, "max_tokens": 12000})
        chat, answer = started["chat"]["id"], started["answer"]["id"]
        base = f"/ui-api/chats/{chat}"
        self.assertEqual(self.call(self.daemon, "GET", "/ui-api/generations")["generations"][0]["message"], answer)
        for method, path, body in (
            ("DELETE", base, None),
            ("PATCH", f"{base}/messages/{answer}", {"revision": 1, "content": "x"}),
            ("POST", base + "/generations", {"continue": answer}),
            ("POST", base + "/messages", {"role": "user", "content": "x", "parent": answer}),
            ("DELETE", f"{base}/messages/{started['question']['id']}", None),
        ):
            error = self.call(self.daemon, method, path, body, 409)["error"]
            self.assertIn("being made", error["message"])
        self.call(self.daemon, "POST", f"/ui-api/generations/{started['generation']}/stop")
        self.daemon.ask("DELETE", base)
        self.assertEqual(self.daemon.ask("GET", base).status, 404)

    def test_sixteen_chats_at_once(self):
        results, lock = [], threading.Lock()
        alone = [self.reference(f"Question {i % 4}.", max_tokens=60)["content"] for i in range(4)]

        def one(i):
            message = self.finish(self.daemon, self.begin(f"Question {i % 4}.", parameters={**GREEDY, "max_tokens": 60}))
            with lock:
                results.append(message["content"] == alone[i % 4])

        clients = [threading.Thread(target=one, args=(i,)) for i in range(16)]
        [t.start() for t in clients]
        [t.join() for t in clients]
        self.assertEqual(results, [True] * 16)


if __name__ == "__main__":
    support.main()
