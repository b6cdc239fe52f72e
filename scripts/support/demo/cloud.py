"""A second stage: an emulator of AWS that judges every call by policy, set up as an administrator would, and a broker of its own."""

import json
import os
import pathlib
import shutil
import subprocess

from demo.stage import ROOT, Failed, install, kill_group, two_free_ports, until

SUPPORT = ROOT / "scripts/support"
ACCOUNT = "123456789012"
ROOT_KEYS = {"AWS_ACCESS_KEY_ID": "AKIAROOTROOTROOT0001", "AWS_SECRET_ACCESS_KEY": "rootsecret"}
BROKER = f"arn:aws:iam::{ACCOUNT}:user/countersign-broker"


def prepare(say):
    """The emulator and AWS's own clients, installed once; gives the directories of their programs."""
    python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else "python3"
    if subprocess.run([python, "-c", "import ensurepip"], stderr=subprocess.DEVNULL).returncode != 0:
        install(["python3-venv"], say)
    cache = pathlib.Path("/var/cache") if os.geteuid() == 0 else pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    return [environment(name, cache / "countersign/python") for name in ("ministack", "aws-clients")]


def environment(name, cache):
    made = subprocess.run([SUPPORT / "python-env.sh", SUPPORT / f"{name}.txt", cache], stdout=subprocess.PIPE, text=True)
    if made.returncode != 0:
        raise Failed(f"{name} could not be installed")
    return pathlib.Path(made.stdout.strip())


class Cloud:
    """What runs for the chapter about AWS, and how the account's owner looks at it."""

    def __init__(self, stage, ministack, clients):
        self.stage, self.ministack, self.clients = stage, ministack, clients
        self.dir = stage.dir / "aws"
        self.state = self.dir / "state"
        self.broker = None

    def set_up(self):
        self.stage.say("starting an emulator of AWS, and a broker: countersign dev examples/aws")
        start = [SUPPORT / "ministack.sh", "start", self.stage.dir / "ministack", self.ministack]
        started = subprocess.run(start, stdout=subprocess.PIPE, text=True)
        if started.returncode != 0:
            raise Failed("the emulator of AWS did not start")
        self.aws_url = started.stdout.strip()
        self._copy_the_example()
        self._prepare_the_account()
        self._start_broker()

    def _copy_the_example(self):
        shutil.copytree(ROOT / "examples/aws", self.dir, ignore=shutil.ignore_patterns("state"))
        port = two_free_ports()
        self.url = f"http://127.0.0.1:{port}"
        config = self.dir / "countersign.toml"
        text = config.read_text().replace("127.0.0.1:7480", f"127.0.0.1:{port}").replace("111111111111", ACCOUNT)
        here = "".join(f'{service} = "{self.aws_url}"\n' for service in ("sts", "iam", "canary"))
        config.write_text(f"{text}\n[aws.endpoints]\n{here}")

    def _prepare_the_account(self):
        """Word for word what `countersign target init-iam` prints, by the account's owner, with the AWS CLI."""
        print_it = [self.stage.program, "target", "init-iam", "exports", "--broker", BROKER, "--json"]
        environment = {**self.stage.as_operator_of(self), "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
        printed = subprocess.run(print_it, cwd=self.dir, env=environment, stdout=subprocess.PIPE, text=True)
        if printed.returncode != 0:
            raise Failed("init-iam does not print what AWS needs")
        needed = json.loads(printed.stdout)
        guard, role = needed["guard"], needed["lease_role"]
        name = lambda arn: ("--role-name", arn.rsplit("/", 1)[1])
        self.owner("iam", "create-policy", "--policy-name", "guard-exports", "--path", "/countersign/", *document("policy", guard["first_version"]))
        self.owner(
            "iam", "create-role", *name(role["arn"]), "--path", "/countersign/", "--permissions-boundary", guard["arn"],
            *document("assume-role-policy", role["trust_policy"]),
        )
        work = {"Effect": "Allow", "Action": ["s3:*"], "Resource": "*"}
        rights = {**role["must_also_allow"], "Statement": [work, *role["must_also_allow"]["Statement"]]}
        self.owner("iam", "put-role-policy", *name(role["arn"]), "--policy-name", "work", *document("policy", rights))
        user = ("--user-name", "countersign-broker")
        self.owner("iam", "create-user", *user)
        self.owner("iam", "put-user-policy", *user, "--policy-name", "broker", *document("policy", needed["broker"]["policy"]))
        key = json.loads(self.owner("iam", "create-access-key", *user))["AccessKey"]
        self.broker_keys = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
        for bucket in ("orders-exports", "orders-exports-archive"):
            self.owner("s3", "mb", f"s3://{bucket}")

    def _start_broker(self):
        with open(self.stage.dir / "aws-broker.log", "ab") as log:
            self.broker = subprocess.Popen(
                [self.stage.program, "dev", self.dir], env={**os.environ, **self.broker_keys}, stdout=log, stderr=log, start_new_session=True
            )
        until("the broker for AWS is ready", lambda: self.stage.ready(self.broker, self.url), 60)

    def tear_down(self):
        if self.broker:
            kill_group(self.broker)
        subprocess.run([SUPPORT / "ministack.sh", "stop", self.stage.dir / "ministack"])

    # --- as whom ---

    @property
    def as_agent(self):
        """The agent's environment. That AWS is an emulator here is all that it is told of AWS."""
        environment = self.stage.as_agent_of(self)
        return {**environment, "AWS_ENDPOINT_URL": self.aws_url, "PATH": f"{self.clients}:{environment['PATH']}"}

    def as_holder(self, keys):
        """Somebody who has nothing but these keys."""
        plain = {name: self.as_agent[name] for name in ("PATH", "AWS_ENDPOINT_URL")}
        return {**plain, **keys, "AWS_DEFAULT_REGION": "eu-central-1", "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(self.dir)}

    def owner(self, *arguments):
        """The owner of the account calls AWS."""
        command = [self.clients / "aws", *arguments]
        done = subprocess.run(command, env=self.as_holder(ROOT_KEYS), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise Failed(f"aws {' '.join(arguments[:2])}: {done.stderr.strip()}")
        return done.stdout

    def objects(self, bucket="orders-exports"):
        """What is in the bucket."""
        listed = self.owner("s3", "ls", "--recursive", f"s3://{bucket}")
        return [line.split()[-1] for line in listed.splitlines()]


def document(kind, value):
    return (f"--{kind}-document", json.dumps(value))
