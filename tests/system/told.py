"""What the broker says of itself: stages that sum to the whole, and metrics that a scraper can read."""

import json
import os
import re
import time

import wire
from rig import admin, admin_json, check, equal, metric, resident_bytes, until

REQUESTS = 3000
DEPTH = 16
STAGES = ["admission", "parse", "queue", "append", "commit_wait", "device_write", "ack", "send"]
SAMPLE = re.compile(r'([a-z_][a-z0-9_]*)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\[\\n"])*",?)*)\})? ([0-9.eE+-]+|NaN|[+-]?Inf)')
READY = re.compile(r"RingMQ (\S+) is ready after \S+")


def stages_sum_to_the_whole(rig, shards):
    broker = rig.running(shards=shards)
    started = time.monotonic()
    _load(broker)
    elapsed_us = (time.monotonic() - started) * 1e6

    samples, _ = parse(admin(broker, "/metrics"))
    equal(samples["ringmq_produce_seconds_count"], REQUESTS, "produce requests counted")
    whole_us = samples["ringmq_produce_seconds_sum"] * 1e6
    # Each request takes part of the time in which DEPTH and one more were under way.
    check(0 < whole_us <= elapsed_us * (DEPTH + 1), f"{whole_us} µs of requests within {elapsed_us} µs")
    stages_us = sum(samples[f'ringmq_produce_stage_seconds_sum{{stage="{stage}"}}'] for stage in STAGES) * 1e6
    _near(stages_us, whole_us, "the stages of /metrics", "the whole")

    latency = admin_json(broker, "/latency")
    equal(latency["requests"], REQUESTS, "requests of /latency")
    equal(sum(bucket["count"] for bucket in latency["buckets"]), REQUESTS, "requests in all buckets")
    sums_us = {stage: sum(bucket["stage_sum_us"][stage] for bucket in latency["buckets"]) for stage in STAGES}
    _near(sum(sums_us.values()), whole_us, "the stages of /latency", "the whole of /metrics")
    for bucket in latency["buckets"]:
        mean_us = sum(bucket["stage_sum_us"].values()) / bucket["count"]
        most_us = bucket["to_us"] or float("inf")
        check(bucket["from_us"] * 0.95 <= mean_us <= most_us * 1.05, f"stages of {mean_us} µs in the bucket {bucket}")
    # The stage that no request can do without, whichever shard its log is on.
    device_us = samples["ringmq_log_write_seconds_sum"] * 1e6
    check(sums_us["device_write"] > 0 and device_us > 0, "the device took no time")
    without = samples['ringmq_produce_stage_seconds_bucket{stage="device_write",le="0.000001"}']
    equal(without, 0, "requests that the device took no time for")


def _near(got, expected, what, whole):
    check(abs(got - expected) <= 0.05 * expected, f"{what} sum to {got:.0f} µs, {whole} is {expected:.0f} µs")


def _load(broker):
    """REQUESTS requests over four partitions, DEPTH at a time."""
    batch = wire.batch([b"some value"])
    with wire.Client(broker.kafka) as client:
        client.create_topic("t", partitions=4)
        for number in range(REQUESTS + DEPTH):
            if number < REQUESTS:
                client.send(wire.PRODUCE, wire.produce_body("t", number % 4, batch))
            if number >= DEPTH:
                client.produced(client.receive()[1])


def metrics_are_prometheus_text(rig):
    broker = rig.running(shards=2)
    _load(broker)
    before, kinds = parse(admin(broker, "/metrics"))
    with wire.Client(broker.kafka) as client:
        data, _ = client.fetch("t", 0, 0)
        check(len(data) > 0, "nothing comes back")
        try:
            client.fetch("t", 0, 1 << 40)
        except wire.KafkaError:
            pass
    after, _ = parse(admin(broker, "/metrics"))
    for series, value in before.items():
        family = series.split("{")[0]
        if kinds.get(family) == "counter" or family.endswith(("_bucket", "_count")):
            check(after[series] >= value, f"{series} falls from {value} to {after[series]}")

    def total(name, samples=after):
        return sum(value for series, value in samples.items() if series.split("{")[0] == name)

    equal(total("ringmq_errors_total") - total("ringmq_errors_total", before), 1, "errors counted")
    check(total("ringmq_fetched_bytes_total") >= len(data), "the fetched bytes are not counted")
    check(total("ringmq_log_durable_bytes_total") > 0, "nothing is durable")
    check(total("ringmq_disk_free_bytes") > 0, "the free space is not known")
    for path in ("/", "/livez", "/readyz", "/info"):
        check(admin(broker, path), f"{path} is empty")


