"""Environments of the client programs: built once, kept in a cache folder, rebuilt when their source changes.

Each `*_command` returns the command line of a ready client program. A tool that this machine lacks is
`Missing`: the caller skips the client by name, or fails where it must run (in CI).
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys

BUILD_S_MAX = 900
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
CONFORMANCE = os.path.join(ROOT, "tests", "conformance")

# A small heap and the first compiler only: these programs are short, and the machine is shared.
JAVA = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]


class Missing(Exception):
    """A tool is not installed here; the text names it."""


class BuildError(Exception):
    """The tool is here, but the environment could not be built; the text has the tool's own words."""


def cache_folder():
    return os.environ.get("RINGMQ_TEST_CACHE") or os.path.join(ROOT, "target", "conformance-cache")


def default_binary():
    return os.environ.get("RINGMQ_BIN") or os.path.join(ROOT, "target", "release", "ringmq")


def librdkafka_command():
    """confluent-kafka, the Python binding whose wheel carries librdkafka."""
    folder = os.path.join(CONFORMANCE, "librdkafka")
    return _python_command("librdkafka", os.path.join(folder, "requirements.txt"), os.path.join(folder, "client.py"))


def python_command(name):
    """A client that is written in Python: its program is an adapter in `python/`."""
    folder = os.path.join(CONFORMANCE, "python")
    program = os.path.join(folder, f"{name.replace('-', '_')}_client.py")
    return _python_command(name, os.path.join(folder, f"requirements-{name}.txt"), program)


def _python_command(name, requirements, program):
    def build(folder):
        run([sys.executable, "-m", "venv", folder])
        pip = os.path.join(folder, "bin", "pip")
        run([pip, "install", "--quiet", "--only-binary=:all:", "--requirement", requirements])

    folder = cached(name, [requirements], build, salt=sys.version)
    return [os.path.join(folder, "bin", "python"), program]


def kcat_command():
    """kcat (kafkacat before 1.7) of the distribution: there is nothing to build."""
    for name in ("kcat", "kafkacat"):
        if path := shutil.which(name):
            return [path]
    raise Missing("kcat is not installed (Debian package: kcat)")


def go_command(name, source):
    """A Go program from the module in `source`; its dependencies are pinned by go.sum."""
    require("go")
    version = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True).stdout.strip()
    # Since then it fetches the version that a module asks for.
    if (found := re.match(r"go1\.(\d+)", version)) and int(found[1]) < 21:
        raise Missing(f"{version} is too old: Go 1.21 is needed")

    def build(folder):
        binary = os.path.join(folder, name)
        run(["go", "build", "-mod=readonly", "-trimpath", "-o", binary, "."], cwd=source)

    folder = cached(name, _files(source), build)
    return [os.path.join(folder, name)]


def node_command(name):
    """A client for Node.js; package-lock.json pins it. The program runs beside its packages."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            raise Missing(f"{tool} is not installed")
    source = os.path.join(CONFORMANCE, name)

    def build(folder):
        for path in _files(source):
            shutil.copy(path, folder)
        # No scripts: a package that builds or fetches something of its own has no place here.
        run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], cwd=folder)

    folder = cached(name, _files(source), build)
    return ["node", os.path.join(folder, "client.js")]


def rust_command(name, source):
    """A Rust program from the package in `source`, pinned by its own Cargo.lock."""
    for tool in ("cargo", "cc", "make"):
        if shutil.which(tool) is None:
            raise Missing(f"{tool} is not installed")

    def build(folder):
        # What is compiled is kept, so that a change of the program alone is a build of seconds.
        target = os.path.join(cache_folder(), f"{name}-target")
        manifest = os.path.join(source, "Cargo.toml")
        run(["cargo", "build", "--release", "--locked", "--quiet", "--manifest-path", manifest, "--target-dir", target])
        shutil.copy(os.path.join(target, "release", f"conformance-{name}"), folder)

    folder = cached(name, _files(source), build)
    return [os.path.join(folder, f"conformance-{name}")]


def java_command(kafka_version):
    """The Java program, compiled against and run with one version of kafka-clients."""
    require("java", "javac", "mvn")
    source = os.path.join(CONFORMANCE, "java")

    def build(folder):
        libs = os.path.join(folder, "libs")
        copy_packages(os.path.join(source, "pom.xml"), libs, f"-Dkafka.version={kafka_version}")
        sources = [path for path in _files(source) if path.endswith(".java")]
        classes = os.path.join(folder, "classes")
        run(["javac", "--release", "17", "-Xlint:all", "-d", classes, "-cp", f"{libs}/*", *sources])

    folder = cached(f"java-{kafka_version}", _files(source), build)
    return [*JAVA, "-cp", f"{folder}/classes:{folder}/libs/*", "Client"]


def kafka_tools_command(kafka_version):
    """Kafka's own command line tools, to be followed by a main class: there is nothing to compile."""
    require("java", "javac", "mvn")
    pom = os.path.join(CONFORMANCE, "kafka-tools", "pom.xml")

    def build(folder):
        copy_packages(pom, folder, f"-Dkafka.version={kafka_version}")

    folder = cached("kafka-tools", [pom], build, salt=kafka_version)
    return [*JAVA, "-cp", f"{folder}/*"]


def require(*tools):
    for tool in tools:
        if shutil.which(tool) is None:
            raise Missing(f"{tool} is not installed")


def copy_packages(pom, folder, *properties):
    """Copies the Maven packages that a program of `pom` runs with, which Maven has checked, into `folder`."""
    run([
        "mvn", "--quiet", "--batch-mode", "--file", pom,
        *properties, f"-DoutputDirectory={folder}", "-DincludeScope=runtime",
        "dependency:copy-dependencies",
    ])  # fmt: skip


def run(command, cwd=None):
    """Runs a build step; its output is shown only if it fails."""
    done = subprocess.run(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=BUILD_S_MAX,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command[:4])} ... failed:\n{done.stdout[-4000:]}")


_TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def cached(name, inputs, build, salt="", parent=None):
    """The folder of `name` built from `inputs`, below `parent` or the tests' cache.

    A half-built one is never used: the key is written last.
    """
    key = hashlib.sha256(salt.encode())
    for path in inputs:
        with open(path, "rb") as file:
            # Checkouts that share a cache must not build each other's clients anew, even while they are in use.
            key.update(os.path.relpath(path, _TESTS).encode() + b"\0" + file.read())
    folder = os.path.join(parent or cache_folder(), name)
    key_path = os.path.join(folder, "built-from")
    if os.path.exists(key_path):
        with open(key_path, encoding="ascii") as file:
            if file.read() == key.hexdigest():
                return folder
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    build(folder)
    with open(key_path, "w", encoding="ascii") as file:
        file.write(key.hexdigest())
    return folder


def _files(folder):
    return sorted(
        os.path.join(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if name.endswith((".go", ".mod", ".sum", ".java", ".xml", ".js", ".json", ".rs", ".toml", ".lock"))
    )
