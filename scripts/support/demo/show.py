"""What is shown: the story with everything's real output, or one line a step."""

import re
import shlex
import subprocess
import sys
import threading

from demo.stage import Failed, until


class Show:
    """Tells chapters and keeps score. In check mode only the score is printed, and what led to a failure."""

    def __init__(self, check, step):
        self.check, self.step = check, step
        self.chapter, self.failures, self.told = 0, 0, []
        self.lock = threading.Lock()

    def say(self, line):
        """Progress of the set-up."""
        print(f".. {line}", file=sys.stderr if self.check else sys.stdout, flush=True)

    def begin(self, title, words):
        if self.step and self.chapter:
            input("-- Enter for the next chapter ")
        self.chapter += 1
        self.told = []
        self.tell(f"\n=== {self.chapter}. {title} ===\n{words}\n")

    def tell(self, line):
        with self.lock:
            if self.check:
                self.told.append(line)
            else:
                print(line, flush=True)

    def holds(self, what, condition, found=""):
        """Keeps score of one step."""
        if condition:
            line = f"ok    {self.chapter}  {what}"
            print(line if self.check else f"   {line}", flush=True)
            return
        raise Failed(f"{what}\n   found: {found}")

    def fail(self, why, log):
        """A step that does not hold, or a chapter that could not be told to its end, and what led to it."""
        self.failures += 1
        print(f"FAIL  {self.chapter}  {str(why).splitlines()[0]}", flush=True)
        tail = ["-- the broker's log ends with", *log.splitlines()[-25:]] if log else []
        print("\n".join([*self.told, str(why), *tail]), file=sys.stderr, flush=True)

    # --- commands ---

    def command(self, stage, line, environment, shown=None):
        """Runs a command line to its end, showing it and what it says."""
        return self.launch(stage, line, environment, shown).finish()

    def launch(self, stage, line, environment, shown=None, live=True):
        """Starts a command line; what it says is shown as it comes, or when it has ended."""
        self.tell(f"$ {shown or line}")
        return Running(self, stage.start(shlex.split(line), env=environment), line, live)


class Running:
    """A command that runs, and what it has said so far."""

    def __init__(self, show, process, line, live):
        self.show, self.process, self.line, self.live, self.lines = show, process, line, live, []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if self.live:
                self.show.tell(f"  {self.lines[-1]}")

    @property
    def said(self):
        return "\n".join(self.lines)

    def until_it_says(self, pattern, seconds=30):
        def found():
            match = re.search(pattern, self.said)
            if not match and self.process.poll() is not None and not self.reader.is_alive():
                raise Failed(f"`{self.line}` ended with code {self.process.returncode} and never said {pattern}: {self.said}")
            return match

        return until(f"`{self.line}` says {pattern}", found, seconds).group(1)

    def finish(self, seconds=120):
        try:
            self.code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"`{self.line}` does not end within {seconds} s") from None
        self.reader.join(5)
        if not self.live:
            self.show.tell("\n".join(f"  {line}" for line in self.lines))
        return self
