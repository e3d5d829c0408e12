"""Files for service managers and packagers: they say what the daemon is, and name what this tree needs."""
import os
import plistlib
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACKAGING = os.path.join(ROOT, "packaging")


def read(*parts):
    with open(os.path.join(*parts), encoding="utf-8") as file:
        return file.read()


def settings(text):
    """A unit's (section, name) -> values."""
    section, found = None, {}
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault((section, name), []).append(value)
    return found


class Units(unittest.TestCase):
    def test_the_service_is_confined_watched_and_given_time_to_end(self):
        for path in ("mlxr.service", "user/mlxr.service"):
            unit = settings(read(PACKAGING, "systemd", path))
            self.assertEqual(unit["Service", "Type"], ["notify"])
            self.assertTrue(unit["Service", "ExecStart"][0].startswith("/usr/bin/mlxr serve"))
            self.assertGreater(int(unit["Service", "WatchdogSec"][0]), 10)  # longer than the daemon's own silence
            self.assertGreaterEqual(int(unit["Service", "TimeoutStopSec"][0]), 60)
            self.assertEqual(unit["Service", "NoNewPrivileges"], ["yes"])
        unit = settings(read(PACKAGING, "systemd", "mlxr.service"))
        for name in ("DynamicUser", "ProtectHome", "PrivateDevices", "RestrictNamespaces"):
            self.assertEqual(unit["Service", name], ["yes"])
        self.assertEqual(unit["Service", "CapabilityBoundingSet"], [""])

    def test_the_socket_is_on_loopback_only(self):
        for address in settings(read(PACKAGING, "systemd", "mlxr.socket"))["Socket", "ListenStream"]:
            self.assertTrue(address.startswith(("127.0.0.1:", "/run/")), address)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd-analyze here")
    def test_systemd_understands_them(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("mlxr.service", "mlxr.socket"):
                text = read(PACKAGING, "systemd", name).replace("/usr/bin/mlxr", "/bin/true")
                with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                    file.write(text)
            done = subprocess.run(
                ["systemd-analyze", "verify", "--man=no", os.path.join(folder, "mlxr.service"),
                 os.path.join(folder, "mlxr.socket")],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
            complaints = [line for line in done.stdout.splitlines() if "mlxr" in line]
            self.assertEqual(complaints, [])

    def test_launchd_understands_its_file(self):
        with open(os.path.join(PACKAGING, "launchd", "local.mlxr.plist"), "rb") as file:
            plist = plistlib.load(file)
        self.assertEqual(plist["ProgramArguments"][1:], ["serve"])
        self.assertGreaterEqual(plist["ExitTimeOut"], 60)
        self.assertEqual(plist["Umask"], 0o077)
        name = re.search(r'#define LAUNCHD_SOCKETS "(\w+)"', read(ROOT, "daemon", "server", "launchd.h")).group(1)
        self.assertEqual(plist["Sockets"], {name: {"SockNodeName": "127.0.0.1", "SockServiceName": "11435", "SockType": "stream"}})


class Packages(unittest.TestCase):
    def libraries(self):
        """(Debian's, Homebrew's) packages of all libraries, from tools/setup."""
        text = read(ROOT, "tools", "setup")
        rows = re.findall(r"[a-z0-9-]+:(lib[a-z0-9.-]+-dev):([a-z0-9@-]+)", text)
        self.assertGreater(len(rows), 6)
        return [row for row in rows if "cmocka" not in row[0]]

    def test_the_formula_names_every_library(self):
        formula = read(PACKAGING, "homebrew", "mlxr.rb")
        for _, name in self.libraries():
            if name != "libedit":  # comes with macOS
                self.assertIn(f'depends_on "{name}"', formula)
        self.assertIn('depends_on "llhttp"', formula)

    def test_the_image_has_every_library_and_no_root(self):
        text = read(PACKAGING, "docker", "Dockerfile")
        final = text[text.rindex("FROM ") :]
        for package, _ in self.libraries():
            stem = re.sub(r"(4-openssl|1)?-dev$", "", package)
            self.assertRegex(final, re.escape(stem) + r"[0-9-]*\b", package)
        self.assertRegex(final, r"\nUSER mlxr\n")
        self.assertRegex(final, r"\nHEALTHCHECK .*/health")

    @unittest.skipUnless(shutil.which("ruby"), "no ruby here")
    def test_ruby_understands_the_formula(self):
        subprocess.run(["ruby", "-c", os.path.join(PACKAGING, "homebrew", "mlxr.rb")], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    unittest.main()
