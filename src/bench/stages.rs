//! Where the broker says the time went: its `/latency`, read before and after a run.
//!
//! RingMQ counts, per bucket of total latency, the time spent in each stage. The difference of two
//! readings is what the run itself cost, so that one can say "72 % of the p99 is the device".

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::error::BenchError;

const TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// One reading of `/latency`, as far as it is used here.
#[derive(Clone, Debug, Deserialize)]
pub struct Reading {
    buckets: Vec<ReadBucket>,
}

#[derive(Clone, Debug, Deserialize)]
struct ReadBucket {
    from_us: u64,
    to_us: Option<u64>,
    count: u64,
    stage_sum_us: InOrder,
}

/// The members of a JSON object in the order in which they came: that of the stages.
#[derive(Clone, Debug, Default)]
struct InOrder(Vec<(String, f64)>);

impl<'de> Deserialize<'de> for InOrder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<InOrder, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = InOrder;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of numbers")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InOrder, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(InOrder(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// What a run cost, by bucket of total latency and stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stages {
    pub names: Vec<String>,
    /// Ascending, none of them empty.
    pub buckets: Vec<StageBucket>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageBucket {
    /// Total latency of its requests.
    pub from_us: u64,
    pub to_us: Option<u64>,
    pub count: u64,
    /// In the order of [`Stages::names`].
    pub sum_us: Vec<f64>,
}

/// The requests at or above a percentile, and what they waited for.
#[derive(Clone, Debug, PartialEq)]
pub struct Tail<'a> {
    pub count: u64,
    pub mean_us: Vec<(&'a str, f64)>,
}

impl Tail<'_> {
    pub fn total_us(&self) -> f64 {
        self.mean_us.iter().map(|(_, us)| us).sum()
    }

    /// The stage that took the most, and its share.
    pub fn slowest(&self) -> (&str, f64) {
        let slowest = self.mean_us.iter().max_by(|a, b| a.1.total_cmp(&b.1));
        slowest.map_or(("nothing", 0.0), |(name, us)| (name, us / self.total_us().max(f64::MIN_POSITIVE)))
    }
}

impl Stages {
    /// What happened between two readings; `None` when nothing did, or when the broker has begun
    /// anew in between.
    pub fn between(before: &Reading, after: &Reading) -> Option<Stages> {
        let names: Vec<String> =
            after.buckets.first()?.stage_sum_us.0.iter().map(|(name, _)| name.clone()).collect();
        let sums = |bucket: &ReadBucket| -> Vec<f64> {
            let of = |name: &String| bucket.stage_sum_us.0.iter().find(|(other, _)| other == name);
            names.iter().map(|name| of(name).map_or(0.0, |(_, us)| *us)).collect()
        };
        let mut buckets = Vec::new();
        for bucket in &after.buckets {
            let mut count = bucket.count;
            let mut sum_us = sums(bucket);
            if let Some(earlier) = before.buckets.iter().find(|earlier| earlier.from_us == bucket.from_us) {
                count = count.checked_sub(earlier.count)?;
                for (now, then) in sum_us.iter_mut().zip(sums(earlier)) {
                    *now = (*now - then).max(0.0);
                }
            }
            if count > 0 {
                let ReadBucket { from_us, to_us, .. } = *bucket;
                buckets.push(StageBucket { from_us, to_us, count, sum_us });
            }
        }
        (!buckets.is_empty()).then_some(Stages { names, buckets })
    }

    /// The requests from the bucket on in which `quantile` lies.
    pub fn tail(&self, quantile: f64) -> Option<Tail<'_>> {
        let total: u64 = self.buckets.iter().map(|bucket| bucket.count).sum();
        // A hair less, because 1 - 0.99 is above a hundredth in binary.
        let beyond = ((total as f64 * (1.0 - quantile) - 1e-6).ceil() as u64).max(1);
        let (mut count, mut sums) = (0, vec![0.0; self.names.len()]);
        for bucket in self.buckets.iter().rev() {
            count += bucket.count;
            sums.iter_mut().zip(&bucket.sum_us).for_each(|(sum, us)| *sum += us);
            if count >= beyond {
                let mean_us =
                    self.names.iter().map(String::as_str).zip(sums.iter().map(|us| us / count as f64));
                return Some(Tail { count, mean_us: mean_us.collect() });
            }
        }
        None
    }
}

/// Read a broker's `/latency`.
pub fn fetch(admin: SocketAddr) -> Result<Reading, BenchError> {
    let text = get(admin, "/latency")?;
    serde_json::from_str(&text).map_err(|error| BenchError::Io {
        what: "the broker's /latency is not what was expected",
        reason: error.into(),
    })
}

/// The body of one HTTP answer.
pub fn get(admin: SocketAddr, path: &str) -> Result<String, BenchError> {
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&admin, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        match head.split(' ').nth(1) {
            Some("200") => Ok(body.to_owned()),
            _ => Err(std::io::Error::other(head.lines().next().unwrap_or("no answer").to_owned())),
        }
    };
    exchange().map_err(BenchError::io("cannot read the broker's admin endpoint"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(buckets: &[(u64, u64, f64, f64)]) -> Reading {
        let bucket = |&(from_us, count, queue, device)| {
            let sums = format!(r#"{{"queue":{queue},"device":{device}}}"#);
            format!(r#"{{"from_us":{from_us},"to_us":null,"count":{count},"stage_sum_us":{sums}}}"#)
        };
        let buckets: Vec<String> = buckets.iter().map(bucket).collect();
        serde_json::from_str(&format!(r#"{{"requests":1,"buckets":[{}]}}"#, buckets.join(","))).unwrap()
    }

    #[test]
    fn the_difference_of_two_readings_is_the_run() {
        let before = reading(&[(10, 5, 30.0, 20.0)]);
        let after = reading(&[(10, 995, 5_000.0, 5_000.0), (1000, 10, 100.0, 9_900.0)]);
        let stages = Stages::between(&before, &after).unwrap();
        assert_eq!(stages.names, ["queue", "device"]);
        assert_eq!((stages.buckets[0].count, stages.buckets[0].sum_us[1]), (990, 4_980.0));
        let tail = stages.tail(0.99).unwrap();
        assert_eq!((tail.count, tail.total_us()), (10, 1000.0));
        assert_eq!(tail.slowest(), ("device", 0.99));
        assert_eq!(stages.tail(0.5).unwrap().count, 1000);
    }

    #[test]
    fn a_broker_that_began_anew_says_nothing() {
        let (many, few) = (reading(&[(10, 5, 1.0, 1.0)]), reading(&[(10, 3, 1.0, 1.0)]));
        assert_eq!(Stages::between(&many, &few), None);
        assert_eq!(Stages::between(&many, &many), None);
        assert_eq!(Stages::between(&reading(&[]), &reading(&[])), None);
    }
}
