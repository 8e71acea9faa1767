//! The folders of the simulated disk: names that survive power loss and names that may not.
//!
//! Creating, renaming and removing take effect at once and become durable with a sync of their
//! folder. Power loss keeps, per folder, the first few of the changes that were not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::rng::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    /// The number of the file's content.
    File(u64),
}

#[derive(Debug)]
enum Change {
    Link { path: PathBuf, node: Node },
    Unlink { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, node: Node },
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Change::Link { path, node } => {
                names.insert(path.clone(), *node);
            }
            Change::Unlink { path } => {
                names.remove(path);
            }
            Change::Rename { from, to, node } => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }

    /// The folders whose sync makes this durable.
    fn dirs(&self) -> Vec<&Path> {
        match self {
            Change::Link { path, .. } | Change::Unlink { path } => vec![dir_of(path)],
            Change::Rename { from, to, .. } => vec![dir_of(from), dir_of(to)],
        }
    }
}

/// Only called for paths below the root.
fn dir_of(path: &Path) -> &Path {
    path.parent().expect("the root is never changed")
}

/// One spelling a path: absolute, without `.` and doubled slashes.
fn normal(path: &Path) -> io::Result<PathBuf> {
    let mut result = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => result.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(result)
}

pub(super) struct Names {
    live: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    /// Changes of `live` that `durable` lacks, oldest first.
    pending: Vec<Change>,
}

impl Names {
    pub fn new() -> Names {
        let root = BTreeMap::from([(PathBuf::from("/"), Node::Dir)]);
        Names { live: root.clone(), durable: root, pending: Vec::new() }
    }

    pub fn get(&self, path: &Path) -> io::Result<Node> {
        self.live.get(&normal(path)?).copied().ok_or(io::ErrorKind::NotFound.into())
    }

