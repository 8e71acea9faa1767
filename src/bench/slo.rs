//! A service level objective over latencies: `p99<5ms,p99.9<20ms`.

use std::fmt;
use std::str::FromStr;

use super::sound::Basis;
use super::stats::Percentiles;

/// Every percentile must stay below its limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo(Vec<Limit>);

#[derive(Clone, Debug, PartialEq)]
struct Limit {
    name: Name,
    below_ns: u64,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    P50,
    P90,
    P99,
    P999,
    P9999,
    Max,
}

impl Name {
    const ALL: [(&'static str, Name); 6] = [
        ("p50", Name::P50),
        ("p90", Name::P90),
        ("p99", Name::P99),
        ("p99.9", Name::P999),
        ("p99.99", Name::P9999),
        ("max", Name::Max),
    ];

    /// `None` for the maximum, which is a sample and no percentile.
    fn quantile(self) -> Option<f64> {
        match self {
            Name::P50 => Some(0.5),
            Name::P90 => Some(0.9),
            Name::P99 => Some(0.99),
            Name::P999 => Some(0.999),
            Name::P9999 => Some(0.9999),
            Name::Max => None,
        }
    }

    fn of(self, latency: &Percentiles) -> u64 {
        match self {
            Name::P50 => latency.p50_ns,
            Name::P90 => latency.p90_ns,
            Name::P99 => latency.p99_ns,
            Name::P999 => latency.p99_9_ns,
            Name::P9999 => latency.p99_99_ns,
            Name::Max => latency.max_ns,
        }
    }
}

impl Slo {
    /// The first of its percentiles that is not [sound](Basis::is_sound), by name. A maximum always is: it is a
    /// sample, and one is enough to miss the objective.
    pub fn unsound(&self, basis: &Basis<'_>) -> Option<&'static str> {
        let mut names = Name::ALL.iter().filter(|(_, name)| self.0.iter().any(|limit| limit.name == *name));
        let unsound = |name: Name| name.quantile().is_some_and(|quantile| !basis.is_sound(quantile));
        names.find(|(_, name)| unsound(*name)).map(|(text, _)| *text)
    }

    pub fn is_met(&self, latency: &Percentiles) -> bool {
        latency.samples > 0 && self.0.iter().all(|limit| limit.name.of(latency) < limit.below_ns)
    }
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Slo, String> {
        text.split(',').map(parse_limit).collect::<Result<_, _>>().map(Slo)
    }
}

fn parse_limit(text: &str) -> Result<Limit, String> {
    let text = text.trim();
    let (name, limit) = text.split_once('<').ok_or(format!("{text:?} is not like p99<5ms"))?;
    let known = Name::ALL.iter().find(|(known, _)| *known == name.trim());
    let (_, name) = known.ok_or(format!("{name:?} is none of p50, p90, p99, p99.9, p99.99, max"))?;
    let limit = limit.trim();
    let number = limit.trim_end_matches(|c: char| c.is_alphabetic());
    let unit_ns = match &limit[number.len()..] {
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        unit => return Err(format!("{unit:?} is none of us, ms, s")),
    };
    let value: f64 = number.parse().map_err(|_| format!("{number:?} is no number"))?;
    if !(value.is_finite() && value > 0.0) {
        return Err(format!("{value} is not above 0"));
    }
    Ok(Limit { name: *name, below_ns: (value * unit_ns) as u64, text: text.to_owned() })
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits: Vec<&str> = self.0.iter().map(|limit| limit.text.as_str()).collect();
        f.write_str(&limits.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_met_when_every_percentile_is_below_its_limit() {
        let slo: Slo = "p99<5ms, p99.9<20ms".parse().unwrap();
        let latency =
            |p99_ns, p99_9_ns| Percentiles { samples: 1, p99_ns, p99_9_ns, ..Percentiles::default() };
        assert!(slo.is_met(&latency(4_999_999, 19_999_999)));
        assert!(!slo.is_met(&latency(5_000_000, 1)));
        assert!(!slo.is_met(&latency(1, 20_000_000)));
        assert!(!slo.is_met(&Percentiles::default()), "nothing was measured");
        assert_eq!(slo.to_string(), "p99<5ms,p99.9<20ms");
    }

    #[test]
    fn a_percentile_that_nobody_measured_is_named() {
        let latency = Percentiles { samples: 1, ..Percentiles::default() };
        for (text, requests, own_from, unsound) in [
            ("p99<5ms,p99.9<20ms", 201, 1.0, Some("p99")),
            ("p99<5ms,p99.9<20ms", 10_000, 1.0, Some("p99.9")),
            ("p99<5ms,p99.9<20ms", 100_000, 1.0, None),
            ("p99<5ms,p99.9<20ms", 100_000, 0.999, Some("p99.9")),
            ("p99<5ms,p99.9<20ms", 100_000, 0.9999, None),
            ("p50<1s", 200, 0.99, None),
            ("p50<1s", 199, 1.0, Some("p50")),
            ("max<1s", 1, 0.5, None),
        ] {
            let slo: Slo = text.parse().unwrap();
            let basis = Basis { latency: &latency, requests, own_from };
            assert_eq!(slo.unsound(&basis), unsound, "{text} {requests} {own_from}");
        }
    }

    #[test]
    fn what_is_no_objective_is_refused() {
        for text in ["", "p99", "p98<5ms", "p99<5", "p99<5h", "p99<-1ms", "p99<xms", "p99<5ms,"] {
            assert!(text.parse::<Slo>().is_err(), "{text:?}");
        }
    }
}
