//! The types of configuration values: what one may write, and how a value is shown again.
//!
//! A value has one textual form, the same in a file, in the environment and in a flag; `parse` and
//! `show` are each other's inverse. An error is the end of a sentence that begins with the value.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A type that a key of the configuration can have.
pub trait Value: Sized {
    /// What one may write, as a phrase with examples.
    fn kind() -> String;
    fn parse(text: &str) -> Result<Self, String>;
    fn show(&self) -> String;
}

/// A size in bytes. Written with a unit (`4KiB`, `256MiB`, `1GB`); only 0 needs none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A value that the broker chooses (`auto`) unless it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auto<T> {
    Auto,
    Given(T),
}

/// A bound that need not exist (`unlimited`; `-1` is understood too, because Kafka writes it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit<T> {
    Unlimited,
    At(T),
}

/// An address to listen on or to connect to: `host:port`. Names are resolved when used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an IP address, without the brackets of IPv6.
    pub host: String,
    pub port: u16,
}

/// Numbers of CPUs, ascending and distinct. Written as the kernel writes them: `0-3,8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(Vec<usize>);

impl<T> Auto<T> {
    /// The given value, or what `choose` says.
    pub fn or_else(self, choose: impl FnOnce() -> T) -> T {
        match self {
            Auto::Auto => choose(),
            Auto::Given(value) => value,
        }
    }
}

impl<T> Limit<T> {
    pub fn at(self) -> Option<T> {
        match self {
            Limit::Unlimited => None,
            Limit::At(value) => Some(value),
        }
    }
}

impl HostPort {
    /// True for the addresses that mean "every interface": nothing that a client can connect to.
    pub fn is_wildcard(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
    }

    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        Ok((self.host.as_str(), self.port).to_socket_addrs()?.collect())
    }
}

impl CpuList {
    /// The highest number that is accepted: the kernel's own `CONFIG_NR_CPUS` limit on x86-64.
    const CPU_MAX: usize = 8191;

    pub fn as_slice(&self) -> &[usize] {
        &self.0
    }
}

// --- numbers with units ---------------------------------------------------------------------------

/// Units of sizes, the largest first: a value is shown in the first that divides it.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// Units of durations, in nanoseconds.
const DURATION_UNITS: &[(&str, u64)] = &[
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Reads `<whole number><unit>`.
fn parse_with_unit(text: &str, what: &str, units: &[(&str, u64)], example: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    if number.is_empty() {
        return Err(format!("is not a {what}: write a whole number and a unit, for example {example}"));
    }
    let number: u64 = number.parse().map_err(|_| format!("is too large for a {what}"))?;
    if unit.is_empty() {
        return match number {
            0 => Ok(0),
            _ => Err(format!("has no unit: write for example {example}")),
        };
    }
    let Some(&(_, factor)) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) else {
        let names: Vec<_> = units.iter().rev().map(|&(name, _)| name).collect();
        return Err(format!("has the unknown unit `{unit}`: the units of a {what} are {}", names.join(", ")));
    };
    number.checked_mul(factor).ok_or_else(|| format!("is too large for a {what}"))
}

fn show_with_unit(value: u64, units: &[(&str, u64)]) -> String {
    if value == 0 {
        return "0".to_owned();
    }
    let (name, factor) =
        units.iter().find(|(_, factor)| value.is_multiple_of(*factor)).expect("the last unit is 1");
    format!("{}{name}", value / factor)
}

impl Value for ByteSize {
    fn kind() -> String {
        "a size with its unit: 4KiB, 256MiB, 1GiB".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        parse_with_unit(text, "size", SIZE_UNITS, "64MiB").map(ByteSize)
    }

    fn show(&self) -> String {
        show_with_unit(self.0, SIZE_UNITS)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show())
    }
}

impl Value for Duration {
    fn kind() -> String {
        "a duration with its unit: 50us, 10ms, 5s, 10m, 12h, 7d".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        parse_with_unit(text, "duration", DURATION_UNITS, "5s").map(Duration::from_nanos)
    }

    fn show(&self) -> String {
        show_with_unit(self.as_nanos() as u64, DURATION_UNITS)
    }
}

// --- plain values ---------------------------------------------------------------------------------

