//! Short runs against a broker in memory that is honest, or has a fault.

use super::*;
use crate::bench::fake::{Fault, Memory};
use crate::bench::interrupt::Interrupt;
use crate::bench::kafka::keys::Keys;
use crate::bench::kafka::packing::Compression;
use crate::bench::kafka::{KafkaDriver, Shape};
use crate::bench::ledger::Verdict;
use crate::bench::payload::Body;
use crate::bench::recording::Recording;
use crate::bench::report::Second;
use crate::bench::schedule::{Arrivals, Burst};
use crate::bench::sink::{Null, Sink};

/// Of one short run.
fn short() -> Options {
    Options {
        partitions: 2,
        record_bytes: 100,
        records_per_batch: 7,
        connections: 3,
        load: Load::Open { records_per_s: 7_000.0 },
        seconds: 1,
        warmup_s: 0,
        ..Options::default()
    }
}

/// One short run against a broker in memory.
fn run_against(fault: Fault, change: impl FnOnce(&mut Options)) -> Report {
    let mut options = short();
    change(&mut options);
    let sink = Sink::start(Memory::new(fault), options.partitions, None).unwrap();
    options.bootstrap = sink.address().to_string();
    run(&options).unwrap()
}

#[test]
fn every_record_of_an_honest_broker_is_read_once_while_or_after_it_is_written() {
    for read_back in [ReadBack::Tail, ReadBack::Afterwards] {
        for load in [Load::Closed, Load::Open { records_per_s: 7_000.0 }] {
            let report = run_against(Fault::None, |options| {
                options.read_back = read_back.clone();
                options.load = load;
                options.consumers = 2;
            });
            assert!(report.ledger.passed(), "{report}");
            assert!(report.ledger.acked > 0 && report.ledger.read == report.ledger.acked, "{report}");
            if load != Load::Closed {
                // 1000 requests were due, and each of them was sent, however late.
                assert_eq!((report.ledger.acked, report.unsent, report.response.samples), (7000, 0, 1000));
            }
        }
    }
}

#[test]
fn consumers_beyond_the_partitions_are_idle_and_the_others_read_everything() {
    for groups in [1, 2] {
        let report = run_against(Fault::None, |options| {
            (options.consumers, options.groups, options.read_back) = (5, groups, ReadBack::Tail);
        });
        assert!(report.ledger.passed() && report.ledger.acked > 0, "{report}");
        assert_eq!(report.ledger.read, report.ledger.acked * groups as u64, "{report}");
        assert!(
            report.to_string().contains(&format!("({} idle: more than partitions)", 3 * groups)),
            "{report}"
        );
    }
}

#[test]
fn a_loss_a_duplicate_a_swap_and_damage_in_the_broker_fail_the_run() {
    for (fault, what) in [
        (Fault::Lose(5), "14 lost, 14 offsets skipped by the reader"),
        (Fault::Repeat(5), "14 duplicated, 14 offsets skipped by acks"),
        (Fault::Swap(6), "reordered"),
        (Fault::Damage(5), "2 lost, 2 corrupt"),
    ] {
        let report = run_against(fault, |options| {
            options.read_back = ReadBack::Afterwards;
            // One writer a partition, so that the neighbour of a batch is of the same producer.
            options.connections = 2;
        });
        assert!(!report.passed(), "{fault:?}");
        assert!(report.to_string().contains(what), "{fault:?}: {report}");
    }
}

#[test]
fn each_leader_is_given_and_asked_for_only_what_it_leads() {
    for (read_back, consumers) in [(ReadBack::Tail, 2), (ReadBack::Tail, 4), (ReadBack::Afterwards, 0)] {
        let sinks = [(); 2].map(|()| Sink::start(Memory::new(Fault::None), 4, None).unwrap());
        let led_by = [0, 1, 1, 1];
        let leaders = Leaders::new(&led_by.map(|leader: usize| sinks[leader].address()));
        let options = Options { partitions: 4, consumers, groups: 2, read_back, ..short() };
        let topics = options.topics();
        let driver = KafkaDriver::new(Shape {
            run: 7,
            topics: topics.clone(),
            acks: -1,
            record_bytes: 100,
            records: 7,
            ..Shape::default()
        });
        let few = run_with(&Options { connections: 1, ..options.clone() }, &leaders, &driver).unwrap_err();
        assert!(few.to_string().contains("give --connections 2 or more, not 1"), "{few}");
        if consumers > 0 {
            let few = run_with(&Options { consumers: 1, ..options.clone() }, &leaders, &driver).unwrap_err();
            assert!(few.to_string().contains("give --consumers 2 or more, not 1"), "{few}");
        }
        let report = run_with(&options, &leaders, &driver).unwrap();
        assert!(report.ledger.passed(), "{report}");
        assert_eq!((report.ledger.acked, report.ledger.read, report.unsent), (7000, 14_000, 0), "{report}");
        assert!(report.to_string().contains("4 partitions led by 2 nodes"), "{report}");
        for (leader, sink) in sinks.iter().enumerate() {
            let mut control = driver.control(sink.address()).unwrap();
            let ends = control.ends(&topics, &[0, 1, 2, 3], End::Latest).unwrap();
            let has: Vec<bool> = ends.iter().map(|end| *end > 0).collect();
            let leads: Vec<bool> = led_by.iter().map(|of| *of == leader).collect();
            assert_eq!(has, leads, "{ends:?}");
        }
    }
}

