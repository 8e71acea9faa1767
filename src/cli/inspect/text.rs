//! How an inspection is written for people.

use std::fmt::Write;

pub use crate::cli::output::size;

/// A cell of a table: words stand left, numbers right.
pub enum Cell {
    Word(String),
    Number(String),
}

pub fn word(text: impl ToString) -> Cell {
    Cell::Word(text.to_string())
}

pub fn number(value: impl ToString) -> Cell {
    Cell::Number(value.to_string())
}

impl Cell {
    fn text(&self) -> &str {
        match self {
            Cell::Word(text) | Cell::Number(text) => text,
        }
    }
}

/// Rows under a header, every column as wide as its widest cell.
pub fn table<const N: usize>(header: [&str; N], rows: &[[Cell; N]]) -> String {
    let mut widths = header.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text().chars().count());
        }
    }
    // A column of numbers has its header over the last digit.
    let right: [bool; N] =
        std::array::from_fn(|column| rows.first().is_some_and(|row| matches!(row[column], Cell::Number(_))));
    let mut out = String::new();
    let mut line = |cells: [(&str, bool); N]| {
        let padded: Vec<String> = cells
            .iter()
            .zip(widths)
            .map(
                |((text, right), width)| {
                    if *right { format!("{text:>width$}") } else { format!("{text:<width$}") }
                },
            )
            .collect();
        out += padded.join("  ").trim_end();
        out.push('\n');
    };
    line(std::array::from_fn(|column| (header[column], right[column])));
    for row in rows {
        line(std::array::from_fn(|column| (row[column].text(), matches!(row[column], Cell::Number(_)))));
    }
    out
}

/// Bytes as numbers and as what of them is ASCII, 16 a line.
pub fn hex_dump(bytes: &[u8], indent: &str) -> String {
    let mut out = String::new();
    for (index, line) in bytes.chunks(16).enumerate() {
        let numbers: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let ascii: String = line
            .iter()
            .map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' })
            .collect();
        let _ = writeln!(out, "{indent}{:06x}  {:<47}  {ascii}", index * 16, numbers.join(" "));
    }
    out
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_left_and_numbers_right() {
        let rows = [[word("sealed"), number(7)], [word("x"), number(1234)]];
        assert_eq!(table(["STATE", "BYTES"], &rows), "STATE   BYTES\nsealed      7\nx        1234\n");
        assert_eq!(table(["STATE", "BYTES"], &[]), "STATE  BYTES\n");
    }

    #[test]
    fn bytes() {
        assert_eq!(hex(&[0, 255]), "00ff");
        let dump = hex_dump(b"ringmq\n", "");
        assert_eq!(dump, format!("000000  72 69 6e 67 6d 71 0a{}  ringmq.\n", " ".repeat(27)));
    }
}
