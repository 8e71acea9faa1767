//! What commands print: JSON for scripts, tables for people.

use serde::Serialize;

/// What a command found out, for scripts as it is and for people in words.
pub trait Output: Serialize {
    fn text(&self) -> String;
}

pub fn output(json: bool, result: &impl Output) -> anyhow::Result<String> {
    if !json {
        return Ok(printable(&result.text(), |c| c == '\n'));
    }
    Ok(printable_json(&(serde_json::to_string_pretty(result)? + "\n")))
}

/// For a terminal: names come from whoever made them up, and may hold what moves its cursor, rings its bell or
/// turns text around. `kept`: of control characters, those that are meant.
pub fn printable(text: &str, kept: impl Fn(char) -> bool) -> String {
    escaped(text, kept, |c| c.escape_default().to_string())
}

/// The same document: such characters stand only in its strings, and scripts read them from their numbers.
fn printable_json(document: &str) -> String {
    escaped(document, |c| c == '\n', |c| format!("\\u{:04x}", u32::from(c)))
}

fn escaped(text: &str, kept: impl Fn(char) -> bool, escape: impl Fn(char) -> String) -> String {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if (c.is_control() || turns(c)) && !kept(c) {
            printable += &escape(c);
        } else {
            printable.push(c);
        }
    }
    printable
}

/// Rows under a header, every column as wide as its widest cell. Numbers are short: all is left-aligned.
pub fn table<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows = rows.map(|row| row.map(|cell| printable(&cell, |_| false)));
    let rows: Vec<[String; N]> = std::iter::once(header.map(str::to_owned)).chain(rows).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// A cell for what may be unknown.
pub fn known<T: ToString>(value: Option<T>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

/// A size with three significant digits or so: `4.0 KiB`.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// `, did you mean ...?`, if there is something similar.
pub fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let similar = known.map(|known| (strsim::jaro_winkler(name, known), known));
    let nearest = similar.filter(|(likeness, _)| *likeness > 0.8).max_by(|a, b| a.0.total_cmp(&b.0));
    nearest.map(|(_, known)| format!(", did you mean {known:?}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        let rows = [["a", "1"], ["longer", "22"]].map(|row| row.map(str::to_owned));
        expect![[r#"
            NAME    N
            a       1
            longer  22
        "#]]
        .assert_eq(&table(["NAME", "N"], rows.into_iter()));
    }

    #[test]
    fn a_name_does_nothing_to_the_terminal() {
        let rows = [["\u{1b}[2Jg\rü", "1\n2"], ["\u{202e}abc\u{9b}", "\t"]].map(|row| row.map(str::to_owned));
        expect![[r#"
            NAME               N
            \u{1b}[2Jg\rü      1\n2
            \u{202e}abc\u{9b}  \t
        "#]]
        .assert_eq(&table(["NAME", "N"], rows.into_iter()));
        #[derive(Serialize)]
        struct Named(&'static str);
        impl Output for Named {
            fn text(&self) -> String {
                format!("group {}\n", self.0)
            }
        }
        let named = Named("\u{7}a");
        assert_eq!(output(false, &named).expect("prints"), "group \\u{7}a\n");
        assert_eq!(output(true, &named).expect("prints"), "\"\\u0007a\"\n");
        let turned = Named("\u{7f}\u{9b}31m\u{202e}\"\u{b}ü");
        let document = output(true, &turned).expect("prints");
        assert_eq!(document, "\"\\u007f\\u009b31m\\u202e\\\"\\u000bü\"\n");
        assert_eq!(serde_json::from_str::<String>(&document).expect("is sound"), turned.0);
    }

    #[test]
    fn sizes() {
        let table = [(0, "0 B"), (1023, "1023 B"), (4096, "4.0 KiB"), (3 << 40, "3.0 TiB")];
        for (bytes, expected) in table {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn similar_names() {
        let known = ["orders", "users"];
        assert_eq!(did_you_mean("order", known.into_iter()), ", did you mean \"orders\"?");
        assert_eq!(did_you_mean("web-logs", known.into_iter()), "");
    }
}
