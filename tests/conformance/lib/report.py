"""What a suite prints: one line per case, and the counts at the end."""

import time


class Report:
    """Prints and counts."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def succeed(self, name, started):
        """`started`: of the monotonic clock."""
        self.passed += 1
        print(f"PASS {name} ({time.monotonic() - started:.1f} s)", flush=True)

    def skip(self, name, reason):
        self.skipped += 1
        print(f"SKIP {name} ({reason})", flush=True)

    def fail(self, name, reason, brokers=()):
        """With the end of the log of each of `brokers`."""
        self.failed += 1
        print(f"FAIL {name} ({reason})", flush=True)
        for broker in brokers:
            print(f"  --- end of {broker.log_path}", flush=True)
            for line in broker.log_tail().splitlines():
                print(f"  {line}")

    def close(self):
        """Prints the last line, which `.ci/run` adds up; returns the exit code."""
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        return 1 if self.failed else 0