#[test]
fn a_stall_is_charged_to_every_request_that_was_due_in_it() {
    let stall = std::time::Duration::from_millis(400);
    let report = run_against(Fault::Stall(100, stall), |options| {
        options.partitions = 1;
        options.connections = 1;
    });
    // 1000 requests in a second; those due in the stall wait 400 ms, 399 ms, ...: the slowest
    // tenth of all waits 300 ms and more. A slow machine only adds to it.
    assert!(report.response.p90_ns >= 295_000_000, "{report}");
    // Only the few in flight were sent before the stall: a closed loop sees nothing else.
    assert!(report.service.p90_ns < report.response.p90_ns, "{report}");
    assert_eq!(report.response.samples, 1000);
}

#[test]
fn what_a_broker_cannot_be_given_in_time_is_given_up_and_fails_the_run() {
    let report = run_against(Fault::Stall(5, std::time::Duration::from_millis(2500)), |options| {
        options.partitions = 1;
        options.drain_s = 1;
        options.read_back = ReadBack::Afterwards;
    });
    // A second of load, a second of patience: the rest of 1000 requests was never sent.
    assert!(report.unsent > 900 && report.response.samples + report.unsent == 1000, "{report}");
    assert_eq!((report.unanswered, report.ledger.read), (0, report.ledger.acked), "{report}");
    assert!(report.ledger.passed() && report.to_string().contains("were never sent"), "{report}");
}

#[test]
fn a_run_that_ends_early_accuses_the_broker_of_nothing() {
    for read_back in [ReadBack::Tail, ReadBack::Afterwards] {
        let report = run_against(Fault::Cut(40), |options| {
            options.read_back = read_back.clone();
            options.consumers = 1;
            options.seconds = 60;
        });
        assert!(!report.passed() && report.ledger.acked > 0, "{report}");
        // The batch of the connection that was cut is stored, and its offsets are acknowledged by
        // nobody; what was on its way to the reader is not lost.
        assert!(report.ledger.passed(), "{report}");
        assert!(report.invalid[0].contains("did the broker end?"), "{report}");
        assert!(report.seconds <= 2 && report.unsent < 1000, "nothing was due after it: {report}");
    }
}

#[test]
fn an_interrupt_ends_the_run_and_keeps_what_was_measured() {
    let interrupt = Interrupt::default();
    let report = run_against(Fault::None, |options| {
        options.interrupt = interrupt.clone();
        options.seconds = 3600;
        std::thread::spawn(move || {
            // Any moment will do: before the begin, too.
            std::thread::sleep(std::time::Duration::from_millis(300));
            interrupt.set("SIGTERM");
        });
    });
    assert!(report.to_string().contains("INVALID: stopped early: SIGTERM"), "{report}");
    assert!(report.ledger.passed() && report.timeline.len() < 60, "{report}");
}

#[test]
fn a_thread_that_cannot_begin_holds_up_no_other() {
    let sink = Sink::start(Null::default(), 2, None).unwrap();
    let options = Options { connections: 2, partitions: 2, seconds: 3600, ..Options::default() };
    let topics = options.topics();
    let driver = KafkaDriver::new(Shape {
        topics: topics.clone(),
        acks: -1,
        record_bytes: 1024,
        records: 1,
        ..Shape::default()
    });
    let ends = vec![0; 2];
    let leaders = Leaders::one(sink.address(), &topics);
    let mut plans = plans(&options, topics, &leaders, driver.batch_bytes(), ends.clone(), ends);
    plans[0].threads = 2;
    plans.push(Plan { thread: 1, core: Some(1_000_000), ..plans[0].clone() });
    let controls = Controls::connect(&driver, &leaders).unwrap();
    let error = drive(&options, &driver, controls, Clock::new(), plans).unwrap_err().to_string();
    assert!(error.contains("core 1000000"), "{error}");
}

