#!/usr/bin/env python3
"""A case that is skipped where everything must run (CI=true) is a failure, but for what is written down with its reason:
the rules of the runners in conformance/ and system/. Starts no broker."""

import contextlib
import importlib.util
import io
import os
import sys
import unittest
from unittest import mock

HERE = os.path.dirname(os.path.abspath(__file__))


def load(suite):
    """The runner of a suite as a module; both files have the same name."""
    path = os.path.join(HERE, suite, "run.py")
    spec = importlib.util.spec_from_file_location(f"run_{suite}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


conformance, system = load("conformance"), load("system")
from lib import cases, worker  # noqa: E402  (the runners have set the path)
from rig import ACCEPTED_LACKS, CaseSkipped  # noqa: E402


def outcome(report, action, ci):
    """passed, failed, skipped after the action, which is reported."""
    with mock.patch.dict(os.environ, {"CI": "true" if ci else ""}), contextlib.redirect_stdout(io.StringIO()):
        action()
    return report.passed, report.failed, report.skipped


class Client(unittest.TestCase):
    def of(self, name, ci):
        def skips():
            raise worker.ClientSkipped("it is too old")

        report = conformance.ClientReport(conformance.Target(None, "nowhere:1"))
        return outcome(report, lambda: report.run(name, skips), ci)

    def test_a_skip_is_a_failure_where_everything_must_run(self):
        self.assertEqual(self.of("kcat metadata", ci=False), (0, 0, 1))
        self.assertEqual(self.of("kcat metadata", ci=True), (0, 1, 0))

    def test_but_for_what_is_written_down(self):
        for name, why in cases.MAY_SKIP.items():
            self.assertEqual(self.of(name, ci=True), (0, 0, 1))
            self.assertTrue(why)

    def test_a_program_cannot_skip_at_all(self):
        client = worker.Worker([sys.executable, "-c", "input(); print('skip\\tno time')"], os.devnull)
        with self.assertRaisesRegex(worker.ClientFailed, "unknown line: skip"):
            client.run("roundtrip", "nowhere:1", "topic", {}, 60, None)

    def test_the_tables_name_cases_that_there_are(self):
        every = list(cases._all_cases(cases.ALL_STRATEGIES))
        functions = {case.function for case in every}
        for client, named in [*cases.LACKS.items(), *cases.HAS.items()]:
            self.assertLessEqual(named, functions, client)
        for client, names in cases.SHORT.items():
            self.assertLessEqual(set(names), {case.name for case in cases.cases_of(client, "full")}, client)
        own = {f"{client} {case.name}" for client in conformance.CLIENTS for case in cases.cases_of(client, "full")}
        self.assertLessEqual(set(cases.MAY_SKIP), own)


class System(unittest.TestCase):
    def of(self, lack, ci):
        def skips(_):
            raise CaseSkipped("it is not here", lack)

        report = conformance.Report()
        rig = mock.Mock(brokers=[])
        return outcome(report, lambda: system.run("a case", skips, rig, report), ci)

    def test_a_skip_is_a_failure_where_everything_must_run(self):
        self.assertEqual(self.of(None, ci=False), (0, 0, 1))
        self.assertEqual(self.of(None, ci=True), (0, 1, 0))

    def test_but_for_what_is_written_down(self):
        for lack, why in ACCEPTED_LACKS.items():
            self.assertEqual(self.of(lack, ci=True), (0, 0, 1))
            self.assertTrue(why)


if __name__ == "__main__":
    unittest.main()
