//! The intervals of all load threads, added up second by second.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender};

use super::engine::Reported;
use super::options::Options;
use super::progress::Progress;
use super::recording::Recording;
use super::report::Second;
use super::stats::Interval;

/// What all threads counted.
pub struct Collected {
    /// The measured seconds and what was answered after the end; without the warm-up.
    pub measured: Interval,
    /// Of the measured seconds alone: what rates are made of.
    pub in_time: Second,
    pub timeline: Vec<Second>,
    /// Second by second, the warm-up included.
    pub recording: Recording,
}

struct Collector<'a> {
    options: &'a Options,
    progress: Progress,
    collected: Collected,
    /// The seconds that have been begun and not closed.
    open: BTreeMap<u64, Interval>,
    /// The first second that is not closed.
    next: u64,
    /// By thread: the first second that it may still report.
    reached: Vec<u64>,
}

/// Receive intervals until every thread is done; send them back by `empties`, one for each thread.
/// `over` is told of every second that is.
pub fn collect(
    options: &Options,
    full: &Receiver<Reported>,
    empties: &[Sender<Interval>],
    mut over: impl FnMut(u64),
) -> Collected {
    let mut collector = Collector {
        options,
        progress: Progress::new(options),
        collected: Collected {
            measured: Interval::new(),
            in_time: Second::default(),
            timeline: Vec::new(),
            recording: Recording::begin(),
        },
        open: BTreeMap::new(),
        next: 0,
        reached: vec![0; empties.len()],
    };
    for Reported { thread, interval, last } in full {
        collector.add(thread, &interval, last);
        // A thread that is done takes none back.
        let _ = empties[thread].send(interval);
        collector.close_passed(&mut over);
    }
    // A thread that could not begin, or panicked, has passed none of them.
    collector.reached.fill(u64::MAX);
    collector.close_passed(&mut over);
    collector.collected
}

impl Collector<'_> {
    fn add(&mut self, thread: usize, interval: &Interval, last: bool) {
        if interval.second >= self.options.measured_from_s() {
            self.collected.measured.add(interval);
        }
        self.open.entry(interval.second).or_default().add(interval);
        self.reached[thread] = if last { u64::MAX } else { interval.second + 1 };
    }

    /// Close the seconds that every thread has passed. A thread that was off its core for a whole
    /// second reports none for it: the second has passed all the same, and counts in every rate.
    fn close_passed(&mut self, over: &mut impl FnMut(u64)) {
        let Some(begun) = self.open.last_key_value().map(|(&second, _)| second) else { return };
        let passed = self.reached.iter().copied().min().unwrap_or(u64::MAX).min(begun + 1);
        while self.next < passed {
            let second = self.next;
            let sum = self.open.remove(&second).unwrap_or_default();
            self.next += 1;
            over(second);
            self.close(second, &sum);
        }
    }

    fn close(&mut self, second: u64, sum: &Interval) {
        let measured = second >= self.options.measured_from_s();
        self.collected.recording.push(second, !measured, sum);
        let line = Second::of(second, sum);
        // What was answered after the end counts, but makes no second.
        if second >= self.options.end_s() {
            if self.options.progress {
                self.progress.print_rest(&line, sum.overdue);
            }
            return;
        }
        if measured {
            self.collected.in_time.add(&line);
        }
        if self.options.progress {
            self.progress.print(&line);
        }
        self.collected.timeline.push(line);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// What becomes of these reports: thread, second, records, whether it is the thread's last.
    fn collected(threads: usize, reports: &[(usize, u64, u64, bool)]) -> (Collected, Vec<u64>) {
        let options = Options { seconds: 4, warmup_s: 1, ..Options::default() };
        let (sender, full) = channel();
        let empties: Vec<_> = (0..threads).map(|_| channel().0).collect();
        for &(thread, second, records, last) in reports {
            let interval = Interval { second, records, ..Interval::new() };
            sender.send(Reported { thread, interval, last }).unwrap();
        }
        drop(sender);
        let mut over = Vec::new();
        (collect(&options, &full, &empties, |second| over.push(second)), over)
    }

    fn records(collected: &Collected) -> Vec<(u64, u64)> {
        collected.timeline.iter().map(|second| (second.second, second.records)).collect()
    }

    #[test]
    fn a_second_that_no_thread_reports_has_passed_all_the_same() {
        let (alone, over) =
            collected(1, &[(0, 0, 7, false), (0, 1, 10, false), (0, 4, 30, false), (0, 5, 1, true)]);
        assert_eq!(records(&alone), [(0, 7), (1, 10), (2, 0), (3, 0), (4, 30)]);
        assert_eq!((alone.in_time.records, alone.measured.records), (40, 41));
        assert_eq!(over, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn what_other_threads_count_beside_a_gap_stays() {
        let reports = [
            (0, 0, 1, false),
            (1, 0, 1, false),
            (0, 1, 10, false),
            (0, 2, 10, false),
            (0, 3, 10, false),
            (1, 3, 5, true),
            (0, 4, 10, true),
        ];
        let (both, _) = collected(2, &reports);
        assert_eq!(records(&both), [(0, 2), (1, 10), (2, 10), (3, 15), (4, 10)]);
        assert_eq!(both.in_time.records, 45);
    }

    #[test]
    fn a_thread_that_says_nothing_holds_up_no_second_for_good() {
        let (both, over) = collected(2, &[(0, 0, 1, false), (0, 1, 10, true)]);
        assert_eq!(records(&both), [(0, 1), (1, 10)]);
        assert_eq!(over, [0, 1]);
    }
}