#[test]
fn every_group_reads_everything_and_a_slow_one_catches_up() {
    let report = run_against(Fault::None, |options| {
        options.read_back = ReadBack::Tail;
        options.consumers = 2;
        options.groups = 3;
        // After its first answer it has to wait for longer than the load runs.
        options.consumer_bytes_per_s = Some(1_000.0);
    });
    assert!(report.ledger.passed(), "{report}");
    assert_eq!((report.ledger.acked, report.ledger.read), (7000, 21_000));
    // Behind when the load ended: the last second before that has not delivered everything.
    assert!(report.read_records_per_s < 21_000.0 * 0.9, "{report}");
}

#[test]
fn a_loss_is_found_by_the_second_group_too() {
    let report = run_against(Fault::Lose(5), |options| {
        options.read_back = ReadBack::Afterwards;
        options.groups = 2;
    });
    assert_eq!(report.ledger.lost, 28, "{report}");
}

#[test]
fn connections_that_are_cut_are_made_again_and_nothing_is_lost() {
    let report = run_against(Fault::Cut(40), |options| {
        options.reconnect = true;
        options.idempotent = true;
        options.read_back = ReadBack::Tail;
        options.consumers = 1;
        options.keys.bytes = 8;
    });
    assert!(report.reconnects >= 2, "{report}");
    assert!(report.ledger.passed(), "{report}");
    assert_eq!((report.ledger.acked, report.ledger.read), (7000, 7000));
}

#[test]
fn what_is_due_follows_bursts_and_chance() {
    let burst = Arrivals { poisson: false, burst: Some(Burst { every_s: 2, factor: 3.0 }) };
    let report = run_against(Fault::None, |options| {
        options.arrivals = burst;
        options.seconds = 2;
    });
    assert_eq!((report.due, report.target_records_per_s), (4000, Some(14_000.0)));
    let log = String::from_utf8(report.recording.hlog()).unwrap();
    let starts = |second| log.matches(&format!("Tag=response,{second}.000,1.000,")).count();
    assert_eq!((starts(0), starts(1)), (1, 1), "a line a second");
    let poisson = Arrivals { poisson: true, burst: None };
    let report = run_against(Fault::None, |options| options.arrivals = poisson);
    // Five standard deviations.
    assert!(report.due.abs_diff(1000) < 160, "{report}");
    assert_eq!(report.ledger.acked, report.due * 7);
}

#[test]
fn several_topics_with_compressed_batches_and_keys_are_read_back_whole() {
    for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let report = run_against(Fault::None, |options| {
            options.topics = 3;
            options.compression = compression;
            options.body = Body::Random { share: 0.3 };
            options.keys = Keys { bytes: 8, count: 1000, ..Keys::default() };
            options.read_back = ReadBack::Tail;
            options.consumers = 2;
            options.idempotent = true;
        });
        assert!(report.ledger.passed(), "{report}");
        assert_eq!((report.ledger.acked, report.ledger.read), (7000, 7000));
        let packing = report.compression.unwrap();
        assert_eq!((packing.codec, packing.requests), (compression, 1000));
        assert!(packing.ratio() < 0.9 && packing.mean_ns > 0, "{packing:?}");
        assert!(report.to_string().contains("3 topics of 2 partitions"), "{report}");
    }
}

#[test]
fn damage_in_a_compressed_batch_fails_the_run() {
    let report = run_against(Fault::Lose(5), |options| {
        options.compression = Compression::Lz4;
        options.read_back = ReadBack::Afterwards;
    });
    assert!(!report.passed() && report.ledger.lost == 14, "{report}");
}

