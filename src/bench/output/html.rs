//! `report.html`: one file with its style and its charts inside, for light and dark.
//!
//! It refers to nothing outside, so that it can be mailed, archived and opened in a plane.

use std::fmt::Write;

use super::BenchResult;
use super::plot::{Axis, Chart, Line, Point, Scale, bars};
use crate::base::calendar;
use crate::bench::report::{Report, Second};
use crate::bench::sound::{Basis, is_sound};
use crate::bench::stats::Percentiles;
use crate::bench::text::{duration, plural};

const STYLE: &str = include_str!("report.css");
/// Runs whose charts are all drawn; of more, only the comparison and the table.
const DETAILED_RUNS: usize = 12;
/// Widths of charts, in the page's own pixels: their text is as large as the page's in both.
const WIDE: f64 = 1048.0;
const NARROW: f64 = 500.0;
const STAGE_QUANTILES: [(f64, &str); 4] =
    [(0.0, "all requests"), (0.9, "above p90"), (0.99, "above p99"), (0.999, "above p99.9")];

const LATENCY: Axis = Axis { title: "latency", scale: Scale::Log, text: |ns| duration(ns as u64) };
const PERCENTILE: Axis = Axis { title: "percentile", scale: Scale::Nines, text: percentile };
const SECONDS: Axis = Axis { title: "seconds", scale: Scale::Linear, text: |s| format!("{s:.0}") };
const RATE: Axis = Axis { title: "records/s", scale: Scale::Linear, text: count };

/// The whole page.
pub fn page(result: &BenchResult) -> String {
    let mut body = String::new();
    head(&mut body, result);
    if result.runs.len() > 1 {
        comparison(&mut body, result);
    }
    for report in result.runs.iter().take(DETAILED_RUNS) {
        run(&mut body, report);
    }
    environment(&mut body, result);
    let title = escape(&title(result));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><style>\n{STYLE}</style></head><body><main>\n{body}</main></body></html>\n"
    )
}

/// The durability stands in the title: a number without syncing must not look like one with it.
fn title(result: &BenchResult) -> String {
    format!("{} · durability: {}", result.scenario, result.broker.durability)
}

fn head(out: &mut String, result: &BenchResult) {
    let badge = badge(result);
    put(out, format_args!("<header><h1>{} {badge}</h1>", escape(&title(result))));
    let generator = &result.generator;
    let revision = generator.revision.as_ref().map(|revision| format!(" ({revision})")).unwrap_or_default();
    put(
        out,
        format_args!(
            "<p class=\"dim\">{} · {} {}{} · {}</p>",
            utc(result.began_unix_ms),
            escape(&generator.name),
            escape(&generator.version),
            escape(&revision),
            escape(&result.broker.endpoint),
        ),
    );
    if let Some(finding) = &result.finding {
        put(out, format_args!("<p><b>{}</b></p>", escape(finding)));
    }
    out.push_str("</header>\n");
}

/// Of runs whose records nobody read, it does not claim that they are there.
fn badge(result: &BenchResult) -> String {
    if !result.passed {
        return "<span class=\"badge bad\">INVALID</span>".to_owned();
    }
    let runs = result.runs.len();
    let ledger = match result.runs.iter().filter(|report| report.ledger.is_unread()).count() {
        0 => "ledger complete".to_owned(),
        unread if unread == runs => "nothing read back".to_owned(),
        unread => format!("ledger complete, {unread} of {runs} runs not read back"),
    };
    format!("<span class=\"badge good\">valid · {ledger}</span>")
}