def plain_commits_are_warned_of(rig):
    broker = rig.running(settings=["log.commit_mode=plain"])
    info = admin_json(broker, "/info")
    risk = not info["device_class"].startswith("A ")
    equal(info["durability_at_risk"], risk, f"the risk on a device of class {info['device_class']}")
    equal(metric(broker, "ringmq_durability_at_risk"), float(risk), "the metric")

    def told(text):
        with open(broker.log_path, errors="replace") as log:
            return text in log.read()

    # The last line of the banner.
    until(lambda: told("Kafka clients:"), "the banner does not come")
    equal(told("commits are plain"), risk, "the warning")
    sound = rig.running(settings=["log.commit_mode=dsync"])
    equal(metric(sound, "ringmq_durability_at_risk"), 0.0, "the metric with dsync commits")


def the_banner_says_what_info_says(rig):
    _check_banner(rig.running(shards=2))


def _check_banner(broker, behind=0):
    """Each line of it, but for how long the start took. Returns it, and what /info says. It comes after the first
    `behind` bytes of the log."""
    info = admin_json(broker, "/info")

    def lines():
        with open(broker.log_path, errors="replace") as log:
            log.seek(behind)
            # Behind time and level there is where the line comes from.
            said = [line.partition(" ringmq::broker: ")[2].rstrip("\n") for line in log]
        begin = next((at for at, line in enumerate(said) if READY.fullmatch(line)), None)
        whole = begin is not None and any(line.startswith("  clients are told of: ") for line in said)
        return said[begin:] if whole else None

    banner = until(lines, "the banner does not come")
    if info["durability_at_risk"]:
        # Told of elsewhere.
        banner = [line for line in banner if not line.startswith("commits are plain")]
    equal(READY.fullmatch(banner[0])[1], info["version"], "the version")
    equal(info["durability_mode"], "sync", "the durability mode of /info")
    measured = banner[2].rpartition(" (")[2]
    check(re.fullmatch(r"64 KiB durable: median [0-9.]+(ns|µs|ms|s), [0-9]+ MB/s\)", measured), f"measured: {measured}")
    brokers = ", ".join("broker {node_id} at {host}:{port}".format(**one) for one in info["advertised"])
    expected = [
        f"  acks mean: on stable storage (durability mode {info['durability_mode']})",
        f"  commit: {info['commit_mode']}, depth {info['commit_depth']}, device class {info['device_class']} ({measured}",
        f"  {info['shards']} shards, {info['logs']} logs, data in {broker.data_dir}, "
        f"io_uring: {' '.join(info['ring_features'])}",
        f"  Kafka clients: {broker.kafka}; admin: http://{broker.admin}/",
        f"  clients are told of: {brokers}",
    ]
    equal(banner[1:], expected, "the banner")
    equal((info["shards"], info["logs"]), (2, 2), "shards and logs")
    check(info["ring_features"], "no feature of io_uring")
    return banner, info


def the_banner_follows_the_configuration(rig):
    given = ["log.commit_mode=write-sync", "log.commit_depth=3"]
    _, info = _check_banner(rig.running(shards=2, settings=given))
    equal((info["commit_mode"], info["commit_depth"]), ("write-sync", 3), "mode and depth as configured")


def how_it_commits_is_measured_once(rig):
    """When the directory is made: a later start finds it there, and commits as it says."""
    broker = rig.running(shards=2)
    _, info = _check_banner(broker)
    broker.stop()
    path = os.path.join(broker.data_dir, "broker.toml")
    with open(path, encoding="utf-8") as file:
        kept = file.read()
    for name in ("commit_mode", "commit_depth"):
        check(f"{name} = {json.dumps(info[name])}\n" in kept, f"{name} of the first start is not in {kept!r}")
    # What no measurement would come to.
    mode = "write-sync" if info["commit_mode"] == "dsync" else "dsync"
    other = {"commit_mode": mode, "commit_depth": 7, "measured": "64 KiB durable: median 77ms, 7 MB/s"}
    for name, value in other.items():
        kept, count = re.subn(rf"^{name} = .*$", f"{name} = {json.dumps(value)}", kept, flags=re.MULTILINE)
        equal(count, 1, f"lines of broker.toml with {name}")
    with open(path, "w", encoding="utf-8") as file:
        file.write(kept)
    said_bytes = os.path.getsize(broker.log_path)
    broker.start()
    banner, info = _check_banner(broker, said_bytes)
    equal((info["commit_mode"], info["commit_depth"]), (mode, 7), "mode and depth of the second start")
    check(f"({other['measured']})" in banner[2], f"the second start says {banner[2]!r}")
    with open(path, encoding="utf-8") as file:
        equal(file.read(), kept, "broker.toml after the second start")


def lines_for_machines(rig):
    """With `telemetry.format = "json"` each line is an object, from the first to the last."""
    broker = rig.running(shards=2, settings=["telemetry.format=json"])
    broker.stop()
    with open(broker.log_path, encoding="utf-8") as log:
        said = [json.loads(line) for line in log]
    for line in said:
        check({"timestamp", "level", "target", "message"} <= line.keys(), f"it lacks something: {line}")
    equal(len([line for line in said if READY.fullmatch(line["message"])]), 1, "lines that say it is ready")
    equal(said[-1]["message"], "stopped", "the last line")


