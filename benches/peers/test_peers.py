"""The arithmetic and the table of the comparison, and the verdicts of benches/groups, without a broker:
`make bench-peers-test`."""

import contextlib
import importlib.util
import io
import json
import os
import sys
import tempfile
import unittest
from types import SimpleNamespace
from unittest import mock

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "tests", "conformance")]
import charts  # noqa: E402  (the path is set above)
import machine  # noqa: E402
import page  # noqa: E402
import run as peers_run  # noqa: E402
import scenarios  # noqa: E402
import summary  # noqa: E402
import table  # noqa: E402
from brokers import java  # noqa: E402
from brokers.kafka import Kafka  # noqa: E402
from brokers.peer import Peer  # noqa: E402
from generator import Generator, GeneratorFailed  # noqa: E402
from host import RETENTION_BYTES, digest  # noqa: E402
from machine import cpu_list  # noqa: E402
from session import room_needed, rotated  # noqa: E402


def groups():
    """benches/groups/run.py, whose name is that of ours."""
    spec = importlib.util.spec_from_file_location("groups_run", os.path.join(HERE, "..", "groups", "run.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


groups_run = groups()


def run(system, number, rate, p99_ms=None, reasons=(), scenario="closed"):
    ns = None if p99_ms is None else int(p99_ms * 1e6)
    return {
        "round": number, "scenario": scenario, "system": system, "valid": not reasons, "reasons": list(reasons),
        "records_per_s": rate, "bytes_per_s": rate * 1000, "bytes_all": rate * 30_000, "steal_share": 0.0,
        "latency": ns and {"p50_ns": ns // 10, "p99_ns": ns, "p99_9_ns": ns * 2, "samples": 1_000_000},
        "curve": ns and [[0.0, ns // 20], [0.99, ns]], "per_second": [rate] * 3,
        "broker": {"cpu_s": 3.0, "resident_bytes_after": 1 << 30}, "stages": None,
    }  # fmt: skip


def result(runs):
    return {
        "date": "2026-01-01 00:00 UTC", "complete": True, "seconds": 30, "warmup_s": 5, "preheat_s": 20,
        "alternations": 3, "broker_cpus": [1], "load_cpus": [0], "rate": 20000, "probe": [], "machine": {},
        "load_average_before": 0.1, "ours": "ours", "missing": {}, "notes": [], "raw": [], "ceilings": {}, "runs": runs,
        "systems": [
            {"key": key, "name": key, "version": "1", "durability": "d", "label": f"{key} 1, d", "configuration": "c"}
            for key in ("theirs", "ours")
        ],
        "scenarios": [
            {"key": "closed", "title": "as fast as it goes", "loop": "closed", "latency": "", "flags": ""},
            {"key": "open", "title": "steady", "loop": "open", "latency": "response", "flags": ""},
        ],
    }  # fmt: skip


def good():
    """RingMQ is 2, 4 and 3 times as fast, and at p99 half as good in each alternation."""
    theirs = [run("theirs", n, rate) for n, rate in enumerate((100, 100, 200))]
    ours = [run("ours", n, rate) for n, rate in enumerate((200, 400, 600))]
    for number in range(3):
        theirs.append(run("theirs", number, 20000, 1.0, scenario="open"))
        ours.append(run("ours", number, 20000, 2.0, scenario="open"))
    return result(theirs + ours)


def row_of(found, scenario, system):
    return next(r for r in found if (r.scenario["key"], r.system["key"]) == (scenario, system))


class Arithmetic(unittest.TestCase):
    def test_ratios_are_taken_run_by_run(self):
        row = row_of(summary.rows(good()), "closed", "theirs")
        self.assertEqual(row.records_per_s, summary.Spread(100, 100, 200))
        # The ratio of the medians would be 4.
        self.assertEqual(row.advantage, {"records/s": summary.Spread(3.0, 2.0, 4.0)})
        self.assertAlmostEqual(row.cpu_s_per_gb.median, 3.0 / (100 * 30_000 / 1e9))

    def test_a_latency_that_is_longer_is_a_loss(self):
        found = summary.rows(good())
        self.assertEqual(row_of(found, "open", "theirs").advantage["p99"], summary.Spread(0.5, 0.5, 0.5))
        self.assertEqual(
            summary.losses(found),
            ["steady, p50: 2.00 times behind theirs 1, d", "steady, p99: 2.00 times behind theirs 1, d"],
        )
        self.assertEqual(summary.void_reasons(good(), found), [])

    def test_an_invalid_run_is_said_and_not_compared(self):
        whole = good()
        whole["runs"][1] = run("theirs", 1, 5, reasons=["the rate was missed"])
        found = summary.rows(whole)
        row = row_of(found, "closed", "theirs")
        self.assertEqual((row.runs, row.valid), (3, 2))
        self.assertEqual(row.advantage["records/s"], summary.Spread(2.5, 2.0, 3.0))
        self.assertIn("2 of 3 runs valid: the rate was missed", "\n".join(table.remarks(whole, found)))

    def test_a_row_without_a_valid_run_voids_the_comparison_and_stays_in_the_table(self):
        whole = good()
        for number in range(3):
            whole["runs"][number] = run("theirs", number, 5, reasons=["the rate was missed"])
        found = summary.rows(whole)
        self.assertEqual(len(summary.void_reasons(whole, found)), 1)
        text = table.markdown(whole)
        self.assertIn("must not be used", text)
        self.assertIn("INVALID (reached 5): the rate was missed", text)
        self.assertIn("MUST NOT BE USED", page.page(whole))

    def test_what_was_stopped_early_is_shown_and_void(self):
        whole = {**result([]), "complete": False, "rate": None}
        self.assertIn("it ended before its time", table.markdown(whole))
        self.assertIn("MUST NOT BE USED", page.page(whole))

    def test_a_peer_that_is_missing_has_its_line(self):
        whole = {**good(), "missing": {"Other": "java is not installed"}}
        self.assertIn("Other: not measured: java is not installed", table.markdown(whole))
        self.assertEqual(len(summary.void_reasons(whole, summary.rows(whole))), 1)

    def test_rates_are_rounded_down_to_1_2_or_5(self):
        for limit, rate in [(1, 1), (9, 5), (19_999, 10_000), (20_000, 20_000), (75_000, 50_000), (0.2, 1)]:
            self.assertEqual(summary.nice_rate(limit), rate, limit)

    def test_stages_of_a_percentile_are_those_of_the_bucket_that_holds_it(self):
        stages = {
            "names": ["queue", "device"],
            "buckets": [
                {"count": 500, "sum_us": [0.0, 500.0]},
                {"count": 485, "sum_us": [970.0, 0.0]},
                {"count": 10, "sum_us": [30.0, 10.0]},
                {"count": 5, "sum_us": [0.0, 990.0]},
            ],
        }
        # The 500th of a thousand, not what lies above it; the 990th, not the five that are slower.
        self.assertEqual(summary.stage_shares(stages, 0.5), {"queue": 0.0, "device": 1.0})
        self.assertEqual(summary.stage_shares(stages, 0.99), {"queue": 0.75, "device": 0.25})
        self.assertEqual(summary.stage_shares(stages, None), {"queue": 0.4, "device": 0.6})
        self.assertEqual(summary.stage_shares({"names": ["queue"], "buckets": []}, 0.5), {})

    def test_stages_are_those_of_the_run_in_the_middle_by_the_percentile_in_question(self):
        whole = good()
        ours = [one for one in whole["runs"] if (one["scenario"], one["system"]) == ("open", "ours")]
        # By records/s the second is in the middle, by p50 the first, by p99 the third.
        told = [(1, 2e7, 9e7, 0.1), (2, 1e7, 7e7, 0.2), (3, 3e7, 8e7, 0.3)]
        for one, (rate, p50, p99, share) in zip(ours, told, strict=True):
            one["records_per_s"] = rate
            one["latency"] = {**one["latency"], "p50_ns": p50, "p99_ns": p99}
            sums = [share, 1 - share]
            one["stages"] = {"names": ["queue", "device"], "buckets": [{"count": 1, "sum_us": sums}]}
        stages = row_of(summary.rows(whole), "open", "ours").stages
        self.assertEqual(
            {name: shares["queue"] for name, shares in stages.items()}, {"all requests": 0.2, "p50": 0.1, "p99": 0.3}
        )
        said = "70% of the broker's time for the requests around its p99 is its stage `device`"
        self.assertIn(said, summary.losses(summary.rows(whole))[1])

    def test_what_was_won_and_lost_is_undecided(self):
        whole = good()
        for one in whole["runs"]:
            if (one["scenario"], one["system"], one["round"]) == ("open", "ours", 2):
                one["latency"]["p99_ns"] = 500_000
        found = summary.rows(whole)
        self.assertEqual(row_of(found, "open", "theirs").advantage["p99"], summary.Spread(0.5, 0.5, 2.0))
        self.assertEqual(summary.losses(found), ["steady, p50: 2.00 times behind theirs 1, d"])
        self.assertEqual(summary.undecided(found), ["steady, p99: 0.50× (0.50–2.00) beside theirs 1, d"])
        self.assertIn("p99 **0.50×** (0.50–2.00) undecided", table.markdown(whole))
        self.assertIn('<span class="badge ">0.50×</span> <span class="dim">(0.50–2.00) undecided', page.page(whole))

    def test_a_run_that_slows_down_is_told_in_thirds(self):
        whole = {**good(), "warmup_s": 2, "seconds": 6}
        self.assertEqual(summary.drifts(summary.rows(whole)), [])
        for one in whole["runs"]:
            if one["scenario"] == "closed":
                # Two seconds of warming up, and one that belongs to nothing.
                one["per_second"] = [9, 9, 400, 400, 300, 300, 200, 200, 9]
                if one["system"] == "ours":
                    one["per_second"] = [900] * 9
        self.assertEqual(
            summary.drifts(summary.rows(whole)),
            [
                "as fast as it goes, theirs 1, d: first third 400 (400–400), last third 200 (200–200) records/s: "
                "RingMQ is **2.25×**, then **4.50×**"
            ],
        )
        self.assertIn("What changed by more than 20% within a run:", table.markdown(whole))
        self.assertIn("<h2>What changed by more than 20% within a run</h2>", page.page(whole))
        # Stopped early: too short to be told.
        self.assertIsNone(summary.thirds_of(whole, {"per_second": [9, 9, 1, 1]}))

    def test_a_probe_that_is_invalid_is_named(self):
        whole = {**good(), "probe": [{"system": "theirs", "valid": False, "reasons": ["it stood still"]}]}
        said = table.remarks(whole, summary.rows(whole))
        self.assertEqual(len(said), 1)
        self.assertRegex(said[0], "theirs: .* found without it: it stood still")

    def test_each_system_comes_first_once(self):
        self.assertIn("in the same order in each alternation", table.markdown(good()))
        self.assertIn("another system came first", table.markdown({**good(), "rotated": True}))
        orders = ["".join(rotated("abc", number)) for number in range(4)]
        self.assertEqual(orders, ["abc", "bca", "cab", "abc"])

    def test_the_room_for_a_run_is_what_the_system_wrote_before(self):
        self.assertEqual(room_needed(False, 1e9, 30), 45e9)
        self.assertEqual(room_needed(True, 1e9, 30), RETENTION_BYTES)

    def test_the_device_is_its_fastest_and_its_smallest_write(self):
        def write(size, depth, rate):
            latency = {"p50_ns": 1, "p99_ns": 2, "p99_9_ns": 3, "samples": 1_000_000}
            return {"direction": "durable_write", "bytes": size, "depth": depth, "bytes_per_s": rate, "latency": latency}

        whole = {"raw": [[write(4096, 1, 10), write(4096, 4, 30), write(65536, 4, rate)] for rate in (70, 90, 80)]}
        fastest, smallest = summary.raw_rows(whole)
        self.assertEqual((fastest["bytes"], fastest["bytes_per_s"]), (65536, summary.Spread(80, 70, 90)))
        self.assertEqual((smallest["bytes"], smallest["depth"]), (4096, 1))


class Digest(unittest.TestCase):
    def test_the_revision_is_that_of_the_program(self):
        one = {
            "seconds": 30, "records_per_s": 1.0, "bytes_per_s": 2.0, "invalid": [], "ledger": {"acked": 9},
            "timeline": [], "broker": None, "stages": None, "curves": {},
        }  # fmt: skip
        found = digest(scenarios.CORE[0], {"runs": [one], "passed": True, "generator": {"revision": "abc"}})
        self.assertEqual(found["revision"], "abc")

    def test_a_fault_of_the_ledger_is_fatal_and_a_missed_rate_is_not(self):
        scenario = scenarios.CORE[0]
        one = {
            "seconds": 30, "records_per_s": 1.0, "bytes_per_s": 2.0, "invalid": [], "ledger": {"acked": 9, "read": 0, "lost": 0},
            "timeline": [{"records": 1, "bytes": 8}], "broker": None, "stages": None, "curves": {},
        }  # fmt: skip
        ok = digest(scenario, {"runs": [one], "passed": True, "finding": None})
        self.assertEqual((ok["valid"], ok["fatal"], ok["reasons"]), (True, False, []))
        missed = digest(scenario, {"runs": [{**one, "invalid": ["missed"]}], "passed": False, "finding": None})
        self.assertEqual((missed["valid"], missed["fatal"], missed["reasons"]), (False, False, ["missed"]))
        lost = digest(scenario, {"runs": [{**one, "ledger": {"acked": 9, "lost": 2}}], "passed": False})
        self.assertEqual((lost["fatal"], lost["reasons"]), (True, ["ledger: 2 lost"]))
        none = digest(scenario, {"runs": [], "passed": False, "finding": "stopped: no"})
        self.assertEqual((none["fatal"], none["reasons"]), (True, ["stopped: no"]))

    def test_records_of_one_batch_are_one_sample_of_what_its_reader_waited(self):
        scenario = next(s for s in scenarios.FULL if s.latency == "end_to_end")
        one = {
            "seconds": 30, "records_per_s": 20_000.0, "requests_per_s": 2_000.0, "bytes_per_s": 2.0, "invalid": [],
            "ledger": {"acked": 9, "read": 9}, "timeline": [{"records": 1, "bytes": 8}], "broker": None, "stages": None,
            "curves": {"end_to_end": []}, "end_to_end": {"p50_ns": 1, "p99_ns": 2, "p99_9_ns": 3, "samples": 600_000},
        }  # fmt: skip
        found = digest(scenario, {"runs": [one], "passed": True})
        self.assertEqual((found["latency"]["samples"], found["latency"]["p99_ns"]), (60_000, 2))

    def test_the_speed_of_catching_up_is_that_of_the_backlogs_reader(self):
        scenario = next(s for s in scenarios.FULL if s.loop == "catch-up")
        run = {"seconds": 8, "backlog": {"records": 6000, "bytes": 60_000, "read_after_ns": 1_500_000_000}}
        self.assertEqual(scenarios.rate_of(scenario, [run]), (4000.0, 40_000.0))
        # Not caught up: what it read in all the time.
        run["backlog"]["read_after_ns"] = None
        self.assertEqual(scenarios.rate_of(scenario, [run]), (750.0, 7500.0))


class Peers(unittest.TestCase):
    SAID = 'openjdk version "{}" 2025-04-15\nOpenJDK Runtime Environment (build {})\nOpenJDK 64-Bit Server VM\n'

    def test_the_version_of_a_java_is_read(self):
        for version, major in [("17.0.15", 17), ("1.8.0_402", 8), ("25", 25), ("21-ea", 21)]:
            found = java.parse("j", self.SAID.format(version, "b"))
            self.assertEqual(found, java.Java("j", major, "OpenJDK Runtime Environment (build b)"))
        self.assertIsNone(java.parse("j", "not found"))
        self.assertIsNone(java.ask("/nonexistent/java"))

    def test_of_several_javas_it_is_the_least_from_the_recommended_on(self):
        for installed, chosen in [((17, 25, 21), 21), ((17, 25), 25), ((11, 17), 17), ((25, 24), 24)]:
            found = [java.Java(str(major), major, "") for major in installed]
            self.assertEqual(java.choose(found, 21).major, chosen, installed)
        twice = [java.Java("on the path", 21, ""), java.Java("elsewhere", 21, "")]
        self.assertEqual(java.choose(twice, 21).program, "on the path")

    def test_a_java_below_what_is_recommended_stands_before_the_table(self):
        kafka = Kafka()
        kafka._java = java.Java("j", 17, "OpenJDK 17")
        whole = good()
        whole["systems"][0]["runtime"] = kafka.runtime()
        self.assertIn("Kafka on OpenJDK 17, below Java 21, which its documentation recommends.", table.markdown(whole))
        kafka._java = java.Java("j", 21, "OpenJDK 21")
        self.assertEqual(kafka.runtime(), "Kafka on OpenJDK 21")

    def test_a_peer_deletes_its_own_topics(self):
        said = []
        server = SimpleNamespace(bootstrap="h:1")
        Peer().delete_topic(server, "t", lambda *words: said.append(words))
        self.assertEqual(said, [("topic", "delete", "--if-exists", "--bootstrap", "h:1", "t")])

    def test_a_protocol_that_the_load_generator_does_not_speak_is_an_error(self):
        with self.assertRaisesRegex(GeneratorFailed, "does not speak remoting, but kafka"):
            Generator("/nonexistent", [0]).load(None, "remoting", "d", [], "r", 1)

    def test_when_the_kernel_writes_out_is_a_fact_of_the_machine(self):
        facts = machine.facts(HERE)
        self.assertIn("vm.dirty_background_ratio", facts)
        self.assertIn("vm.dirty_expire_centisecs", facts)


class Folders(unittest.TestCase):
    """What a user may name wrongly is said in a line."""

    def said(self, *argv):
        said = io.StringIO()
        with mock.patch("sys.argv", ["run.py", *argv]), contextlib.redirect_stderr(said):
            with contextlib.redirect_stdout(io.StringIO()):
                code = peers_run.main()
        return code, said.getvalue()

    def test_results_that_are_not_there_or_not_whole(self):
        code, said = self.said("--from", "/nonexistent")
        self.assertEqual((code, said.splitlines()[0][:24]), (1, "/nonexistent/result.json"))
        with tempfile.TemporaryDirectory() as folder:
            for text, reason in [("{", "is not whole"), ("[]", "schema"), ('{"schema": 99}', "schema")]:
                with open(os.path.join(folder, "result.json"), "w", encoding="utf-8") as file:
                    file.write(text)
                code, said = self.said("--from", folder)
                self.assertEqual((code, len(said.splitlines())), (1, 1), said)
                self.assertIn(reason, said)

    def test_a_folder_that_cannot_be_made(self):
        ours = mock.Mock()
        with mock.patch.object(peers_run, "prepare", return_value=([ours], {})), mock.patch.object(peers_run, "OURS"):
            with tempfile.NamedTemporaryFile() as file, tempfile.TemporaryDirectory() as good_one:
                below = os.path.join(file.name, "below")
                for flags in (("--dir", below, "--out", good_one), ("--out", below, "--dir", good_one)):
                    code, said = self.said(*flags)
                    self.assertEqual(code, 1)
                    self.assertRegex(said, f"cannot be made: Not a directory; choose another {flags[0]}")

    def test_the_revision_of_an_earlier_result_is_that_of_its_runs(self):
        whole = {**good(), "schema": 1}
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(os.path.join(folder, "runs"))
            with open(os.path.join(folder, "result.json"), "w", encoding="utf-8") as file:
                json.dump(whole, file)
            self.assertIn("RingMQ's revision was not recorded.", table.markdown(peers_run.load(folder)))
            with open(os.path.join(folder, "runs", "closed-ours-2.json"), "w", encoding="utf-8") as file:
                json.dump({"generator": {"revision": "abc123"}}, file)
            self.assertIn("RingMQ at revision abc123.", table.markdown(peers_run.load(folder)))


class Groups(unittest.TestCase):
    """What benches/groups makes of its measurements."""

    def test_the_configured_delay_is_taken_off_once(self):
        lines = list(groups_run.rebalance({"first_s": 2.75, "next_s": 0.03, "heartbeat_s": 0.05}))
        # With a second delay off it would be 1.75 s and good.
        self.assertEqual([value for _, value, _, _ in lines], [2.25, 0.03])
        self.assertEqual([groups_run.reached(value, wanted) for _, value, _, wanted in lines], [False, True])

    def test_commits_must_leave_a_core_its_rest(self):
        found = {"data_mb_per_s": 16, "p99_ms": 2, "commits_per_s": 20_000, "cores": 1.2}
        lines = list(groups_run.commits(found))
        self.assertEqual([groups_run.reached(value, wanted) for _, value, _, wanted in lines], [True, False])
        self.assertRegex(groups_run.line(*lines[1]), "^MISSED .*: 1.2 cores, wanted at most 1$")

    def test_members_are_judged_by_their_heartbeats_alone(self):
        found = {"cores": 0.008, "cores_without_heartbeats": 0.001, "cores_polling": 0.2, "polls_per_s": 2000}
        lines = list(groups_run.members(found))
        self.assertEqual([groups_run.reached(value, wanted) for _, value, _, wanted in lines], [True, True])
        self.assertRegex(groups_run.line(*lines[0]), "^ok     .* only send heartbeats .*: 0.8 % of a core, wanted at most 1$")
        self.assertRegex(groups_run.line(*lines[1]), r"^       .*\(2,000 fetches/s\): 20 % of a core$")


class Output(unittest.TestCase):
    def test_every_line_of_the_table_has_every_cell(self):
        for line in table.lines(good()):
            self.assertEqual(len(line), len(table.HEADS), line)
        self.assertIn("**3.00×** (2.00–4.00)", table.markdown(good()))

    def test_a_percentile_with_few_samples_beyond_it_is_marked(self):
        whole = good()
        self.assertNotIn(table.MARK, table.markdown(whole))
        for one in whole["runs"]:
            if one["latency"]:
                # 20,000 records/s in batches of 10 for 30 s: 60 of them are beyond p99.9.
                one["latency"]["samples"] = 60_000
        cells = next(cells for cells in table.lines(whole) if cells[1] == "ours 1, d" and cells[6] != table.NOTHING)
        self.assertEqual(cells[4:7], ["200 µs", "2.00 ms", "\\~4.00 ms"])
        self.assertIn("fewer than 100 samples", table.markdown(whole))
        self.assertIn(">~4.00 ms</td>", page.page(whole))
        self.assertIn(">~4.00 ms</text>", page.page(whole))
        self.assertIn(">2.00 ms</text>", page.page(whole))

    def test_the_revision_that_was_measured_is_named(self):
        whole = good()
        whole["runs"][3]["revision"] = "abc123"
        self.assertIn("RingMQ at revision abc123.", table.markdown(whole))

    def test_the_readme_is_written_between_its_markers_and_again(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "README.md")
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"before\n{table.BEGIN}\n{table.END}\nafter\n")
            table.write_readme(path, "old")
            table.write_readme(path, "new\n")
            with open(path, encoding="utf-8") as file:
                self.assertEqual(file.read(), f"before\n{table.BEGIN}\n\nnew\n\n{table.END}\nafter\n")
            with open(path, "w", encoding="utf-8") as file:
                file.write("no markers")
            with self.assertRaises(ValueError):
                table.write_readme(path, "new")

    def test_the_readme_of_this_tree_has_the_markers(self):
        with open(os.path.join(HERE, "..", "README.md"), encoding="utf-8") as file:
            text = file.read()
        self.assertTrue(0 < text.find(table.BEGIN) < text.find(table.END))

    def test_the_report_needs_nothing_from_outside(self):
        text = page.page(good())
        self.assertNotRegex(text, r"(src|href)=|url\(|@import")
        self.assertEqual(text.count("<section>"), text.count("</section>"))

    def test_the_last_label_of_an_axis_is_not_cut_off(self):
        drawn = charts.lines(page.PERCENTILE, page.LATENCY, [("a", 0, [(0.0, 1e6), (0.99999, 2e6)])])
        self.assertRegex(drawn, r'x="720" style="text-anchor:end" y="276">99.999<')
        self.assertEqual(drawn.count("text-anchor:end"), 1)

    def test_numbers_have_three_digits_and_a_unit(self):
        for ns, text in [(950, "950 ns"), (1234, "1.23 µs"), (98_700, "98.7 µs"), (4.5e6, "4.50 ms"), (2e9, "2.00 s")]:
            self.assertEqual(table.duration(ns), text)
        self.assertEqual([charts.round_step(step) for step in (0.9, 1.2, 30)], [1, 2, 50])
        self.assertEqual(cpu_list("0-1,3"), [0, 1, 3])


if __name__ == "__main__":
    unittest.main()