/// All runs in one chart each of percentiles and of rate against latency.
fn comparison(out: &mut String, result: &BenchResult) {
    out.push_str("<section><h2>All runs</h2><div class=\"charts\">");
    let lines = result.runs.iter().map(|report| Line {
        name: report.label.clone(),
        points: curve(report.ack_curve(), &report.ack_basis()),
        dashed: report.target_records_per_s.is_none(),
    });
    figure(out, "Ack latency by percentile", &Chart { x: PERCENTILE, y: LATENCY, lines: lines.collect() });
    let of = |name: &str, quantile: f64, value: fn(&Percentiles) -> u64| {
        let point = |report: &Report| Point {
            x: report.records_per_s,
            y: value(report.ack()) as f64,
            pale: !report.is_sound(quantile),
        };
        let mut points: Vec<Point> = result.runs.iter().map(point).collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        Line { name: name.to_owned(), points, dashed: false }
    };
    let lines =
        vec![of("p50", 0.5, |p| p.p50_ns), of("p99", 0.99, |p| p.p99_ns), of("p99.9", 0.999, |p| p.p99_9_ns)];
    figure(out, "Latency by achieved rate", &Chart { x: RATE, y: LATENCY, lines });
    out.push_str("</div><div class=\"scroll\"><table><tr><th>run</th><th class=\"n\">records/s</th><th class=\"n\">MB/s</th>");
    for name in ["p50", "p99", "p99.9", "max"] {
        put(out, format_args!("<th class=\"n\">{name}</th>"));
    }
    out.push_str("<th>verdict</th></tr>\n");
    for report in &result.runs {
        let ack = report.ack();
        put(
            out,
            format_args!(
                "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{:.1}</td>",
                escape(&report.label),
                count(report.records_per_s),
                report.bytes_per_s / 1e6
            ),
        );
        for (quantile, ns) in [(0.5, ack.p50_ns), (0.99, ack.p99_ns), (0.999, ack.p99_9_ns)] {
            cell(out, report.is_sound(quantile), ns);
        }
        cell(out, true, ack.max_ns);
        put(out, format_args!("<td>{}</td></tr>\n", escape(&verdict(report))));
    }
    out.push_str("</table></div></section>\n");
}

fn run(out: &mut String, report: &Report) {
    put(
        out,
        format_args!(
            "<section><h2>{}</h2><p class=\"dim\">{}</p>",
            escape(&report.label),
            escape(&load(report))
        ),
    );
    if !report.passed() {
        out.push_str("<ul class=\"reasons\">");
        for reason in
            report.invalid.iter().cloned().chain((!report.ledger.passed()).then(|| report.ledger.faults()))
        {
            put(out, format_args!("<li>{}</li>", escape(&reason)));
        }
        out.push_str("</ul>");
    }
    numbers(out, report);
    out.push_str("<div class=\"charts\">");
    percentiles(out, report);
    over_time(out, report);
    stages(out, report);
    out.push_str("</div>");
    latencies(out, report);
    out.push_str("</section>\n");
}

fn load(report: &Report) -> String {
    let pace = match report.target_records_per_s {
        Some(rate) => {
            let arrivals = if report.arrivals.poisson { " (Poisson)" } else { "" };
            let burst = report.arrivals.burst.map(|burst| {
                format!(", {} times the rate in one of every {} s", burst.factor, burst.every_s)
            });
            format!("open loop at {} records/s{arrivals}{}", count(rate), burst.unwrap_or_default())
        }
        None if report.connections == 0 => "reading only".to_owned(),
        None => "closed loop: its tail is not comparable with an open loop's".to_owned(),
    };
    let extras = [report.keys_text(), report.linger_text(), report.packing_text(), report.groups_text()];
    let extras: String = extras.iter().flatten().map(|text| format!(" · {text}")).collect();
    format!(
        "{pace} · acks={}{} · {} B × {}{} a request · {} · {} × {} in flight · {}{extras} · {} · {} s",
        report.acks_text(),
        if report.idempotent { ", idempotent" } else { "" },
        report.record_bytes,
        if report.linger_ns.is_some() { "up to " } else { "" },
        report.records_per_batch,
        report.places(),
        plural(report.connections as u64, "connection"),
        report.in_flight,
        report.readers(),
        report.cores_text(),
        report.seconds,
    )
}

fn numbers(out: &mut String, report: &Report) {
    let ack = report.ack();
    out.push_str("<div class=\"numbers\">");
    let mut number = |value: String, name: &str, sound: bool| {
        let class = if sound { "" } else { " unsound" };
        put(
            out,
            format_args!("<div class=\"number{class}\"><b>{}</b><span>{name}</span></div>", escape(&value)),
        );
    };
    number(count(report.records_per_s), "records/s", true);
    number(format!("{:.1}", report.bytes_per_s / 1e6), "MB/s", true);
    number(duration(ack.p50_ns), "p50", report.is_sound(0.5));
    number(duration(ack.p99_ns), "p99", report.is_sound(0.99));
    number(duration(ack.p99_9_ns), "p99.9", report.is_sound(0.999));
    number(duration(ack.max_ns), "max", true);
    if report.ledger.read > 0 {
        number(count(report.read_records_per_s), "records/s read", true);
    }
    out.push_str("</div>");
}