macro_rules! integer_value {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn kind() -> String {
                "a whole number".to_owned()
            }

            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("is not a whole number from {} to {}", <$type>::MIN, <$type>::MAX))
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

integer_value!(u8, u16, u32);

impl Value for bool {
    fn kind() -> String {
        "true or false".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        bool::from_str(text).map_err(|_| "is neither true nor false".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    fn kind() -> String {
        "text".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        match text.is_empty() {
            true => Err("is empty".to_owned()),
            false => Ok(text.to_owned()),
        }
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    fn kind() -> String {
        "a path; a relative one counts from the working directory".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        String::parse(text).map(PathBuf::from)
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

/// Declares an enum whose variants are written as words.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $crate::config::value::Value for $name {
            fn kind() -> String {
                format!("one of {}", [$($text),*].join(", "))
            }

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok($name::$variant),)*
                    _ => Err(format!("is not {}", Self::kind())),
                }
            }

            fn show(&self) -> String {
                match self {
                    $($name::$variant => $text,)*
                }
                .to_owned()
            }
        }
    };
}
pub(super) use choice;

// --- values made of values ------------------------------------------------------------------------

impl<T: Value> Value for Auto<T> {
    fn kind() -> String {
        format!("auto, or {}", T::kind())
    }

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Auto::Auto),
            _ => T::parse(text).map(Auto::Given).map_err(|why| format!("{why}, or auto")),
        }
    }

    fn show(&self) -> String {
        match self {
            Auto::Auto => "auto".to_owned(),
            Auto::Given(value) => value.show(),
        }
    }
}

impl<T: Value> Value for Limit<T> {
    fn kind() -> String {
        format!("unlimited, or {}", T::kind())
    }

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "unlimited" | "-1" => Ok(Limit::Unlimited),
            _ => T::parse(text).map(Limit::At).map_err(|why| format!("{why}, or unlimited")),
        }
    }

    fn show(&self) -> String {
        match self {
            Limit::Unlimited => "unlimited".to_owned(),
            Limit::At(value) => value.show(),
        }
    }
}

/// A list is written as an array, or as text with commas.
impl<T: Value> Value for Vec<T> {
    fn kind() -> String {
        format!("a list, each {}", T::kind())
    }

    fn parse(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(|item| item.trim())
            .map(|item| T::parse(item).map_err(|why| format!("has an element `{item}` that {why}")))
            .collect()
    }

    fn show(&self) -> String {
        self.iter().map(T::show).collect::<Vec<_>>().join(",")
    }
}

impl Value for HostPort {
    fn kind() -> String {
        "an address as host:port: 127.0.0.1:9092, [::1]:9092, 0.0.0.0:9092".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (host, port) =
            text.rsplit_once(':').ok_or("is not an address: write host:port, for example 127.0.0.1:9092")?;
        let port =
            port.parse().map_err(|_| format!("has no port: `{port}` is not a number from 0 to 65535"))?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inside) => inside,
            None if host.contains(':') => return Err(format!("is ambiguous: write IPv6 as [{host}]:{port}")),
            None => host,
        };
        if host.is_empty() {
            return Err("has no host: for every interface write 0.0.0.0 or [::]".to_owned());
        }
        Ok(HostPort { host: host.to_owned(), port })
    }

    fn show(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show())
    }
}