def blocks_and_cold_reads_are_counted(rig):
    caches = ["log.tail_cache_bytes=8MiB", "log.read_cache_bytes=8MiB"]
    broker = rig.running(settings=caches)
    batch = wire.batch([bytes(900_000)])
    count = 40
    with wire.Client(broker.kafka) as client:
        client.create_topic("t")
        for _ in range(count):
            client.produce("t", 0, batch)
        samples, _ = parse(admin(broker, "/metrics"))
        equal(samples["ringmq_cold_read_seconds_count"], 0, "cold reads of a log in memory")
        data, _ = client.fetch("t", 0, 0)
    check(len(data) > 0, "nothing comes back")
    after, _ = parse(admin(broker, "/metrics"))
    check(after["ringmq_cold_read_seconds_count"] > 0, "the cold read is not counted")
    check(after["ringmq_cold_read_seconds_sum"] > 0, "the cold read took no time")
    # In one look: the next chunk is being read ahead.
    total = sum(value for series, value in after.items() if series.startswith("ringmq_cold_reads_total"))
    equal(after["ringmq_cold_read_seconds_count"], total, "cold reads")
    # All of it is the batches, the padding, and headers; segments' unused ends are not written.
    written = metric(broker, "ringmq_log_block_bytes_total")
    padding = metric(broker, "ringmq_log_block_padding_bytes_total")
    check(0 < padding < count * 8192, f"{padding} bytes of padding in {count} large blocks")
    check(count * len(batch) < written < count * (len(batch) + 16384), f"{written} bytes of blocks")
    check(metric(broker, "ringmq_tail_cache_bytes") > 0 and metric(broker, "ringmq_read_cache_bytes") > 0, "no caches")


def caches_are_touched_at_the_start(rig):
    caches = ["log.tail_cache_bytes=64MiB", "log.read_cache_bytes=32MiB"]
    touched = rig.running(shards=1, settings=caches)
    as_needed = rig.running(shards=1, settings=[*caches, "log.pretouch=false"])
    # The rest of a broker takes some 30 MiB.
    until(lambda: resident_bytes(touched) > 116 << 20, "the caches are not touched")
    check(resident_bytes(as_needed) < 64 << 20, f"{resident_bytes(as_needed)} bytes of a broker that did nothing")
    with wire.Client(touched.kafka) as client:
        client.create_topic("t")
        before = resident_bytes(touched)
        for _ in range(40):
            client.produce("t", 0, wire.batch([bytes(900_000)]))
    grown = resident_bytes(touched) - before
    check(grown < 16 << 20, f"36 MB of records took {grown} bytes more of a tail cache that was there")


def parse(text):
    """The samples by name and labels, and the kinds of the families, of text that is as Prometheus demands."""
    samples, kinds, family = {}, {}, None
    check(text.endswith("\n"), "the last line is not ended")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split(" ")[2]
            check(family not in kinds, f"{family} comes twice")
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            equal(name, family, "the family of a TYPE line")
            check(kind in ("counter", "gauge", "histogram"), f"no such type: {line}")
            equal(kind == "counter", name.endswith("_total"), f"counters end in _total, others do not: {name}")
            kinds[name] = kind
        else:
            found = SAMPLE.fullmatch(line)
            check(found, f"no sample: {line!r}")
            name, labels, value = found.groups()
            suffixes = ["_bucket", "_sum", "_count"] if kinds.get(family) == "histogram" else [""]
            check(name in [family + suffix for suffix in suffixes], f"{name} stands in the family {family}")
            series = f"{name}{{{labels}}}" if labels else name
            check(series not in samples, f"{series} comes twice")
            samples[series] = float(value)
    _check_histograms(samples)
    return samples, kinds


def _check_histograms(samples):
    """Buckets rise, and the last one is the count."""
    rising = {}
    for series, value in samples.items():
        name, _, labels = series.partition("{")
        if name.endswith("_bucket"):
            others = ",".join(label for label in labels.rstrip("}").split(",") if not label.startswith("le="))
            whole = name.removesuffix("_bucket") + "_count" + (f"{{{others}}}" if others else "")
            check(value >= rising.get(whole, 0), f"{series} falls")
            rising[whole] = value
    for whole, last in rising.items():
        equal(last, samples[whole], f"the last bucket of {whole}")


CASES = {
    "told/stages, one shard": lambda rig: stages_sum_to_the_whole(rig, 1),
    "told/stages, two shards": lambda rig: stages_sum_to_the_whole(rig, 2),
    "told/prometheus text": metrics_are_prometheus_text,
    "told/banner": the_banner_says_what_info_says,
    "told/banner, configured": the_banner_follows_the_configuration,
    "told/commits as measured once": how_it_commits_is_measured_once,
    "told/lines for machines": lines_for_machines,
    "told/plain commits": plain_commits_are_warned_of,
    "told/blocks and cold reads": blocks_and_cold_reads_are_counted,
    "told/touched caches": caches_are_touched_at_the_start,
}
