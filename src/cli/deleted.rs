//! What became of several things that were to be deleted, each for itself.

use anyhow::bail;
use serde::Serialize;

use super::output::Output;

#[derive(Default, Serialize)]
pub struct Deleted {
    pub deleted: Vec<String>,
    /// They did not exist, and need not have.
    pub missing: Vec<String>,
    /// Why others are still there.
    #[serde(skip)]
    pub failures: Vec<String>,
}

impl Output for Deleted {
    fn text(&self) -> String {
        let deleted = self.deleted.iter().map(|name| format!("{name} deleted\n"));
        let missing = self.missing.iter().map(|name| format!("{name} did not exist\n"));
        deleted.chain(missing).collect()
    }
}

impl Deleted {
    /// An error if anything has failed. The others are gone all the same, and the user has to know.
    pub fn complete(self) -> anyhow::Result<Deleted> {
        if !self.failures.is_empty() {
            bail!("{}", [self.failures.join("; "), self.text()].join("\n").trim_end());
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn what_is_gone_is_told_beside_what_is_not() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let mut result = Deleted { deleted: names(&["a"]), missing: names(&["b"]), failures: Vec::new() };
        expect![[r#"
            a deleted
            b did not exist
        "#]]
        .assert_eq(&result.text());
        result.failures = names(&["c is in use", "d, too"]);
        let error = result.complete().err().expect("two are left");
        expect![[r#"
            c is in use; d, too
            a deleted
            b did not exist"#]]
        .assert_eq(&error.to_string());
    }
}
