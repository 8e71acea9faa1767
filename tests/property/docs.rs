//! The protocol table of the documentation, generated from what the codec supports.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use ringmq::kafka::protocol::ApiKey;

const BEGIN: &str = "<!-- begin: kafka apis (generated) -->\n";
const END: &str = "<!-- end: kafka apis -->";

fn table() -> String {
    let shown = |versions: RangeInclusive<i16>| format!("{}–{}", versions.start(), versions.end());
    let mut table =
        String::from("| key | API | versions | advertised | flexible since |\n|--:|:--|:--|:--|--:|\n");
    for &api in ApiKey::ALL {
        table += &format!(
            "| {} | {} | {} | {} | {} |\n",
            api.key(),
            api.name(),
            shown(api.versions()),
            shown(api.versions_advertised()),
            api.flexible_since()
        );
    }
    table
}

#[test]
fn the_protocol_table_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PROTOCOLS.md");
    let document = fs::read_to_string(&path).expect("docs/PROTOCOLS.md is readable");
    let (before, rest) = document.split_once(BEGIN).expect("the table's begin is marked");
    let (found, after) = rest.split_once(END).expect("the table's end is marked");
    let expected = table();
    if std::env::var_os("RINGMQ_UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).expect("docs are writable");
        return;
    }
    assert_eq!(found, expected, "run with RINGMQ_UPDATE_DOCS=1 to rewrite the table");
}
