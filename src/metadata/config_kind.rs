//! The types of configs' values, as Kafka reports them, with the values that make sense.

/// Kafka's longest string. Every shard keeps the lists, so they must not be as large as a request.
const LIST_BYTES_MAX: usize = i16::MAX as usize;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ConfigKind {
    Boolean,
    /// From `min` to `i16::MAX`.
    Short {
        min: i16,
    },
    /// From `min` to `i32::MAX`.
    Int {
        min: i32,
    },
    /// In one of these ranges, both of whose ends are in it.
    IntIn(&'static [(i32, i32)]),
    /// From `min` to `i64::MAX`.
    Long {
        min: i64,
    },
    /// Any number.
    Double,
    /// From 0 to 1.
    Ratio,
    Choice(&'static [&'static str]),
    Text,
    /// Names with commas in between.
    List,
    /// The name of a Java class.
    Class,
    /// What is never told.
    Password,
}

/// Levels of compression, as Kafka's codecs take them: -1 leaves it to gzip.
pub const GZIP_LEVEL: ConfigKind = ConfigKind::IntIn(&[(1, 9), (-1, -1)]);
pub const LZ4_LEVEL: ConfigKind = ConfigKind::IntIn(&[(1, 17)]);
pub const ZSTD_LEVEL: ConfigKind = ConfigKind::IntIn(&[(-131_072, 22)]);

impl ConfigKind {
    /// Whether that is such a value; what is, if it is not.
    pub fn check(self, value: &str) -> Result<(), String> {
        let whole = |min: i64, max: i64| {
            let fits = value.parse().is_ok_and(|value: i64| (min..=max).contains(&value));
            (fits, format!("a number from {min} to {max}"))
        };
        let (fits, expected) = match self {
            ConfigKind::Boolean => (matches!(value, "true" | "false"), "true or false".to_owned()),
            ConfigKind::Short { min } => whole(min.into(), i16::MAX.into()),
            ConfigKind::Int { min } => whole(min.into(), i32::MAX.into()),
            ConfigKind::IntIn(ranges) => {
                let within = |number: i32| ranges.iter().any(|(min, max)| (*min..=*max).contains(&number));
                let words = ranges.iter().map(|(min, max)| match max - min {
                    0 => min.to_string(),
                    _ => format!("a number from {min} to {max}"),
                });
                (value.parse().is_ok_and(within), words.collect::<Vec<_>>().join(" or "))
            }
            ConfigKind::Long { min } => whole(min, i64::MAX),
            ConfigKind::Double => {
                (value.parse().is_ok_and(|value: f64| value.is_finite()), "a number".to_owned())
            }
            ConfigKind::Ratio => (
                value.parse().is_ok_and(|value: f64| (0.0..=1.0).contains(&value)),
                "a number from 0 to 1".to_owned(),
            ),
            ConfigKind::Choice(choices) => (choices.contains(&value), choices.join(" or ")),
            ConfigKind::List => {
                (value.len() <= LIST_BYTES_MAX, format!("a list of at most {LIST_BYTES_MAX} bytes"))
            }
            ConfigKind::Text | ConfigKind::Class | ConfigKind::Password => return Ok(()),
        };
        if fits { Ok(()) } else { Err(expected) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_and_what_is_said_of_the_rest() {
        let table = [
            (ConfigKind::Boolean, "true", "TRUE", "true or false"),
            (ConfigKind::Short { min: 1 }, "32767", "32768", "a number from 1 to 32767"),
            (ConfigKind::Int { min: -1 }, "-1", "2147483648", "a number from -1 to 2147483647"),
            (ConfigKind::Long { min: 0 }, "2147483648", "-1", "a number from 0 to 9223372036854775807"),
            (ConfigKind::Double, "-0.5", "inf", "a number"),
            (ConfigKind::Ratio, "1", "1.1", "a number from 0 to 1"),
            (ConfigKind::Choice(&["a", "b"]), "b", "c", "a or b"),
        ];
        for (kind, fits, not, expected) in table {
            assert_eq!(kind.check(fits), Ok(()), "{kind:?}");
            assert_eq!(kind.check(not), Err(expected.to_owned()), "{kind:?}");
            assert_eq!(kind.check(""), Err(expected.to_owned()), "{kind:?}");
        }
        let levels = [
            (GZIP_LEVEL, &[-1, 1, 9][..], &[i32::MIN, -2, 0, 10, i32::MAX][..], "a number from 1 to 9 or -1"),
            (LZ4_LEVEL, &[1, 9, 17], &[-1, 0, 18], "a number from 1 to 17"),
            (ZSTD_LEVEL, &[-131_072, -1, 0, 3, 22], &[-131_073, 23], "a number from -131072 to 22"),
        ];
        for (kind, fit, do_not, expected) in levels {
            for level in fit {
                assert_eq!(kind.check(&level.to_string()), Ok(()), "{kind:?} {level}");
            }
            let others = ["".to_owned(), "fast".to_owned(), "1.0".to_owned(), "2147483648".to_owned()];
            for level in do_not.iter().map(i32::to_string).chain(others) {
                assert_eq!(kind.check(&level), Err(expected.to_owned()), "{kind:?} {level}");
            }
        }
        let long = "x".repeat(LIST_BYTES_MAX);
        assert_eq!(ConfigKind::List.check(&long), Ok(()));
        assert!(ConfigKind::List.check(&(long + "x")).is_err());
        for kind in [ConfigKind::Text, ConfigKind::Class, ConfigKind::Password] {
            assert_eq!(kind.check("anything"), Ok(()));
        }
    }
}