    pub fn file(&self, path: &Path) -> io::Result<u64> {
        match self.get(path)? {
            Node::File(file) => Ok(file),
            Node::Dir => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.pending.push(change);
    }

    /// The folder that `path` is or would be in.
    fn check_dir(&self, path: &Path) -> io::Result<()> {
        match path.parent().and_then(|dir| self.live.get(dir)) {
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Returns the path as the disk spells it.
    pub fn link(&mut self, path: &Path, node: Node) -> io::Result<PathBuf> {
        let path = normal(path)?;
        if self.live.contains_key(&path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.check_dir(&path)?;
        self.change(Change::Link { path: path.clone(), node });
        Ok(path)
    }

    /// Returns the file that lost its name.
    pub fn unlink(&mut self, path: &Path) -> io::Result<u64> {
        let file = self.file(path)?;
        self.change(Change::Unlink { path: normal(path)? });
        Ok(file)
    }

    /// Returns the file, its new path, and the file that had this name before, if any.
    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<(u64, PathBuf, Option<u64>)> {
        let file = self.file(from)?;
        let (from, to) = (normal(from)?, normal(to)?);
        self.check_dir(&to)?;
        let replaced = match self.live.get(&to) {
            Some(Node::Dir) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(Node::File(replaced)) if *replaced != file => Some(*replaced),
            Some(Node::File(_)) => return Ok((file, to, None)),
            None => None,
        };
        self.change(Change::Rename { from, to: to.clone(), node: Node::File(file) });
        Ok((file, to, replaced))
    }

    pub fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if self.get(dir)? != Node::Dir {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let dir = normal(dir)?;
        let inside = self.live.range(dir.clone()..).map(|(path, _)| path);
        Ok(inside
            .take_while(|path| path.starts_with(&dir))
            .filter(|path| path.parent() == Some(&dir))
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect())
    }

    /// Make the changes of `dir` durable, and those earlier ones that they depend on.
    pub fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        if self.get(dir)? != Node::Dir {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let mut dirs = BTreeSet::from([normal(dir)?]);
        let mut durable = Vec::new();
        // A rename ties two folders together: walk back from the newest to find all it needs.
        for change in std::mem::take(&mut self.pending).into_iter().rev() {
            if change.dirs().iter().any(|dir| dirs.contains(*dir)) {
                dirs.extend(change.dirs().into_iter().map(Path::to_owned));
                durable.push(change);
            } else {
                self.pending.push(change);
            }
        }
        self.pending.reverse();
        for change in durable.iter().rev() {
            change.apply(&mut self.durable);
        }
        Ok(())
    }

    /// Power loss. Returns how many changes were kept by luck, and how many were lost.
    pub fn crash(&mut self, rng: &mut Rng) -> (u64, u64) {
        let lose_one_in = *rng.pick(&[1, 2, 8, u64::MAX]);
        let (mut kept, mut lost) = (0, 0);
        let mut cut: BTreeSet<PathBuf> = BTreeSet::new();
        for change in std::mem::take(&mut self.pending) {
            let dirs = change.dirs();
            if dirs.iter().any(|dir| cut.contains(*dir)) || rng.one_in(lose_one_in) {
                cut.extend(dirs.into_iter().map(Path::to_owned));
                lost += 1;
            } else {
                change.apply(&mut self.durable);
                kept += 1;
            }
        }
        // A name is reached through its folder. Parents sort before their children.
        self.live.clear();
        for (path, node) in &self.durable {
            if path.parent().is_none_or(|dir| self.live.get(dir) == Some(&Node::Dir)) {
                self.live.insert(path.clone(), *node);
            }
        }
        self.durable = self.live.clone();
        (kept, lost)
    }

    /// True when a power loss could give this file its name back.
    pub fn may_return(&self, file: u64) -> bool {
        self.durable.values().any(|node| *node == Node::File(file))
            || self.pending.iter().any(|change| match change {
                Change::Link { node, .. } | Change::Rename { node, .. } => *node == Node::File(file),
                Change::Unlink { .. } => false,
            })
    }

    /// All files by name, after a crash the only ones.
    pub fn files(&self) -> impl Iterator<Item = (&Path, u64)> {
        self.live.iter().filter_map(|(path, node)| match node {
            Node::File(file) => Some((path.as_path(), *file)),
            Node::Dir => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &Names) -> String {
        names.files().map(|(path, file)| format!("{}={file}", path.display())).collect::<Vec<_>>().join(" ")
    }

    /// Names after a crash, over many seeds, without repetition.
    fn after_crash(make: impl Fn() -> Names) -> Vec<String> {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let mut crashed = make();
            crashed.crash(&mut Rng::new(seed));
            seen.insert(names(&crashed));
        }
        seen.into_iter().collect()
    }

    fn with_dir() -> Names {
        let mut names = Names::new();
        names.link(Path::new("/d"), Node::Dir).unwrap();
        names.sync_dir(Path::new("/")).unwrap();
        names
    }

    #[test]
    fn unsynced_names_are_kept_as_a_prefix_or_lost() {
        let seen = after_crash(|| {
            let mut names = with_dir();
            names.link(Path::new("/d/a"), Node::File(1)).unwrap();
            names.link(Path::new("/d/b"), Node::File(2)).unwrap();
            names
        });
        assert_eq!(seen, ["", "/d/a=1", "/d/a=1 /d/b=2"]);
    }

    #[test]
    fn a_rename_is_atomic_and_durable_after_its_sync() {
        let make = |sync: bool| {
            move || {
                let mut names = with_dir();
                names.link(Path::new("/d/old"), Node::File(1)).unwrap();
                names.link(Path::new("/d/new"), Node::File(2)).unwrap();
                names.sync_dir(Path::new("/d/")).unwrap();
                assert_eq!(names.rename(Path::new("/d/new"), Path::new("/d/old")).unwrap().2, Some(1));
                if sync {
                    names.sync_dir(Path::new("/d")).unwrap();
                }
                names
            }
        };
        assert_eq!(after_crash(make(false)), ["/d/new=2 /d/old=1", "/d/old=2"]);
        assert_eq!(after_crash(make(true)), ["/d/old=2"]);
    }

    #[test]
    fn a_synced_folder_is_lost_with_the_name_of_the_folder() {
        let seen = after_crash(|| {
            let mut names = Names::new();
            names.link(Path::new("/d"), Node::Dir).unwrap();
            names.link(Path::new("/d/a"), Node::File(1)).unwrap();
            names.sync_dir(Path::new("/d")).unwrap();
            names
        });
        assert_eq!(seen, ["", "/d/a=1"]);
    }

    #[test]
    fn a_rename_between_folders_brings_what_it_depends_on() {
        let seen = after_crash(|| {
            let mut names = with_dir();
            names.link(Path::new("/e"), Node::Dir).unwrap();
            names.sync_dir(Path::new("/")).unwrap();
            names.link(Path::new("/d/a"), Node::File(1)).unwrap();
            names.link(Path::new("/d/b"), Node::File(2)).unwrap();
            names.rename(Path::new("/d/a"), Path::new("/e/a")).unwrap();
            names.sync_dir(Path::new("/e")).unwrap();
            names
        });
        assert_eq!(seen, ["/d/b=2 /e/a=1"], "one name, in one folder");
    }

    #[test]
    fn mistakes_are_the_errors_of_a_file_system() {
        use io::ErrorKind::{AlreadyExists, IsADirectory, NotADirectory, NotFound};
        let mut names = with_dir();
        names.link(Path::new("/d/a"), Node::File(1)).unwrap();
        let kind = |result: io::Result<()>| result.unwrap_err().kind();
        for (got, want) in [
            (kind(names.link(Path::new("/d/a"), Node::File(2)).map(drop)), AlreadyExists),
            (kind(names.link(Path::new("/e/a"), Node::File(2)).map(drop)), NotFound),
            (kind(names.link(Path::new("/d/a/b"), Node::File(2)).map(drop)), NotADirectory),
            (kind(names.unlink(Path::new("/d/b")).map(drop)), NotFound),
            (kind(names.unlink(Path::new("/d")).map(drop)), IsADirectory),
            (kind(names.rename(Path::new("/d/a"), Path::new("/e/a")).map(drop)), NotFound),
            (kind(names.list(Path::new("/d/a")).map(drop)), NotADirectory),
            (kind(names.sync_dir(Path::new("/e"))), NotFound),
        ] {
            assert_eq!(got, want);
        }
        assert_eq!(names.list(Path::new("d")).unwrap(), ["a"]);
    }
}
