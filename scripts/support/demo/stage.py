"""The stage: packages, the program, a PostgreSQL server with the shop's data, the broker. All real, all in one temporary directory."""

import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

from demo.relay import Relay

ROOT = pathlib.Path(__file__).resolve().parents[3]
POSTGRES = ROOT / "scripts/support/postgres.sh"
BROKER_ROLE = "countersign_broker"


class Failed(Exception):
    """Something did not work or does not hold; the words say what."""


def until(what, condition, seconds):
    """Waits for a condition, and gives what it gave."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def prepare(say):
    """Installs what is missing and builds the program; gives its path."""
    if not shutil.which("cc"):
        install(["gcc", "libc6-dev"], say)
    if not shutil.which("cargo"):
        raise Failed("there is no cargo; install a Rust toolchain, for instance from https://rustup.rs")
    target = target_dir()
    first = not (target / "debug/countersign").exists()
    say("building countersign" + (" (the first time this takes minutes)" if first else ""))
    build = subprocess.Popen(["cargo", "build", "--locked", "--bin", "countersign"], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        if not list(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb")) or not shutil.which("psql"):
            install(["postgresql"], say)
        if build.wait() != 0:
            raise Failed("the build failed")
    finally:
        if build.poll() is None:
            build.terminate()
            build.wait()
    return target / "debug/countersign"


def target_dir():
    metadata = ["cargo", "metadata", "--locked", "--no-deps", "--format-version=1"]
    answer = subprocess.run(metadata, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return pathlib.Path(json.loads(answer.stdout)["target_directory"])


def install(packages, say):
    """Debian's packages. PostgreSQL's would also start a server of its own; ours is enough."""
    if not shutil.which("apt-get"):
        raise Failed(f"install {' '.join(packages)} first; there is no apt-get here to do it")
    root = [] if os.geteuid() == 0 else ["sudo"]
    if root and not shutil.which("sudo"):
        raise Failed(f"run `apt-get install {' '.join(packages)}` as root first")
    say(f"installing {' '.join(packages)} with apt-get")
    run = lambda *command: subprocess.run([*root, *command], check=True, stdout=subprocess.DEVNULL)
    aside = pathlib.Path("/etc/postgresql-common/createcluster.d/countersign-demo.conf")
    run("mkdir", "-p", str(aside.parent))
    run("sh", "-c", f"echo 'create_main_cluster = false' > {aside}")
    try:
        run("apt-get", "update", "-q")
        apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
        run(*apt, "-q", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "--no-install-recommends", *packages)
    except subprocess.CalledProcessError as error:
        raise Failed(f"apt-get failed with code {error.returncode}") from None
    finally:
        run("rm", "-f", str(aside))


class Stage:
    """Everything that runs, and how to look at it."""

    def __init__(self, program, say):
        self.program, self.say = program, say
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="countersign-demo-"))
        self.dir.chmod(0o711)
        self.shop = self.dir / "shop"
        self.state = self.shop / "state"
        self.broker = self.relay = None
        self.started = []

    # --- up and down ---

    def set_up(self):
        self.say("starting PostgreSQL with the shop's data")
        self._start_postgres()
        self.relay = Relay(self.postgres_port)
        self._copy_the_example()
        self.say("starting the broker: countersign dev examples/shop")
        self.start_broker()

    def _start_postgres(self):
        start = subprocess.run([POSTGRES, "start", self.dir / "postgres"], stdout=subprocess.PIPE, text=True)
        if start.returncode != 0:
            raise Failed("PostgreSQL did not start")
        url = urllib.parse.urlsplit(start.stdout.strip())
        self.postgres_port = url.port
        self.superuser = {"PGHOST": url.hostname, "PGPORT": str(url.port), "PGUSER": url.username, "PGPASSWORD": url.password}
        self.postgres_version = self.sql("SHOW server_version", "postgres")
        self.sql("CREATE DATABASE shop", "postgres")
        prepare = self.dir / "prepare.sql"
        with prepare.open("w") as file:
            subprocess.run([self.program, "target", "init-sql", "shop", ROOT / "examples/shop"], stdout=file, check=True)
        for file in [prepare, ROOT / "examples/shop/database.sql"]:
            self._psql("shop", "-q", "-f", str(file))
        self.broker_password = secrets.token_urlsafe(24)
        self.sql(f"ALTER ROLE {BROKER_ROLE} PASSWORD '{self.broker_password}'")

    def _copy_the_example(self):
        shutil.copytree(ROOT / "examples/shop", self.shop, ignore=shutil.ignore_patterns("state"))
        self.private(self.shop / "broker-password", self.broker_password)
        port = two_free_ports()
        self.url = f"http://127.0.0.1:{port}"
        config = self.shop / "countersign.toml"
        text = config.read_text()
        for old, new in [("127.0.0.1:7480", f"127.0.0.1:{port}"), ("port = 5432", f"port = {self.relay.port}")]:
            if old not in text:
                raise Failed(f"examples/shop/countersign.toml no longer says {old}")
            text = text.replace(old, new)
        config.write_text(text)
        agents = (self.shop / "catalog/agents.toml").read_text()
        key = re.search(r"^# (csk_\w+)\n\[agents\.reporter\]", agents, re.M)
        if not key:
            raise Failed("catalog/agents.toml no longer shows the key of the agent reporter")
        self.agent_key = self.private(self.dir / "reporter.key", key.group(1))

    @staticmethod
    def private(path, text):
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        return path

    def start_broker(self):
        with open(self.dir / "broker.log", "ab") as log:
            self.broker = subprocess.Popen([self.program, "dev", self.shop], stdout=log, stderr=log, start_new_session=True)
        until("the broker is ready", lambda: self.ready(self.broker, self.url), 60)
        return self.broker

    @staticmethod
    def ready(broker, url):
        """Whether a broker serves; it is a failure when it has ended instead."""
        if broker.poll() is not None:
            raise Failed(f"the broker ended with code {broker.returncode}")
        try:
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with direct.open(f"{url}/readyz", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def broker_log(self):
        try:
            text = (self.dir / "broker.log").read_text(errors="replace")
        except OSError:
            return ""
        return re.sub(r"\x1b\[[0-9;]*m", "", text)

    def tear_down(self):
        """Leaves nothing: ends what was started, removes the directory."""
        for process in [*self.started, self.broker]:
            if process:
                kill_group(process)
        if self.relay:
            self.relay.close()
        subprocess.run([POSTGRES, "stop", self.dir / "postgres"])
        shutil.rmtree(self.dir, ignore_errors=True)

    # --- commands ---

    def environment(self, url, token):
        """A plain environment, with nothing of ours, of PostgreSQL's or of AWS's in it."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("COUNTERSIGN_", "PG", "AWS_"))}
        path = f"{self.program.parent}:{plain.get('PATH', '/usr/bin:/bin')}"
        return {**plain, "PATH": path, "COUNTERSIGN_ADDR": url, "COUNTERSIGN_TOKEN_FILE": str(token), "LC_ALL": "C.UTF-8"}

    def as_agent_of(self, broker):
        return self.environment(broker.url, self.agent_key)

    def as_operator_of(self, broker):
        return self.environment(broker.url, broker.state / "operator.token")

    @property
    def as_agent(self):
        return self.as_agent_of(self)

    @property
    def as_operator(self):
        return self.as_operator_of(self)

    def output(self, command, environment):
        """What a command of ours prints."""
        done = subprocess.run([self.program, *command], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise Failed(f"`countersign {' '.join(command)}`: {done.stderr.strip()}")
        return done.stdout

    def start(self, command, **options):
        """Starts a command in a process group of its own; it ends with the stage at the latest."""
        process = subprocess.Popen(
            command, cwd=self.dir, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, **options,
        )
        self.started.append(process)
        return process

    # --- what the superuser sees ---

    def sql(self, statement, database="shop"):
        return self._psql(database, "-Atc", statement).strip()

    def _psql(self, database, *arguments):
        psql = ["psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", database, *arguments]
        environment = {**os.environ, **self.superuser, "LC_ALL": "C.UTF-8"}
        answer = subprocess.run(psql, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if answer.returncode != 0:
            raise Failed(f"psql: {answer.stderr.strip()}")
        return answer.stdout

    def roles(self):
        """The login roles of leases that exist at this moment."""
        return self.sql(r"SELECT rolname FROM pg_roles WHERE rolname LIKE 'jit\_%' ORDER BY 1").split()

    def sessions(self, role):
        return int(self.sql(f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'"))


def kill_group(process, how=signal.SIGKILL):
    """Ends a process group that this script started."""
    try:
        os.killpg(process.pid, how)
    except ProcessLookupError:
        pass
    process.wait()
    if process.stdout:
        process.stdout.close()


def two_free_ports():
    """A port whose successor is free too: the embedded identity provider takes that one. The usual one if possible."""
    candidates = [7480]
    for _ in range(50):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            candidates.append(probe.getsockname()[1])
    for port in candidates:
        try:
            for number in (port, port + 1):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", number))
            return port
        except (OSError, OverflowError):
            continue
    raise Failed("no two free ports in a row")