fn percentiles(out: &mut String, report: &Report) {
    let curves = &report.curves;
    let kinds = [
        ("response: ack − intended", &curves.response, report.response_basis(), false),
        ("service: ack − sent", &curves.service, report.service_basis(), true),
        ("end to end: received − intended", &curves.end_to_end, report.end_to_end_basis(), false),
    ];
    let lines = kinds.iter().filter(|(_, points, ..)| !points.is_empty());
    let lines = lines.map(|(name, points, basis, dashed)| Line {
        name: (*name).to_owned(),
        points: curve(points, basis),
        dashed: *dashed,
    });
    figure(
        out,
        "Latency by percentile; pale where too few requests lie beyond, or the generator itself was late",
        &Chart { x: PERCENTILE, y: LATENCY, lines: lines.collect() },
    );
}

fn over_time(out: &mut String, report: &Report) {
    let line = |name: &str, value: &dyn Fn(&Second) -> f64, dashed| {
        let point = |second: &Second| Point { x: second.second as f64, y: value(second), pale: false };
        Line { name: name.to_owned(), points: report.timeline.iter().map(point).collect(), dashed }
    };
    let percentile = |name: &str, quantile: f64, value: &dyn Fn(&Second) -> f64| {
        let mut line = line(name, value, false);
        for (point, second) in line.points.iter_mut().zip(&report.timeline) {
            point.pale = !is_sound(second.answered(), quantile);
        }
        line
    };
    let mut latency = vec![
        percentile("p50", 0.5, &|second| second.p50_ns as f64),
        percentile("p99", 0.99, &|second| second.p99_ns as f64),
        percentile("p99.9", 0.999, &|second| second.p99_9_ns as f64),
        line("max", &|second| second.max_ns as f64, true),
    ];
    // A second in which nothing was answered has no latency.
    latency.iter_mut().for_each(|line| line.points.retain(|point| point.y > 0.0));
    figure(
        out,
        "Latency, second by second; pale with too few requests",
        &Chart { x: SECONDS, y: LATENCY, lines: latency },
    );
    let answered = if report.acks == 0 { "sent" } else { "acknowledged" };
    let mut rates = vec![line(answered, &|second| second.records as f64, false)];
    if report.ledger.read > 0 {
        rates.push(line("read", &|second| second.read_records as f64, false));
    }
    if let Some(target) = report.target_records_per_s {
        rates.push(line("target", &|_| target, true));
    }
    figure(out, "Throughput, second by second", &Chart { x: SECONDS, y: RATE, lines: rates });
}

fn stages(out: &mut String, report: &Report) {
    let Some(stages) = &report.stages else { return };
    let rows = STAGE_QUANTILES.iter().filter_map(|&(quantile, name)| {
        let tail = stages.tail(quantile)?;
        Some((name.to_owned(), tail.mean_us.iter().map(|(_, us)| us * 1000.0).collect()))
    });
    let rows: Vec<(String, Vec<f64>)> = rows.collect();
    let names: Vec<String> = stages.names.iter().map(|name| name.replace('_', " ")).collect();
    out.push_str("<figure class=\"wide\"><h3>Where the broker's own time went: mean of the requests above a percentile</h3>");
    out.push_str(&bars(WIDE, &names, &rows, |ns| duration(ns as u64)));
    out.push_str("</figure>");
}

fn latencies(out: &mut String, report: &Report) {
    out.push_str("<div class=\"scroll\"><table><tr><th>latency</th><th class=\"n\">samples</th>");
    for name in ["p50", "p90", "p99", "p99.9", "p99.99", "max"] {
        put(out, format_args!("<th class=\"n\">{name}</th>"));
    }
    out.push_str("</tr>\n");
    let rows = [
        ("response: ack − intended", report.response_basis()),
        ("service: ack − sent", report.service_basis()),
        ("delay: sent − intended", report.delay_basis()),
        ("of it, the generator's own", report.own_delay_basis()),
        ("end to end: received − intended", report.end_to_end_basis()),
    ];
    for (name, basis) in rows.into_iter().filter(|(_, basis)| basis.latency.samples > 0) {
        let of = basis.latency;
        put(out, format_args!("<tr><td>{name}</td><td class=\"n\">{}</td>", samples(&basis)));
        let values = [
            (0.5, of.p50_ns),
            (0.9, of.p90_ns),
            (0.99, of.p99_ns),
            (0.999, of.p99_9_ns),
            (0.9999, of.p99_99_ns),
        ];
        for (quantile, ns) in values {
            cell(out, basis.is_sound(quantile), ns);
        }
        cell(out, true, of.max_ns);
        out.push_str("</tr>\n");
    }
    put(
        out,
        format_args!(
            "</table></div><p class=\"dim\">Ledger: {} acknowledged, {} read, {} · longest stall of the \
             generator {}, {:.2} % of the time in stalls above 1 ms{}</p>",
            grouped(report.ledger.acked),
            grouped(report.ledger.read),
            report.ledger.finding(),
            duration(report.stall_ns_max),
            report.stalled_share * 100.0,
            report.own_text().map(|text| format!(" · {text}")).unwrap_or_default(),
        ),
    );
}

