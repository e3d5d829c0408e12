"""What every file of bench/history begins with: where and when its figures were measured."""
import datetime
import json
import os
import platform
import subprocess

FOLDER = os.path.dirname(os.path.abspath(__file__))


def commit():
    done = subprocess.run(["git", "-C", FOLDER, "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True)
    return done.stdout.strip() or None


def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def head(what):
    return {"what": what, "date": datetime.date.today().isoformat(), "commit": commit(),
            "machine": {"cpu": processor(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"}}


def write(path, result):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
