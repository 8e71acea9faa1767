"""The Java that a peer runs on: of those that are installed the one that its makers would choose."""

import glob
import os
import re
import shutil
import subprocess
from dataclasses import dataclass

from lib import toolchain

# Where distributions put them.
INSTALLED = "/usr/lib/jvm/*/bin/java"


@dataclass(frozen=True)
class Java:
    program: str
    # 21 of 21.0.4.
    major: int
    # As it names itself: runtime and build.
    title: str


def find(recommended):
    """$JAVA_HOME if it is set; else the least version from `recommended` on; else the newest below it."""
    home = os.environ.get("JAVA_HOME")
    programs = [os.path.join(home, "bin", "java")] if home else [shutil.which("java"), *sorted(glob.glob(INSTALLED))]
    found = [java for program in programs if program and (java := ask(program))]
    if not found:
        raise toolchain.Missing(f"no Java runs: {', '.join(filter(None, programs)) or 'none is installed'}")
    return choose(found, recommended)


def choose(found, recommended):
    """The first of equals: the one on the path comes first."""
    return min(found, key=lambda java: (java.major < recommended, abs(java.major - recommended)))


def ask(program):
    """None when it does not run."""
    try:
        said = subprocess.run([program, "-version"], capture_output=True, text=True, check=True, timeout=60).stderr
    except (OSError, subprocess.SubprocessError):
        return None
    return parse(program, said)


def parse(program, said):
    """What `java -version` says: the version in quotes, then the runtime."""
    version = re.search(r'version "(?:1\.)?(\d+)', said)
    if version is None:
        return None
    lines = said.splitlines()
    return Java(program, int(version[1]), (lines[1] if len(lines) > 1 else lines[0]).strip())
