//! Dates of the Gregorian calendar, by arithmetic.

/// Days from the first of March of the year 0 to 1970. Eras of 400 years begin on such a day, so that leap days
/// come last.
const DAYS_TO_1970: i64 = 719_468;
const DAYS_OF_ERA: i64 = 146_097;

/// Year, month and day of a day since 1970.
pub fn date_of_day(day: i64) -> (i64, i64, i64) {
    let shifted = day + DAYS_TO_1970;
    let (era, of_era) = (shifted.div_euclid(DAYS_OF_ERA), shifted.rem_euclid(DAYS_OF_ERA));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The day since 1970 of a date. `None`: there is no such date.
pub fn day_of_date(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(0..=9999).contains(&year) || !(1..=12).contains(&month) {
        return None;
    }
    let from_march = if month > 2 { year } else { year - 1 };
    let (era, year_of_era) = (from_march.div_euclid(400), from_march.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    let found = era * DAYS_OF_ERA + of_era - DAYS_TO_1970;
    // The 30th of February is another day's name.
    (date_of_day(found) == (year, month, day)).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates() {
        for (day, date) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (20_782, (2026, 11, 25)),
            (-719_528, (0, 1, 1)),
        ] {
            assert_eq!(date_of_day(day), date);
            assert_eq!(day_of_date(date.0, date.1, date.2), Some(day));
        }
        for (year, month, day) in [(2025, 2, 29), (2026, 4, 31), (2026, 13, 1), (2026, 1, 0), (1900, 2, 29)] {
            assert_eq!(day_of_date(year, month, day), None);
        }
        for day in -800_000..800_000 {
            let (year, month, of_month) = date_of_day(day);
            if (0..=9999).contains(&year) {
                assert_eq!(day_of_date(year, month, of_month), Some(day));
            }
        }
    }
}
