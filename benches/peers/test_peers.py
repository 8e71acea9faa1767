"""The arithmetic and the table of the comparison, without a broker: `make bench-peers-test`."""

import os
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "tests", "conformance")]
import charts  # noqa: E402  (the path is set above)
import page  # noqa: E402
import scenarios  # noqa: E402
import summary  # noqa: E402
import table  # noqa: E402
from host import digest  # noqa: E402
from machine import cpu_list  # noqa: E402


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

    def test_stages_of_the_tail_are_those_of_its_buckets(self):
        stages = {
            "names": ["queue", "device"],
            "buckets": [{"count": 990, "sum_us": [990.0, 0.0]}, {"count": 10, "sum_us": [10.0, 990.0]}],
        }
        self.assertEqual(summary.stage_shares(stages, 0.99), {"queue": 0.01, "device": 0.99})
        self.assertAlmostEqual(summary.stage_shares(stages, 0.0)["queue"], 1000 / 1990)

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
        self.assertIn(">~4.00 ms<", page.page(whole))

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