/// How many, and of how many requests where those are fewer.
fn samples(basis: &Basis<'_>) -> String {
    let samples = grouped(basis.latency.samples);
    match basis.requests < basis.latency.samples {
        true => format!("{samples} of {} requests", grouped(basis.requests)),
        false => samples,
    }
}

/// A latency; pale when it says nothing.
fn cell(out: &mut String, sound: bool, ns: u64) {
    let class = if sound { "n" } else { "n unsound" };
    put(out, format_args!("<td class=\"{class}\">{}</td>", duration(ns)));
}

fn environment(out: &mut String, result: &BenchResult) {
    out.push_str("<section><h2>Environment</h2><div class=\"scroll\"><table>");
    let mut facts = result.environment.facts();
    let broker = &result.broker;
    facts.push(("broker", broker.endpoint.clone() + if broker.own { ", started for this" } else { "" }));
    facts.push(("durability", broker.durability.clone()));
    facts.push(("command", result.command.join(" ")));
    for (name, value) in facts {
        put(out, format_args!("<tr><th>{name}</th><td>{}</td></tr>\n", escape(&value)));
    }
    out.push_str("</table></div>");
    if let Some(info) = &broker.info {
        let text = serde_json::to_string_pretty(info).unwrap_or_default();
        put(
            out,
            format_args!(
                "<details><summary>What the broker says of itself</summary><pre>{}</pre></details>",
                escape(&text)
            ),
        );
    }
    if let Some(config) = &broker.config {
        put(
            out,
            format_args!(
                "<details><summary>Its configuration</summary><pre>{}</pre></details>",
                escape(config)
            ),
        );
    }
    out.push_str("</section>\n");
}

fn figure(out: &mut String, title: &str, chart: &Chart) {
    // What is looked at first gets the whole width.
    let (class, width) = if chart.x.scale == Scale::Nines { (" class=\"wide\"", WIDE) } else { ("", NARROW) };
    put(out, format_args!("<figure{class}><h3>{title}</h3>{}</figure>\n", chart.svg(width)));
}

fn verdict(report: &Report) -> String {
    match (report.invalid.is_empty(), report.ledger.passed()) {
        (true, true) if report.ledger.is_unread() => "valid, nothing read back".to_owned(),
        (true, true) => "valid".to_owned(),
        (true, false) => report.ledger.faults(),
        (false, _) => format!("INVALID: {}", report.invalid.join("; ")),
    }
}

fn curve(points: &[(f64, u64)], basis: &Basis<'_>) -> Vec<Point> {
    let sound_to = basis.sound_to();
    points.iter().map(|&(x, ns)| Point { x, y: ns as f64, pale: x >= sound_to }).collect()
}

/// `p99.9`: as many digits as the nines need.
fn percentile(quantile: f64) -> String {
    let digits = (1..=7).find(|&digits| {
        let text = format!("{:.*}", digits - 1, quantile * 100.0);
        text.parse::<f64>().is_ok_and(|shown| (shown / 100.0 - quantile).abs() < (1.0 - quantile) * 0.05)
    });
    format!("p{:.*}", digits.unwrap_or(7) - 1, quantile * 100.0)
}

fn count(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{:.2} M", value / 1e6),
        _ if value >= 1e4 => format!("{:.1} k", value / 1e3),
        _ => format!("{value:.0}"),
    }
}

/// `1,234,567`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let first = digits.len() % 3;
    let groups = digits.as_bytes()[first..].chunks(3).map(String::from_utf8_lossy);
    let head = (first > 0).then(|| digits[..first].into());
    head.into_iter().chain(groups).collect::<Vec<_>>().join(",")
}

