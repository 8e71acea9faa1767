"""What the README tells a newcomer to type, typed: commands, client programs, configuration, endpoints.

It runs where the default ports are nobody's: see `run.py`, which gives the suite a network of its own.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request

from lib import toolchain
from lib.broker import Broker
from rig import WAIT_S_MAX, CaseFailed, CaseSkipped, check, equal

KAFKA, ADMIN = "127.0.0.1:9092", "127.0.0.1:9644"
READY_S_MAX = 1.0
DISK_BYTES_MAX = 256 << 20
# The README's place for data, and that of this test.
DATA_DIR = "/var/lib/ringmq"
COMMAND_S_MAX = 60


class QuickStart(Broker):
    """A broker that is started as the README says, in a folder of its own."""

    def __init__(self, rig, arguments, environment=None):
        self.folder = os.path.join(rig.folder, f"home-{len(rig.brokers)}")
        os.makedirs(self.folder)
        super().__init__(rig.binary, self.folder)
        self.kafka, self.admin = KAFKA, ADMIN
        self._arguments = [text.replace(DATA_DIR, os.path.join(self.folder, "var")) for text in arguments]
        self._environment = environment or {}
        rig.brokers.append(self)
        rig.at_end(self.kill)

    def command(self):
        variables = [f"{name}={value}" for name, value in self._environment.items()]
        return ["env", "-C", self.folder, *variables, self.binary, "server", *self._arguments]


def _readme(first, last):
    """From one heading of the README to another."""
    with open(os.path.join(toolchain.ROOT, "README.md"), encoding="utf-8") as file:
        text = file.read()
    return text[text.index(f"## {first}\n") : text.index(f"## {last}\n")]


def _fenced(text, language):
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    check(found, f"the README has no block of {language}")
    return found.group(1)


def _ports_are_free():
    for address in (KAFKA, ADMIN):
        host, port = address.split(":")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, int(port)))
            except OSError as error:
                raise CaseSkipped(f"{address} is taken, and `unshare --net` is not allowed here") from error


def _finds_ringmq(rig):
    """What the README has a newcomer type first, typed where `make` has built."""
    release = os.path.join(rig.folder, "checkout", "target", "release")
    if not os.path.exists(release):
        os.makedirs(release)
        os.symlink(os.path.abspath(rig.binary), os.path.join(release, "ringmq"))
    (line,) = re.findall(r'^ {4}(export PATH="[^"]+")', _readme("Run it", "Kill a worker"), re.MULTILINE)
    return f"cd {shlex.quote(os.path.join(rig.folder, 'checkout'))}; {line}; cd - >/dev/null\n"


def _type(rig, command, folder=None, python=None):
    """Runs what the README says in a shell that finds `ringmq`, or by `python`; returns what it prints."""
    shell = [python, "-c", command] if python else ["sh", "-c", _finds_ringmq(rig) + command]
    done = subprocess.run(
        shell,
        cwd=folder or rig.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_S_MAX,
    )
    if done.returncode != 0:
        raise CaseFailed(f"{command!r} ends with code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def ready_in_a_second(rig):
    """No configuration, an empty folder. The best of three, since others use the machine, too."""
    _ports_are_free()
    waited_s = []
    for _ in range(3):
        broker = QuickStart(rig, [])
        broker.start()
        with open(broker.log_path, encoding="utf-8") as log:
            told = re.search(r"is ready after ([0-9.]+)(µs|ms|s)\b", log.read())
        check(told, "the broker does not say how long it took to be ready")
        waited_s.append(float(told.group(1)) * {"µs": 1e-6, "ms": 1e-3, "s": 1}[told.group(2)])
        equal(os.listdir(broker.folder).count("ringmq-data"), 1, "folders ./ringmq-data")
        used = _disk_bytes(broker.folder)
        check(used <= DISK_BYTES_MAX, f"{used >> 20} MiB are on the disk of a new broker")
        broker.stop()
        if waited_s[-1] < READY_S_MAX:
            return
    check(False, f"ready after {waited_s} s")


def several_shards(rig):
    """As many logs as shards, and the metadata log: no more room for that."""
    for shards in (3, 8):
        broker = rig.running(shards)
        used = _disk_bytes(broker.data_dir)
        check(used <= DISK_BYTES_MAX, f"{used} bytes are on the disk of a new broker with {shards} shards")
        broker.stop()


def _disk_bytes(folder):
    return int(subprocess.run(["du", "-s", "-B1", folder], capture_output=True, check=True).stdout.split()[0])


def clients(rig):
    """The topic command, then kcat, then the program in Python."""
    _ports_are_free()
    text = _readme("Run it", "Configure it")
    broker = QuickStart(rig, [])
    broker.start()
    for command in re.findall(r"`(ringmq [^`]+)`", text):
        _type(rig, command)
    if shutil.which("kcat") is None:
        raise CaseSkipped("kcat is not installed (Debian package: kcat)")
    lines = [line.strip() for line in text.splitlines() if re.match(r" {4}.*\bkcat ", line)]
    equal(len(lines), 2, "lines with kcat")
    printed = [_type(rig, line) for line in lines]
    equal(printed[-1], "hello\n", "what kcat reads")
    try:
        python = toolchain.librdkafka_command()[0]
    except toolchain.BuildError as error:
        raise CaseSkipped(f"confluent-kafka cannot be installed here: {error}") from None
    equal(_type(rig, _fenced(text, "python"), python=python), "0 b'hello'\n1 b'hello again'\n", "what Python reads")
    broker.stop()


def kill_a_worker(rig):
    """The demonstration, typed: a worker of three is killed, and no line is lost."""
    _ports_are_free()
    if shutil.which("kcat") is None:
        raise CaseSkipped("kcat is not installed (Debian package: kcat)")
    try:
        python = toolchain.librdkafka_command()[0]
    except toolchain.BuildError as error:
        raise CaseSkipped(f"confluent-kafka cannot be installed here: {error}") from None
    broker = QuickStart(rig, [])
    broker.start()
    shell = subprocess.Popen(
        ["sh", "-c", _finds_ringmq(rig) + _fenced(_readme("Kill a worker", "Configure it"), "sh")],
        cwd=toolchain.ROOT,
        env={**os.environ, "PATH": os.pathsep.join([os.path.dirname(python), os.environ["PATH"]])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        # A rebalance, a session that ends, and another rebalance, in Python.
        printed, _ = shell.communicate(timeout=3 * COMMAND_S_MAX)
    finally:
        # The workers, wherever the script ended.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
    check(re.search(r"^100000 lines, \d+ of them counted twice$", printed, re.MULTILINE), f"lines are lost: {printed}")
    check("\n200000 the\n100000 " in printed, f"other words: {printed}")
    broker.stop()


def flags_and_files(rig):
    """The second `make run`, the file, the environment, and the commands about the configuration."""
    _ports_are_free()
    text = _readme("Run it", "Configure it") + _readme("Configure it", "Watch it")
    (arguments,) = re.findall(r'make run ARGS="([^"]+)"', text)
    broker = QuickStart(rig, shlex.split(arguments))
    broker.start()
    check(os.path.exists(os.path.join(broker.folder, "var", "broker.toml")), "--data-dir has no effect")
    broker.stop()

    toml = _fenced(text, "toml")
    (setting,) = re.findall(r"--set ([a-z_.]+=\S+)", toml)
    (variable,) = re.findall(r"environment: (RINGMQ_[A-Z_]+)", toml)
    (command,) = re.findall(r"ringmq server (--config \S+)", toml)
    broker = QuickStart(rig, [*shlex.split(command), "--set", setting], {variable: KAFKA})
    # The CPUs of the README's machine are not those of this one.
    cpu = min(os.sched_getaffinity(0))
    toml = re.sub(r'cpus = "[^"]*"', f'cpus = "{cpu}"', toml).replace(DATA_DIR, os.path.join(broker.folder, "var"))
    file = shlex.split(command)[1]
    with open(os.path.join(broker.folder, file), "w", encoding="utf-8") as written:
        written.write(toml)
    broker.start()
    broker.stop()

    printed = _type(rig, f"ringmq config print {command}", broker.folder)
    for line in toml.splitlines():
        if found := re.match(r"(\w+) = (\S+)", line):
            key, value = found.groups()
            # A CPU list of one CPU is shown as a number.
            shown = rf'"?{re.escape(value.strip(chr(34)))}"?'
            check(re.search(rf"^{key} = {shown} .*{file}", printed, re.MULTILINE), f"{key} is not {value}")
    for command in ("template", "explain log.commit_mode", "check"):
        check(f"`{command}`" in text or f"`ringmq config {command}`" in text, f"the README does not tell of {command}")
        check(_type(rig, f"ringmq config {command}"), f"{command} prints nothing")
    with open(os.path.join(broker.folder, "template.toml"), "w", encoding="utf-8") as written:
        written.write(_type(rig, "ringmq config template"))
    _type(rig, "ringmq config check --config template.toml", broker.folder)


def endpoints_and_targets(rig):
    """Each path under "Watch it" answers, each `make` command is a target."""
    _ports_are_free()
    broker = QuickStart(rig, [])
    broker.start()
    text = _readme("Watch it", "Test it")
    check(ADMIN in text, f"the README does not tell of {ADMIN}")
    paths = re.findall(r"`(/\w+)`", text)
    check(len(paths) >= 5, f"only {paths} are told of")
    for path in paths:
        try:
            with urllib.request.urlopen(f"http://{ADMIN}{path}", timeout=WAIT_S_MAX) as reply:
                check(reply.read(), f"{path} is empty")
        except urllib.error.URLError as error:
            raise CaseFailed(f"{path}: {error}") from None
    broker.stop()
    targets = set(re.findall(r"make ([a-z-]+)", _type(rig, "make help", toolchain.ROOT)))
    for target in re.findall(r"^ {4}make ([a-z-]+)", _readme("Run it", "Read next"), re.MULTILINE):
        check(target == "help" or target in targets, f"`make {target}` is not a target")


CASES = {
    "quick start/ready in a second": ready_in_a_second,
    "quick start/several shards": several_shards,
    "quick start/clients": clients,
    "quick start/kill a worker": kill_a_worker,
    "quick start/flags and files": flags_and_files,
    "quick start/endpoints and targets": endpoints_and_targets,
}