#[test]
fn a_linger_sends_what_came_in_its_time_and_charges_each_record() {
    let report = run_against(Fault::None, |options| {
        options.linger_ns = Some(10_000_000);
        options.records_per_batch = 100;
        options.connections = 2;
        options.read_back = ReadBack::Tail;
        options.consumers = 1;
    });
    assert!(report.ledger.passed(), "{report}");
    assert_eq!((report.ledger.acked, report.ledger.read, report.due_records), (7000, 7000, 7000));
    assert_eq!(report.response.samples, 7000, "a sample a record");
    // 3,500 records a second on a connection: 35 or 36 in 10 ms. A slow machine makes larger batches.
    assert!(report.requests_per_s <= 205.0, "{report}");
    // Each waits for half of the linger in the mean; only a batch's last record does not wait.
    assert!(report.response.p50_ns >= 4_500_000, "{report}");
    assert!(report.response.p90_ns >= 8_500_000, "{report}");
}

#[test]
fn a_batch_that_is_full_waits_no_longer() {
    let report = run_against(Fault::None, |options| {
        options.linger_ns = Some(30_000_000_000);
        options.records_per_batch = 7;
        options.connections = 1;
        options.load = Load::Open { records_per_s: 700.0 };
    });
    assert_eq!((report.ledger.acked, report.service.samples), (700, 100), "{report}");
}

/// A broker that was written to for a second, with the options of that run and what it found.
fn after_a_second_of_load() -> (Sink, Options, Report) {
    let sink = Sink::start(Memory::new(Fault::None), 3, None).unwrap();
    let options = Options {
        bootstrap: sink.address().to_string(),
        partitions: 3,
        record_bytes: 64,
        connections: 3,
        load: Load::Open { records_per_s: 3_000.0 },
        seconds: 1,
        warmup_s: 0,
        ..Options::default()
    };
    let written = run(&options).unwrap();
    (sink, options, written)
}

#[test]
fn a_cold_read_sees_what_another_run_wrote() {
    let (_sink, options, written) = after_a_second_of_load();
    let cold = Options { load: Load::None, read_back: ReadBack::Cold, seconds: 5, ..options };
    let report = run(&cold).unwrap();
    assert!(report.passed(), "{report}");
    assert_eq!((report.ledger.acked, report.ledger.read), (0, written.ledger.acked));
}

#[test]
fn a_load_may_end_with_the_cold_read_beside_it() {
    let (_sink, options, written) = after_a_second_of_load();
    let cold = Options { read_back: ReadBack::Cold, until_read: true, seconds: 30, ..options };
    let report = run(&cold).unwrap();
    assert!(report.ledger.passed(), "{report}");
    assert!(report.ledger.read >= written.ledger.acked && report.ledger.acked > 0, "{report}");
    assert!(report.seconds < 30, "{report}");
    let two_threads = Options { cpus: vec![0, 0], ..cold };
    assert!(matches!(run(&two_threads), Err(BenchError::Options(_))));
}

#[test]
fn two_load_threads_share_the_partitions_and_the_schedule() {
    let report = run_against(Fault::None, |options| {
        // Any two cores, or the same one twice where there is only one.
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        options.cpus = cores.iter().map(|core| core.id).cycle().take(2).collect();
        options.partitions = 5;
        options.consumers = 2;
        options.read_back = ReadBack::Tail;
    });
    assert!(report.ledger.passed(), "{report}");
    assert_eq!((report.ledger.acked, report.ledger.read), (7000, 7000));
}

#[test]
fn what_nobody_acknowledges_is_counted_when_it_is_sent_and_checked_when_it_is_read() {
    for linger_ns in [None, Some(5_000_000)] {
        let report = run_against(Fault::None, |options| {
            options.acks = 0;
            options.linger_ns = linger_ns;
            options.read_back = ReadBack::Tail;
            options.consumers = 2;
        });
        assert!(report.ledger.passed() && report.errors == 0, "{report}");
        assert_eq!((report.ledger.acked, report.unanswered, report.response.samples), (0, 0, 0), "{report}");
        // What was sent last may be on its way still.
        assert!((3_500..=7_000).contains(&report.ledger.read), "{report}");
        assert!(report.records_per_s > 3_500.0 && report.end_to_end.samples > 3_500, "{report}");
        assert!(report.to_string().contains("acks=0"), "{report}");
    }
    let lossy = run_against(Fault::Lose(5), |options| {
        options.acks = 0;
        options.read_back = ReadBack::Tail;
        options.consumers = 1;
    });
    assert_eq!(lossy.ledger.lost, 14, "{lossy}");
}