impl Value for CpuList {
    fn kind() -> String {
        "a list of CPUs: 0-3,8".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut cpus = BTreeSet::new();
        for part in text.split(',').map(str::trim) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.trim().parse::<usize>().ok().filter(|&cpu| cpu <= Self::CPU_MAX);
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => {
                    // One shard a CPU: who writes it twice means something else.
                    if let Some(twice) = (first..=last).find(|cpu| !cpus.insert(*cpu)) {
                        return Err(format!("names CPU {twice} twice"));
                    }
                }
                _ => {
                    return Err(format!("is not a list of CPUs at `{part}`: write for example 0-3,8"));
                }
            }
        }
        Ok(CpuList(cpus.into_iter().collect()))
    }

    fn show(&self) -> String {
        let ranges = self.0.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
            [only] => only.to_string(),
            [first, .., last] => format!("{first}-{last}"),
            [] => unreachable!("chunk_by gives no empty run"),
        });
        ranges.collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown<T: Value>(text: &str) -> String {
        match T::parse(text) {
            Ok(value) => {
                let shown = value.show();
                assert_eq!(T::parse(&shown).ok().map(|again| again.show()), Some(shown.clone()), "{text}");
                shown
            }
            Err(why) => format!("`{text}` {why}"),
        }
    }

    #[test]
    fn sizes_need_a_unit() {
        let table = [
            ("64MiB", "64MiB"),
            ("65536KiB", "64MiB"),
            ("64 mib", "64MiB"),
            ("1048588B", "1048588B"),
            ("8GB", "8GB"),
            ("0", "0"),
            ("16777215TiB", "16777215TiB"),
            ("64", "`64` has no unit: write for example 64MiB"),
            (
                "1.5GiB",
                "`1.5GiB` has the unknown unit `.5GiB`: the units of a size are B, KB, KiB, MB, MiB, GB, GiB, TB, TiB",
            ),
            ("MiB", "`MiB` is not a size: write a whole number and a unit, for example 64MiB"),
            ("", "`` is not a size: write a whole number and a unit, for example 64MiB"),
            ("-1", "`-1` is not a size: write a whole number and a unit, for example 64MiB"),
            ("16777216TiB", "`16777216TiB` is too large for a size"),
            ("99999999999999999999B", "`99999999999999999999B` is too large for a size"),
        ];
        for (text, want) in table {
            assert_eq!(shown::<ByteSize>(text), want);
        }
    }

    #[test]
    fn durations_need_a_unit() {
        let table = [
            ("10ms", "10ms"),
            ("168h", "7d"),
            ("90s", "90s"),
            ("50us", "50us"),
            ("0", "0"),
            ("0s", "0"),
            ("10", "`10` has no unit: write for example 5s"),
            (
                "5 weeks",
                "`5 weeks` has the unknown unit `weeks`: the units of a duration are ns, us, ms, s, m, h, d",
            ),
        ];
        for (text, want) in table {
            assert_eq!(shown::<Duration>(text), want);
        }
    }

    #[test]
    fn addresses_lists_and_limits() {
        assert_eq!(shown::<HostPort>("127.0.0.1:9092"), "127.0.0.1:9092");
        assert_eq!(shown::<HostPort>("[::1]:0"), "[::1]:0");
        assert_eq!(shown::<HostPort>("::1:9092"), "`::1:9092` is ambiguous: write IPv6 as [::1]:9092");
        assert_eq!(
            shown::<HostPort>("9092"),
            "`9092` is not an address: write host:port, for example 127.0.0.1:9092"
        );
        assert_eq!(
            shown::<HostPort>(":9092"),
            "`:9092` has no host: for every interface write 0.0.0.0 or [::]"
        );
        assert_eq!(
            shown::<HostPort>("a:99999"),
            "`a:99999` has no port: `99999` is not a number from 0 to 65535"
        );
        assert_eq!(shown::<Vec<HostPort>>("a:1, b:2"), "a:1,b:2");
        assert_eq!(shown::<CpuList>("8,0-3"), "0-3,8");
        for twice in ["0,0", "8,0-3,2", "0-3,3-5"] {
            assert!(shown::<CpuList>(twice).ends_with(" twice"), "{twice}");
        }
        assert_eq!(shown::<CpuList>("3-1"), "`3-1` is not a list of CPUs at `3-1`: write for example 0-3,8");
        assert_eq!(
            shown::<CpuList>("0-4000000000"),
            "`0-4000000000` is not a list of CPUs at `0-4000000000`: write for example 0-3,8"
        );
        assert_eq!(shown::<Auto<u16>>("auto"), "auto");
        assert_eq!(shown::<Auto<u16>>("many"), "`many` is not a whole number from 0 to 65535, or auto");
        assert_eq!(shown::<Limit<ByteSize>>("-1"), "unlimited");
        assert_eq!(shown::<Limit<ByteSize>>("8GB"), "8GB");
        assert!(HostPort::parse("[::]:1").is_ok_and(|address| address.is_wildcard()));
        assert!(!HostPort::parse("localhost:1").is_ok_and(|address| address.is_wildcard()));
    }
}
