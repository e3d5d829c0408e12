"""Answers on a terminal: broken between words, whatever pieces they come in."""
import http.server
import json
import random
import threading
import unicodedata

import support

PROMPT = ">>> "

TEXTS = {
    "words": "An answer of many words, some of them immeasurably long and others short, which is to stand in rows that end "
             "between two words. " * 4,
    "lines": "First line, which is longer than a row of this terminal has columns.\n\n- an item that needs more than one row, "
             "as it has many words\n  and goes on\n\nLast line.",
    "wide": "日本語の文章は単語の間に空白がないので、どこでも改行できます。" * 3 + " and words behind them, a few of them at least. " * 2,
    "combining": "cafe\u0301s a\u0308hnlich o\u0302ter ne\u0301cessaire re\u0301sume\u0301 " * 12,
    "marks": "words \u0301behind a  \u0302 blank and \u0303 others " * 9,
    "emoji": "words 😀 and 🎉 more words with them 🚀 in every place " * 5,
}  # fmt: skip

CODE = """Here is a program with a line that is longer than the row, and this text before it is longer than that, too:

```python
def function(argument_one, argument_two, argument_three):  # a remark that goes on and on
    return argument_one
```

And these words behind the code are broken between words again, as they were in front of it, you see:

    indented_code(with, many, arguments, and, more, of, them, to, fill, the, row)

| a table | with columns | that are not broken | between words | at all |

Words ```with code in them``` are words, and these here are broken as all the other ones are, are they not?
"""


def columns(text):
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


class Daemon(http.server.BaseHTTPRequestHandler):
    """What a daemon says to a chat; the answer is the server's `pieces`, each behind `before_piece`."""

    protocol_version = "HTTP/1.1"

    def send(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.send({"server": "mlxr", "version": "0", "lasting": True, "store": ""})

    def event(self, text):
        data = b"data: " + text.encode() + b"\n\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if not self.path.startswith("/v1/"):
            self.send({"model": {"name": "tiny", "has_template": True}, "load_ms": 0})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for i, piece in enumerate(self.server.pieces):
            self.server.before_piece(i)
            self.event(json.dumps({"choices": [{"delta": {"content": piece}, "finish_reason": None}]}))
        self.event(json.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}]}))
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


class Wrap(support.CliTest):
    def setUp(self):
        super().setUp()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Daemon)
        self.server.before_piece = lambda _: None
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    def env(self, **changes):
        return self.environment(MLXR_HOST=f"127.0.0.1:{self.server.server_address[1]}", NO_COLOR="1", **changes)

    def pieces(self, text, seed):
        """The text as a model gives it: in pieces that end anywhere."""
        chosen, at = random.Random(seed), 0
        self.server.pieces = []
        while at < len(text):
            n = chosen.randint(1, 7) if seed else 1
            self.server.pieces.append(text[at:at + n])
            at += n

    def answer(self, text, n_columns, seed=0, **changes):
        """The rows that the answer takes on a terminal, but for what the terminal itself breaks."""
        self.pieces(text, seed)
        t = support.Terminal([support.MLXR, "run", "tiny", "question"], self.env(**changes), columns=n_columns)
        self.addCleanup(t.close)
        self.assertEqual(t.wait(), 0)
        self.assertNotIn(b"\x1b", t.raw)  # nothing is taken back
        return t.screen.partition("mlxr: answered by")[0].splitlines()

    def test_rows_end_between_words(self):
        for name, text in TEXTS.items():
            for n_columns in (30, 52, 80):
                for seed, locale in ((0, "C.UTF-8"), (1, "C")):
                    with self.subTest(name=name, columns=n_columns, seed=seed, locale=locale):
                        rows = self.answer(text, n_columns, seed, LC_ALL=locale)
                        self.assertLess(max(map(columns, rows)), n_columns)
                        if name == "wide":
                            self.assertEqual("".join(rows).replace(" ", ""), text.replace(" ", ""))
                        else:  # all the words, each of them whole
                            self.assertEqual(" ".join(rows).split(), text.split())
                        for row, following in zip(rows, rows[1:]):  # no row ends sooner than it must
                            if name == "words":
                                self.assertGreaterEqual(columns(row + " " + following.split()[0]), n_columns)

    def test_a_word_longer_than_a_row_is_left_to_the_terminal(self):
        address = "https://example.org/" + "a" * 90
        self.assertEqual(self.answer(f"See {address} there.", 40), ["See " + address, "there."])  # 114 columns: the third row has 34
        self.assertEqual(self.answer(f"Look here at this thing: {address} there.", 40), ["Look here at this thing:", address + " there."])

    def test_code_and_tables_stay_as_they_are(self):
        for seed in range(4):
            rows, lines = self.answer(CODE, 50, seed), CODE.splitlines()
            kept = [line for line in lines if line.startswith(("```", "def", "    ", "|"))]
            self.assertEqual([row for row in rows if row in kept], kept)
            self.assertEqual(" ".join(rows).split(), CODE.split())
            self.assertLess(max(len(row) for row in rows if row not in kept), 50)

    def test_pipes_data_and_who_wants_it_get_the_text_as_it_is(self):
        self.pieces(TEXTS["words"], 1)
        self.assertEqual(self.succeed("run", "tiny", "question", env=self.env()).text, TEXTS["words"] + "\n")
        with open(self.home + "/schema.json", "w", encoding="utf-8") as file:
            file.write("{}")
        for options in (["--schema", self.home + "/schema.json"], ["--no-wrap"]):
            t = support.Terminal([support.MLXR, "run", "tiny", "question", *options], self.env(), columns=40)
            self.addCleanup(t.close)
            self.assertEqual(t.wait(), 0)
            self.assertEqual(t.screen.partition("mlxr: answered by")[0], TEXTS["words"] + "\n")

    def test_a_new_width_counts_from_there_on(self):
        text, resized, go_on = "word " * 60, threading.Event(), threading.Event()

        def wait(i):
            if i == 30:
                resized.set()
                go_on.wait(support.TIMEOUT)

        self.pieces(text, 0)
        self.server.pieces = [word + " " for word in text.split()]
        self.server.before_piece = wait
        t = support.Terminal([support.MLXR, "run", "tiny", "question"], self.env(), columns=81)
        self.addCleanup(t.close)
        self.assertTrue(resized.wait(support.TIMEOUT))
        while t.screen.count("word") < 30:
            self.assertTrue(t.read(0.1))
        t.resize(t.fd, 24, 41)
        go_on.set()
        self.assertEqual(t.wait(), 0)
        rows = t.screen.partition("mlxr: answered by")[0].splitlines()
        self.assertEqual([len(row.split()) for row in rows], [16, 16, 8, 8, 8, 4])  # 14 and then 2 where the terminal broke them
        self.assertEqual(" ".join(rows).split(), text.split())

    def test_a_held_word_stands_before_what_is_told(self):
        self.pieces("These are words up to the end of a ro", 0)
        t = support.Terminal([support.MLXR, "run", "tiny", "--chat", "--", "question"], self.env(), columns=42)
        self.addCleanup(t.close)
        self.assertEqual(t.expect("\n" + PROMPT).splitlines()[-1], "These are words up to the end of a ro")


if __name__ == "__main__":
    support.main()
