//! A folder that this process has made, and nobody else: what lies in it may be removed.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Folders of one name that are tried.
const SAME_NAME_MAX: u32 = 10_000;

#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Make a folder below `parent`, which is made when it is not there: `name`, or `name-2`, `name-3`, ...
    /// when somebody has that already.
    pub fn claim(parent: &Path, name: &str) -> io::Result<Folder> {
        fs::create_dir_all(parent)?;
        let names = (2..=SAME_NAME_MAX).map(|number| format!("{name}-{number}"));
        for name in std::iter::once(name.to_owned()).chain(names) {
            let path = parent.join(name);
            // Fails when it is there: of two processes one makes it.
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Folder(path)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(ErrorKind::AlreadyExists, format!("{SAME_NAME_MAX} folders called {name}")))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_second_gets_another_folder_and_touches_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let parent = dir.path().join("results");
        let first = Folder::claim(&parent, "now").unwrap();
        fs::write(first.path().join("data"), "mine").unwrap();
        fs::write(parent.join("now-2"), "a file").unwrap();
        let third = Folder::claim(&parent, "now").unwrap();
        assert_eq!((first.path(), third.path()), (&*parent.join("now"), &*parent.join("now-3")));
        assert_eq!(fs::read_to_string(first.path().join("data")).unwrap(), "mine");
        let below_a_file = Folder::claim(&parent.join("now-2"), "now").unwrap_err();
        assert_ne!(below_a_file.kind(), ErrorKind::NotFound, "the reason is that it is a file");
    }

    #[test]
    fn of_many_that_come_at_once_each_gets_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let mut paths: Vec<PathBuf> = std::thread::scope(|scope| {
            let claim = || Folder::claim(dir.path(), "now").unwrap().0;
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(claim)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), 8);
    }
}
