"""The web page as bytes: who gets it, how it is packed and kept, and that no path leads elsewhere."""
import gzip
import re

import support


class Files(support.ApiTest):
    def setUp(self):
        super().setUp()
        self.daemon = self.serve()
        self.built = "without its web page" not in self.daemon.ask("GET", "/").body.decode()

    def get(self, path, **headers):
        return self.daemon.ask("GET", path, headers=[(k.replace("_", "-"), v) for k, v in headers.items()])

    def need_page(self):
        if not self.built:
            self.skipTest("the program was built without the web page")
        return self.get("/", Accept="text/html,*/*")

    def test_programs_get_a_line_of_text_and_browsers_the_page(self):
        for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
            answer = self.get("/", **headers)
            self.assertEqual((answer.status, answer.headers["content-type"]), (200, "text/plain; charset=utf-8"))
            self.assertTrue(answer.body.startswith(b"MLXR is running"), answer)
        head = self.daemon.ask("HEAD", "/")
        self.assertEqual((head.status, head.body), (200, b""))
        page = self.need_page()
        self.assertEqual((page.status, page.headers["content-type"]), (200, "text/html; charset=utf-8"))
        self.assertIn(b'<div id="root">', page.body)

    def test_a_program_without_the_page_says_how_to_get_it(self):
        if self.built:
            self.skipTest("this one has it")
        self.assertIn("make build", self.get("/", Accept="text/html").body.decode())
        self.assertEqual(self.get("/models").status, 404)
        self.assertEqual(self.get("/assets/index.js").status, 404)

    def test_every_page_is_the_same_document_under_a_strict_policy(self):
        page = self.need_page()
        policy = page.headers["content-security-policy"]
        self.assertIn("default-src 'none'", policy)
        self.assertNotRegex(policy, r"unsafe|https?:|\*")
        self.assertNotRegex(page.body.decode(), r"(?i)<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=")
        paths = ("/chat", "/chat/12", "/models", "/models/a/b", "/models/a%2Fb", "/logs", "/settings", "/dashboard", "/playground")
        for path in paths:
            other = self.get(path)
            self.assertEqual((other.status, other.body), (200, page.body), path)
            self.assertEqual(other.headers["content-security-policy"], policy)
            self.assertEqual(other.headers["x-content-type-options"], "nosniff")

    def test_assets_are_packed_and_kept_for_ever_and_the_page_is_asked_for_again(self):
        page = self.need_page()
        self.assertEqual(page.headers["cache-control"], "no-cache")
        packed = self.get("/", Accept="text/html", Accept_Encoding="br, gzip")
        self.assertEqual(packed.headers["content-encoding"], "gzip")
        self.assertEqual(gzip.decompress(packed.body), page.body)
        self.assertNotEqual(packed.headers["etag"], page.headers["etag"])
        again = self.get("/", Accept="text/html", If_None_Match=page.headers["etag"])
        self.assertEqual((again.status, again.body), (304, b""))
        names = re.findall(r'"(/assets/[^"]+)"', page.body.decode())
        self.assertGreaterEqual(len(names), 2)
        for name in names:
            asset = self.get(name, Accept_Encoding="gzip;q=0.5")
            self.assertEqual((asset.status, asset.headers["content-encoding"]), (200, "gzip"), name)
            self.assertEqual(asset.headers["cache-control"], "public, max-age=31536000, immutable")
            self.assertGreater(len(gzip.decompress(asset.body)), 100)
            for refused in ({}, {"Accept_Encoding": "gzip;q=0"}, {"Accept_Encoding": "identity, gzip; q=0.000"}):
                self.assertEqual(self.get(name, **refused).status, 406, refused)
        for extra in ("/favicon.svg", "/manifest.webmanifest"):
            self.assertEqual(self.get(extra, Accept_Encoding="gzip").status, 200)

    def test_only_known_names_are_served(self):
        self.need_page()
        for path in ("/assets/", "/assets/x.js", "/assets/index.html", "/assets/..%2findex.html", "/assets/%2e%2e/index.html",
                     "/assets/../index.html", "/assets//index.js", "/index.html", "/assets/.vite", "/.vite/manifest.json",
                     "/assets/..%5cindex.html", "/chat/1/2", "/favicon.svg/x"):  # fmt: skip
            self.assertIn(self.get(path, Accept_Encoding="gzip").status, (400, 404), path)

    def test_it_needs_no_key_where_all_else_does(self):
        self.key("page")
        daemon = self.serve()
        self.assertEqual(daemon.ask("GET", "/").status, 200)
        self.assertEqual(daemon.ask("GET", "/ui-api/status").status, 401)


if __name__ == "__main__":
    support.main()