/// `2026-11-21 12:00:00 UTC`.
pub fn utc(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (year, month, day) = calendar::date_of_day((seconds / 86_400) as i64);
    let rest = seconds % 86_400;
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Text inside an element or a quoted attribute.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::super::plot::COLOURS;
    use super::super::tests::{report, result};
    use super::*;
    use crate::bench::ledger::Verdict;

    #[test]
    fn the_page_refers_to_nothing_outside_and_is_whole() {
        let page = page(&result(vec![report("steady", 10), report("again", 20)]));
        for reference in ["http:", "https:", "//", "url(", "@import", "src=", "href=", "<script", "<link"] {
            assert!(!page.replace("</", "<").contains(reference), "{reference}");
        }
        for tag in ["section", "figure", "svg", "table", "main", "p", "h2"] {
            let opened =
                page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
        for word in ["Latency by percentile", "second by second", "p99.9", "durability: sync", "Environment"]
        {
            assert!(page.contains(word), "{word}");
        }
        assert!(!page.contains("NaN") && !page.contains("INVALID"));
    }

    #[test]
    fn every_colour_of_the_charts_is_one_of_the_page_in_light_and_dark() {
        for colour in (0..COLOURS).map(|index| format!("s{index}")) {
            assert!(STYLE.contains(&format!(".{colour} {{ --c: var(--{colour}); }}")), "{colour}");
            assert_eq!(STYLE.matches(&format!("--{colour}: #")).count(), 2, "{colour}");
        }
    }

    #[test]
    fn a_run_that_must_not_be_used_says_so_and_why() {
        let mut bad = report("x<y", 10);
        bad.invalid.push("the rate was missed".to_owned());
        bad.ledger = Verdict { lost: 3, ..bad.ledger };
        let page = page(&result(vec![bad]));
        assert!(page.contains("INVALID") && page.contains("the rate was missed") && page.contains("3 lost"));
        assert!(page.contains("x&lt;y") && !page.contains("x<y"));
    }

    #[test]
    fn what_was_not_read_back_is_not_called_complete() {
        let of = |read: &[u64]| {
            let run = |&read: &u64| {
                let mut run = report("run", 10);
                run.ledger.read = read;
                run
            };
            page(&result(read.iter().map(run).collect()))
        };
        let complete = "valid · ledger complete<";
        assert!(of(&[1000, 1000]).contains(complete));
        let unread = of(&[0]);
        assert!(unread.contains("valid · nothing read back<") && !unread.contains("complete"));
        let half = of(&[1000, 0]);
        assert!(half.contains("valid · ledger complete, 1 of 2 runs not read back<"));
        assert!(half.contains("<td>valid, nothing read back</td>"), "the run is named");
    }

    #[test]
    fn percentiles_that_the_generator_has_made_are_pale() {
        let mut late = report("run", 10);
        let pale = |report: &Report| {
            let page = page(&result(vec![report.clone()]));
            page.matches("<div class=\"number unsound\"><b>10.0 s").count()
        };
        late.response.samples = 1_000_000;
        (late.response.p99_9_ns, late.own_delay.p99_9_ns) = (10_000_000_000, 1_000_000_000);
        assert_eq!(pale(&late), 0);
        late.own_delay.p99_9_ns += 1;
        assert_eq!(pale(&late), 1);
    }

    #[test]
    fn records_of_few_requests_are_pale_in_tables_and_seconds() {
        let mut few = report("run", 10);
        few.response.samples = 1_000_000;
        few.timeline[0].requests = 100_000;
        let whole = page(&result(vec![few.clone()]));
        assert!(!whole.contains("lone pale"), "{whole}");
        few.timeline[0].requests = 1_330;
        // The p99 and the p99.9 of its only second.
        assert_eq!(page(&result(vec![few.clone()])).matches("lone pale").count(), 2);
        (few.records_per_batch, few.records_per_s, few.requests_per_s) = (15, 15_000.0, 1_000.0);
        few.end_to_end = Percentiles { samples: 119_955, p99_ns: 7_770_000, ..few.response };
        let page = page(&result(vec![few]));
        assert!(page.contains("119,955 of 7,997 requests"), "{page}");
        assert!(page.contains("<td class=\"n unsound\">7.77 ms</td>"), "{page}");
    }

    #[test]
    fn percentiles_have_the_digits_they_need() {
        for (quantile, text) in
            [(0.0, "p0"), (0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"), (0.999_99, "p99.999")]
        {
            assert_eq!(percentile(quantile), text);
        }
    }

    #[test]
    fn counts_have_commas() {
        for (value, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(value), text);
        }
    }

    #[test]
    fn dates_follow_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400_000, "2000-02-29 00:00:00 UTC"),
            (1_795_263_661_000, "2026-11-21 12:21:01 UTC"),
        ] {
            assert_eq!(utc(ms), text);
        }
    }
}
