"""tools/setup in made-up machines: a PATH of stubs says what is installed and records what would be."""
import os
import shutil
import stat
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SETUP = os.path.join(ROOT, "tools", "setup")
BUILD_TOOLS = ["cmake", "ninja", "cc", "git"]
BUILD_LIBRARIES = ["jansson", "libutf8proc", "libpcre2-8", "libxxhash", "libedit", "libuv", "libssl", "libllhttp",
                   "sqlite3", "libcurl"]

# `pkg-config --exists a b c`: all of them are files in $INSTALLED.
PKG_CONFIG = """#!/bin/sh
shift
for name; do [ -e "$INSTALLED/$name" ] || exit 1; done
"""
# Records the command; `install` then makes what the packages bring appear, unless told not to.
APT_GET = """#!/bin/sh
echo "apt-get $*" >>"$RECORD"
case " $* " in
*" update "*) exit ${APT_UPDATE_FAILS:-0} ;;
esac
[ -z "${APT_INSTALLS_NOTHING:-}" ] || exit 0
for word; do
    case $word in
    libjansson-dev) : >"$INSTALLED/jansson" ;;
    libutf8proc-dev) : >"$INSTALLED/libutf8proc" ;;
    libpcre2-dev) : >"$INSTALLED/libpcre2-8" ;;
    libxxhash-dev) : >"$INSTALLED/libxxhash" ;;
    libedit-dev) : >"$INSTALLED/libedit" ;;
    libuv1-dev) : >"$INSTALLED/libuv" ;;
    libssl-dev) : >"$INSTALLED/libssl" ;;
    node-llhttp) mkdir -p "$MLXR_SETUP_ROOT/usr/share/llhttp" && : >"$MLXR_SETUP_ROOT/usr/share/llhttp/llhttp.c" ;;
    libllhttp-dev) : >"$INSTALLED/libllhttp" ;;
    ninja-build) ln -s true "$STUBS/ninja" ;;
    cmake) ln -s true "$STUBS/cmake" ;;
    esac
done
"""