#[test]
fn as_many_readers_are_made_as_were_asked_for() {
    for (threads, consumers, readers) in [(1, 3, vec![3]), (2, 3, vec![2, 1]), (3, 5, vec![2, 2, 1])] {
        let options =
            Options { cpus: (0..threads).collect(), consumers, partitions: 5, ..Options::default() };
        let leaders = Leaders::one("127.0.0.1:1".parse().unwrap(), &options.topics());
        let plans = plans(&options, options.topics(), &leaders, 1, vec![0; 5], vec![0; 5]);
        let shares: Vec<usize> = plans.iter().map(|plan| plan.reader_parts().len()).collect();
        assert_eq!(shares, readers, "{threads} threads");
    }
}

#[test]
fn a_reader_that_catches_up_beside_one_that_tails_says_after_what_time() {
    let (_sink, options, written) = after_a_second_of_load();
    let backlog = written.ledger.acked;
    let catch_up = Options { read_back: ReadBack::CatchUp, groups: 2, consumers: 1, ..options };
    let report = run(&catch_up).unwrap();
    assert!(report.ledger.passed(), "{report}");
    let found = report.backlog.unwrap();
    // Its last answers may have brought what was written in the meantime.
    assert!(found.records >= backlog, "{found:?}");
    assert!(
        found.bytes > backlog * 64 && found.read_after_ns.is_some_and(|ns| ns < 1_000_000_000),
        "{found:?}"
    );
    let tailed = report.ledger.read - found.records;
    assert_eq!(tailed, report.ledger.acked, "the other follows the tail: {report}");
}

#[test]
fn a_reader_that_does_not_catch_up_fails_the_run() {
    let backlog = Backlog { records: 5, bytes: 9, read_after_ns: None };
    let outcome = |read_after_ns| Outcome {
        verdict: Verdict { acked: 1, ..Verdict::default() },
        unsent: 0,
        unanswered: 0,
        due: 0,
        due_records: 0,
        backlog: Some(Backlog { read_after_ns, ..backlog }),
        finished: true,
        error: None,
    };
    for (second, caught_up) in [(Some(7), true), (None, false)] {
        let collected = Collected {
            measured: Interval::new(),
            in_time: Second::default(),
            timeline: Vec::new(),
            recording: Recording::begin(),
        };
        let outcomes = vec![outcome(Some(9)), outcome(second)];
        let report = judge(&Options::default(), outcomes, Vec::new(), collected, None);
        let found = report.backlog.unwrap();
        assert_eq!((found.records, found.read_after_ns), (10, caught_up.then_some(9)));
        assert_eq!(report.invalid.is_empty(), caught_up, "{:?}", report.invalid);
    }
}

#[test]
fn a_broker_that_goes_away_leaves_a_partial_report_and_an_address_without_one_is_named() {
    let sink = Sink::start(Null::default(), 1, None).unwrap();
    let options =
        Options { bootstrap: sink.address().to_string(), seconds: 30, warmup_s: 0, ..Options::default() };
    let running = std::thread::spawn({
        let options = options.clone();
        move || run(&options)
    });
    // Wait for its first connections; the end may come at any moment after.
    while sink.accepted() < 2 {
        std::thread::yield_now();
    }
    drop(sink);
    match running.join().unwrap() {
        Ok(report) => assert!(!report.passed(), "{report}"),
        Err(error) => assert!(error.to_string().contains("connect"), "{error}"),
    }
    let error = run(&options).unwrap_err().to_string();
    assert!(error.contains(&options.bootstrap) && error.contains("is the broker up?"), "{error}");
}

#[test]
fn options_that_cannot_work_are_refused() {
    let changes: [fn(&mut Options); 16] = [
        |options| options.arrivals.burst = Some(Burst { every_s: 5, factor: 10.0 }),
        |options| options.cpus = vec![1_000_000],
        |options| options.topics = 0,
        |options| options.keys.count = 5,
        |options| options.keys = Keys { bytes: 1, count: 257, ..Keys::default() },
        |options| options.linger_ns = Some(1),
        |options| options.body = Body::Random { share: 1.5 },
        |options| options.body = Body::File(vec![0; 5].into()),
        |options| options.groups = 0,
        |options| (options.idempotent, options.in_flight) = (true, 6),
        |options| options.record_bytes = 31,
        |options| options.cpus = vec![0, 1],
        |options| options.in_flight = 0,
        |options| options.acks = 2,
        |options| (options.acks, options.read_back) = (0, ReadBack::Afterwards),
        |options| options.load = Load::Open { records_per_s: f64::NAN },
    ];
    for change in changes {
        let mut options = Options::default();
        change(&mut options);
        assert!(matches!(run(&options), Err(BenchError::Options(_))));
    }
}
