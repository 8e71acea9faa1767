//! Where values come from: a TOML file, the environment, flags. Each becomes [`Assignment`]s.
//!
//! Nothing is judged here but the form; which keys exist and what they may hold is the schema's.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Problem;
use super::schema::KEYS;

/// Environment variables that set keys begin so: `RINGMQ_KAFKA__LISTEN` sets `kafka.listen`.
pub const ENV_PREFIX: &str = "RINGMQ_";

/// Where the value of a key was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// `line` counts from 1.
    File {
        path: PathBuf,
        line: usize,
    },
    Env {
        variable: String,
    },
    /// The flag as it was written, without its value.
    Flag {
        flag: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => write!(f, "default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Env { variable } => write!(f, "environment {variable}"),
            Origin::Flag { flag } => write!(f, "flag {flag}"),
        }
    }
}

/// Somebody wrote `name = text` at `origin`.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// `section.key`; nothing is known yet about whether it exists.
    pub name: String,
    pub text: String,
    pub origin: Origin,
}

/// Reads the tables of a TOML file. Every mistake is a problem with its line; the rest is still read.
pub(super) fn read_toml(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Vec<Assignment> {
    let origin_at = |offset: usize| {
        let line =
            text.as_bytes()[..offset.min(text.len())].iter().filter(|&&byte| byte == b'\n').count() + 1;
        Origin::File { path: path.to_owned(), line }
    };
    let root = match DeTable::parse(text) {
        Ok(root) => root,
        Err(error) => {
            let origin = origin_at(error.span().map_or(0, |span| span.start));
            problems.push(Problem::new(origin, format!("not valid TOML: {}", error.message())));
            return Vec::new();
        }
    };
    let mut assignments = Vec::new();
    for (section, value) in root.get_ref() {
        let Some(table) = value.get_ref().as_table() else {
            let message = format!(
                "`{}` stands outside of a section: write it below one, for example [server]",
                section.get_ref()
            );
            problems.push(Problem::new(origin_at(section.span().start), message));
            continue;
        };
        for (key, value) in table {
            let name = format!("{}.{}", section.get_ref(), key.get_ref());
            let origin = origin_at(key.span().start);
            match text_of(value) {
                Ok(text) => assignments.push(Assignment { name, text, origin }),
                Err(what) => {
                    problems.push(Problem::new(origin, format!("{name}: {what} is no value of any key")))
                }
            }
        }
    }
    // The table is ordered by name, its readers think in lines.
    assignments.sort_by_key(|assignment| match assignment.origin {
        Origin::File { line, .. } => line,
        _ => 0,
    });
    assignments
}

/// A TOML value in the textual form of our values, or the name of a type that no key has.
fn text_of(value: &Spanned<DeValue<'_>>) -> Result<String, &'static str> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text.clone().into_owned()),
        DeValue::Boolean(flag) => Ok(flag.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        DeValue::Integer(_) => Err("a number that is not decimal"),
        DeValue::Array(items) => Ok(items.iter().map(text_of).collect::<Result<Vec<_>, _>>()?.join(",")),
        DeValue::Float(_) => Err("a number with a fraction"),
        DeValue::Datetime(_) => Err("a date"),
        DeValue::Table(_) => Err("a table"),
    }
}

/// Reads the variables `RINGMQ_SECTION__KEY`. Others that begin with `RINGMQ_` are somebody else's, unless
/// they name a key without its section, or begin with a section: those are mistakes and must not pass in silence.
pub(super) fn read_env(variables: &[(String, String)], problems: &mut Vec<Problem>) -> Vec<Assignment> {
    let mut assignments = Vec::new();
    for (variable, text) in variables {
        let Some(rest) = variable.strip_prefix(ENV_PREFIX) else { continue };
        let origin = Origin::Env { variable: variable.clone() };
        if let Some((section, key)) = rest.split_once("__") {
            let name = format!("{section}.{key}").to_ascii_lowercase();
            assignments.push(Assignment { name, text: text.clone(), origin });
            continue;
        }
        if let Some(message) = almost_a_key(&rest.to_ascii_lowercase()) {
            problems.push(Problem::new(origin, message));
        }
    }
    assignments
}

/// What is wrong with a variable that was probably meant to set a key.
fn almost_a_key(flat: &str) -> Option<String> {
    let parts = |key: &'static super::Key| key.name.split_once('.').expect("keys have a section");
    if let Some(key) = KEYS.iter().find(|key| key.name.replace('.', "_") == flat) {
        return Some(format!("write {} (two underscores between section and key)", env_name(key.name)));
    }
    let mut named = KEYS.iter().filter(|key| parts(key).1 == flat);
    if let (Some(key), None) = (named.next(), named.next()) {
        return Some(format!("write {} (a key has a section)", env_name(key.name)));
    }
    // Kubernetes sets these in every container beside a service that is named `ringmq`, or `ringmq-kafka`.
    if flat.contains("service_") || flat.ends_with("port") || flat.contains("port_") {
        return None;
    }
    let (section, key) = KEYS.iter().find_map(|key| {
        let section = parts(key).0;
        Some((section, flat.strip_prefix(section)?.strip_prefix('_')?))
    })?;
    let unknown = super::unknown_key(&format!("{section}.{key}"));
    Some(format!("{unknown} (two underscores between section and key)"))
}

/// The environment variable that sets a key.
pub fn env_name(key: &str) -> String {
    format!("{ENV_PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}