class Setup(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="mlxr-setup-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.stubs = os.path.join(self.folder, "stubs")
        self.installed = os.path.join(self.folder, "installed")
        self.record = os.path.join(self.folder, "record")
        os.mkdir(self.stubs)
        os.mkdir(self.installed)
        for name in ("sh", "env", "true", "false", "ln", "ls", "mkdir", "python3"):
            os.symlink(shutil.which(name), os.path.join(self.stubs, name))
        self.stub("id", "#!/bin/sh\necho 0\n")
        self.stub("apt-get", APT_GET)
        self.stub("pkg-config", PKG_CONFIG)
        for name in BUILD_TOOLS:
            self.stub(name)
        for name in BUILD_LIBRARIES:
            self.library(name)

    def stub(self, name, text="#!/bin/sh\n"):
        path = os.path.join(self.stubs, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)

    def library(self, name):
        open(os.path.join(self.installed, name), "w", encoding="utf-8").close()

    def remove(self, *names):
        for name in names:
            for folder in (self.stubs, self.installed):
                path = os.path.join(folder, name)
                if os.path.lexists(path):
                    os.unlink(path)

    def run_setup(self, *arguments, system="Linux", **more):
        environment = {
            "PATH": self.stubs, "STUBS": self.stubs, "INSTALLED": self.installed, "RECORD": self.record,
            "MLXR_SETUP_SYSTEM": system, "MLXR_SETUP_ROOT": self.folder, **more,
        }  # fmt: skip
        done = subprocess.run(
            ["/bin/sh", SETUP, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        return done.returncode, done.stdout, done.stderr

    def recorded(self):
        if not os.path.exists(self.record):
            return []
        with open(self.record, encoding="utf-8") as file:
            return file.read().splitlines()

    def test_a_complete_machine_is_left_alone_in_silence(self):
        self.assertEqual(self.run_setup("build"), (0, "", ""))
        self.assertEqual(self.recorded(), [])

    def test_only_what_is_missing_is_installed(self):
        self.remove("ninja", "jansson", "libpcre2-8")
        code, output, errors = self.run_setup("build")
        self.assertEqual(code, 0, errors)
        update, install = self.recorded()
        self.assertTrue(update.endswith(" update"), update)
        self.assertIn("install -y --no-install-recommends ninja-build libjansson-dev libpcre2-dev", install)
        self.assertEqual(self.run_setup("build"), (0, "", ""))
        self.assertEqual(len(self.recorded()), 2)

    def test_a_source_that_does_not_answer_is_no_reason_to_stop(self):
        self.remove("ninja")
        code, _, errors = self.run_setup("build", APT_UPDATE_FAILS="100")
        self.assertEqual(code, 0, errors)
        self.assertEqual(len(self.recorded()), 2)

    def test_without_root_and_sudo_it_prints_the_command_and_stops(self):
        self.remove("ninja", "libedit")
        self.stub("id", "#!/bin/sh\necho 1000\n")
        code, output, errors = self.run_setup("build")
        self.assertEqual((code, output), (1, ""))
        self.assertIn("apt-get update && apt-get install -y --no-install-recommends ninja-build libedit-dev\n", errors)
        self.assertEqual(self.recorded(), [])

    def test_sudo_that_would_ask_is_not_used_without_a_terminal(self):
        self.remove("ninja")
        self.stub("id", "#!/bin/sh\necho 1000\n")
        self.stub("sudo", '#!/bin/sh\necho "sudo $*" >>"$RECORD"\nexit 1\n')
        code, _, errors = self.run_setup("build")
        self.assertEqual(code, 1)
        self.assertIn("apt-get install", errors)
        self.assertEqual(self.recorded(), ["sudo -n true"])

    def test_sudo_without_a_password_is_used(self):
        self.remove("ninja")
        self.stub("id", "#!/bin/sh\necho 1000\n")
        self.stub("sudo", '#!/bin/sh\necho "sudo $*" >>"$RECORD"\nshift\nexec "$@"\n')
        code, _, errors = self.run_setup("build")
        self.assertEqual(code, 0, errors)
        self.assertTrue(any(line.startswith("sudo -n env DEBIAN_FRONTEND=noninteractive") for line in self.recorded()))
        self.assertTrue(os.path.lexists(os.path.join(self.stubs, "ninja")))

    def test_an_installation_that_changes_nothing_is_a_failure(self):
        self.remove("ninja")
        code, _, errors = self.run_setup("build", APT_INSTALLS_NOTHING="1")
        self.assertEqual(code, 1)
        self.assertIn("still missing after the installation: ninja-build", errors)

    def test_the_tests_need_more_than_the_build(self):
        code, output, _ = self.run_setup("--dry-run", "test")
        self.assertEqual(code, 1)
        for package in ("libcmocka-dev", "clang-19", "clang-format-19"):
            self.assertIn(package, output.split())
        self.assertNotIn("cmake", output.split())
        self.assertEqual(self.recorded(), [])

    def test_a_bare_machine_gets_everything(self):
        self.remove(*BUILD_TOOLS, *BUILD_LIBRARIES, "pkg-config")
        code, output, _ = self.run_setup("--dry-run", "build")
        self.assertEqual(code, 1)
        for package in (
            "cmake", "ninja-build", "gcc", "git", "pkg-config", "libjansson-dev", "libutf8proc-dev", "libpcre2-dev",
            "libxxhash-dev", "libedit-dev", "libuv1-dev", "libssl-dev", "node-llhttp",
        ):  # fmt: skip
            self.assertIn(package, output.split())

    def test_macos_uses_homebrew_for_what_it_lacks(self):
        self.remove("ninja", "libutf8proc", "libedit")
        code, output, _ = self.run_setup("--dry-run", "build", system="Darwin")
        self.assertEqual((code, output.strip()), (1, "brew install ninja utf8proc"))
        code, _, errors = self.run_setup("build", system="Darwin")
        self.assertEqual(code, 1)
        self.assertIn("Homebrew", errors)
        self.stub("brew", '#!/bin/sh\necho "brew $*" >>"$RECORD"\nln -s true "$STUBS/ninja"\n: >"$INSTALLED/libutf8proc"\n')
        code, _, errors = self.run_setup("build", system="Darwin")
        self.assertEqual(code, 0, errors)
        self.assertEqual(self.recorded(), ["brew install ninja utf8proc"])

    def test_llhttp_is_a_library_where_there_is_one_and_else_debians_source(self):
        self.remove("libllhttp")
        self.stub("apt-cache", "#!/bin/sh\nexit 1\n")
        self.assertEqual(self.run_setup("build")[0], 0)
        self.assertIn("--no-install-recommends node-llhttp", self.recorded()[-1])
        self.assertEqual(self.run_setup("build"), (0, "", ""))
        shutil.rmtree(os.path.join(self.folder, "usr"))
        self.stub("apt-cache")
        self.assertEqual(self.run_setup("build")[0], 0)
        self.assertIn("--no-install-recommends libllhttp-dev", self.recorded()[-1])

    def test_other_systems_are_told_the_names(self):
        self.remove("ninja", "apt-get")
        code, _, errors = self.run_setup("build")
        self.assertEqual(code, 1)
        self.assertIn("ninja-build", errors)

    def test_usage_errors_exit_2(self):
        self.assertEqual(self.run_setup("nonsense")[0], 2)


if __name__ == "__main__":
    unittest.main()
