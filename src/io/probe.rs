//! What this machine can do, asked at start: an answer that we cannot work with becomes an error
//! that names the cause and the fix.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use io_uring::IoUring;
use thiserror::Error;

use super::buffer::PageBuf;
use crate::base::align::PAGE_BYTES;

/// The first kernel with everything the ring cannot do without (multishot receive, 6.0) and with
/// deferred task work (6.1), a long-term release.
const KERNEL_MIN: (u32, u32) = (6, 1);

#[derive(Debug, Error)]
pub enum ProbeError {
    #[error("the kernel is {release}, but RingMQ needs at least 6.1: boot a newer kernel")]
    KernelTooOld { release: String },
    #[error(
        "io_uring is disabled on this machine (kernel.io_uring_disabled = {sysctl}): \
         run `sysctl -w kernel.io_uring_disabled=0` and keep it in /etc/sysctl.d, or with value 1 add \
         the broker's user to the group of kernel.io_uring_group"
    )]
    IoUringDisabled { sysctl: u8 },
    #[error(
        "io_uring is forbidden to this process, probably by a container's seccomp profile: allow \
         io_uring_setup, io_uring_enter and io_uring_register in it (Docker: \
         --security-opt seccomp=<profile>)"
    )]
    IoUringForbidden,
    #[error("this kernel is built without io_uring (CONFIG_IO_URING): use one that has it")]
    IoUringMissing,
    #[error(
        "no memory for an io_uring: the limit of locked memory is {limit_bytes} bytes; raise it \
         (`ulimit -l unlimited`, or LimitMEMLOCK=infinity in the systemd unit)"
    )]
    MemlockTooLow { limit_bytes: u64 },
    #[error("the kernel refuses an io_uring")]
    IoUring(#[source] io::Error),
    #[error("{path} lies on {file_system}, which cannot do direct IO: put the data directory on XFS or ext4")]
    NoDirectIo { path: PathBuf, file_system: String },
    #[error(
        "{path} lies on {file_system}, a copy-on-write file system, on which an overwrite in place \
         is none: put the data directory on XFS or ext4"
    )]
    CopyOnWrite { path: PathBuf, file_system: String },
    #[error("cannot {action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        error: io::Error,
    },
}

/// Can this process have an io_uring?
pub fn check_io_uring() -> Result<(), ProbeError> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // A kernel with an unreadable version gets the benefit of the doubt: the ring tells.
    if kernel_version(&release).is_some_and(|version| version < KERNEL_MIN) {
        return Err(ProbeError::KernelTooOld { release: release.trim().to_owned() });
    }
    IoUring::new(8).map(drop).map_err(explain_ring)
}

/// The cause behind an error of `io_uring_setup(2)`.
pub fn explain_ring(error: io::Error) -> ProbeError {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
            match sysctl.ok().and_then(|value| value.trim().parse().ok()) {
                Some(sysctl @ 1..) => ProbeError::IoUringDisabled { sysctl },
                _ => ProbeError::IoUringForbidden,
            }
        }
        Some(libc::ENOSYS) => ProbeError::IoUringMissing,
        Some(libc::ENOMEM) => {
            let limit_bytes = limit(libc::RLIMIT_MEMLOCK).map_or(0, |limit| limit.rlim_cur);
            ProbeError::MemlockTooLow { limit_bytes }
        }
        _ => ProbeError::IoUring(error),
    }
}

/// Major and minor of a release such as `6.18.44-generic`.
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Can logs live in the folder `dir`? Writes a small file there, and removes it.
pub fn check_data_dir(dir: &Path) -> Result<(), ProbeError> {
    let file_system = file_system(dir).map_err(|error| io_error("examine", dir, error))?;
    if file_system.copy_on_write {
        return Err(ProbeError::CopyOnWrite { path: dir.to_owned(), file_system: file_system.name });
    }
    let path = dir.join(format!(".probe-{}", std::process::id()));
    let result = write_directly(&path);
    let removed = fs::remove_file(&path);
    match result {
        // EINVAL: `open(2)` with O_DIRECT, or the first transfer, on a file system without it.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
            Err(ProbeError::NoDirectIo { path: dir.to_owned(), file_system: file_system.name })
        }
        result => result.and(removed).map_err(|error| io_error("write to", dir, error)),
    }
}

fn write_directly(path: &Path) -> io::Result<()> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT).open(path)?;
    file.write_all_at(&PageBuf::zeroed(PAGE_BYTES), 0)
}

fn io_error(action: &'static str, path: &Path, error: io::Error) -> ProbeError {
    ProbeError::Io { action, path: path.to_owned(), error }
}

struct FileSystem {
    name: String,
    copy_on_write: bool,
}

/// Magic numbers of `statfs(2)`.
fn file_system(path: &Path) -> io::Result<FileSystem> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a `statfs` is integers, for which zero is a valid value.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` ends with a zero byte, `stat` is a valid place for the result.
    if unsafe { libc::statfs(path.as_ptr(), &mut stat) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let (name, copy_on_write) = match stat.f_type as u32 {
        0xef53 => ("ext4", false),
        0x5846_5342 => ("XFS", false),
        0x0102_1994 => ("tmpfs", false),
        0x794c_7630 => ("overlayfs", false),
        0x6969 => ("NFS", false),
        0x9123_683e => ("btrfs", true),
        0x2fc1_2fc1 => ("ZFS", true),
        0xca45_1a4e => ("bcachefs", true),
        other => return Ok(FileSystem { name: format!("a file system {other:#x}"), copy_on_write: false }),
    };
    Ok(FileSystem { name: name.to_owned(), copy_on_write })
}

/// What a device must be told so that a write is on stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceClass {
    /// A: no volatile cache. A completed write is durable.
    WriteThrough,
    /// B: a volatile cache that a single write can bypass (FUA).
    Fua,
    /// C: a volatile cache that must be flushed.
    Flush,
    /// Not found in sysfs: a network or stacked file system. Treated as the worst.
    Unknown,
}

impl DeviceClass {
    /// A write that completed may be in a volatile cache only.
    pub fn may_be_volatile(self) -> bool {
        self != DeviceClass::WriteThrough
    }

    /// For the banner.
    pub fn describe(self) -> &'static str {
        match self {
            DeviceClass::WriteThrough => "A (write-through)",
            DeviceClass::Fua => "B (write-back with FUA)",
            DeviceClass::Flush => "C (write-back without FUA)",
            DeviceClass::Unknown => "unknown",
        }
    }
}

/// The class of the device that `path` lies on.
pub fn device_class(path: &Path) -> DeviceClass {
    match fs::metadata(path) {
        Ok(metadata) => class_of(Path::new("/sys"), metadata.dev()),
        Err(_) => DeviceClass::Unknown,
    }
}

/// `device` as in `st_dev`. A partition has no queue of its own; the folder above it, its disk's, has.
fn class_of(sysfs: &Path, device: u64) -> DeviceClass {
    let link = sysfs.join(format!("dev/block/{}:{}", libc::major(device), libc::minor(device)));
    let Ok(folder) = fs::canonicalize(link) else { return DeviceClass::Unknown };
    let attribute = |name: &str| {
        let read = |folder: &Path| fs::read_to_string(folder.join("queue").join(name)).ok();
        folder.ancestors().take(2).find_map(read)
    };
    match (attribute("write_cache").as_deref().map(str::trim), attribute("fua").as_deref().map(str::trim)) {
        (Some("write through"), _) => DeviceClass::WriteThrough,
        (Some("write back"), Some("1")) => DeviceClass::Fua,
        (Some("write back"), _) => DeviceClass::Flush,
        _ => DeviceClass::Unknown,
    }
}

/// Raise the number of descriptors this process may have to what the machine allows; returns it.
pub fn raise_nofile() -> io::Result<u64> {
    let mut nofile = limit(libc::RLIMIT_NOFILE)?;
    if nofile.rlim_cur < nofile.rlim_max {
        nofile.rlim_cur = nofile.rlim_max;
        // SAFETY: the pointer is to a valid `rlimit`, which the kernel only reads.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &nofile) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(nofile.rlim_cur)
}

fn limit(resource: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the result.
    if unsafe { libc::getrlimit(resource, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::io::blocking::disk_folder;

    #[test]
    fn kernel_versions() {
        for (release, version) in [
            ("6.1.0-13-amd64\n", Some((6, 1))),
            ("5.15.167.4-microsoft", Some((5, 15))),
            ("6.18", Some((6, 18))),
            ("", None),
            ("six", None),
        ] {
            assert_eq!(kernel_version(release), version);
        }
        assert!((5, 19) < KERNEL_MIN && (6, 1) >= KERNEL_MIN && (7, 0) > KERNEL_MIN);
    }

    #[test]
    fn causes_of_a_refused_ring() {
        let explain = |errno| explain_ring(io::Error::from_raw_os_error(errno));
        // Which of the two depends on the machine's sysctl.
        let refused = explain(libc::EPERM);
        assert!(matches!(refused, ProbeError::IoUringDisabled { .. } | ProbeError::IoUringForbidden));
        assert!(matches!(explain(libc::ENOSYS), ProbeError::IoUringMissing));
        assert!(matches!(explain(libc::ENOMEM), ProbeError::MemlockTooLow { limit_bytes: 1.. }));
        assert!(matches!(explain(libc::EMFILE), ProbeError::IoUring(_)));
    }

    #[test]
    fn file_systems_that_can_and_cannot_do_direct_io() {
        check_io_uring().unwrap();
        let folder = disk_folder();
        check_data_dir(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "the probe leaves nothing behind");

        let missing = check_data_dir(&folder.path().join("missing")).unwrap_err();
        assert!(matches!(missing, ProbeError::Io { action: "examine", .. }));
        // proc creates no files at all.
        assert!(check_data_dir(Path::new("/proc")).is_err());
    }

    #[test]
    fn device_classes_from_a_sysfs() {
        let folder = tempfile::tempdir().unwrap();
        let sysfs = folder.path();
        fs::create_dir_all(sysfs.join("dev/block")).unwrap();
        for (minor, write_cache, fua, class) in [
            (0, "write through\n", "0\n", DeviceClass::WriteThrough),
            (1, "write back\n", "1\n", DeviceClass::Fua),
            (2, "write back\n", "0\n", DeviceClass::Flush),
            (3, "?", "?", DeviceClass::Unknown),
        ] {
            let disk = sysfs.join(format!("devices/disk{minor}"));
            fs::create_dir_all(disk.join("queue")).unwrap();
            fs::create_dir_all(disk.join("part1")).unwrap();
            fs::write(disk.join("queue/write_cache"), write_cache).unwrap();
            fs::write(disk.join("queue/fua"), fua).unwrap();
            symlink(&disk, sysfs.join(format!("dev/block/8:{minor}"))).unwrap();
            symlink(disk.join("part1"), sysfs.join(format!("dev/block/9:{minor}"))).unwrap();
            for major in [8, 9] {
                assert_eq!(class_of(sysfs, libc::makedev(major, minor)), class);
            }
        }
        assert_eq!(class_of(sysfs, libc::makedev(0, 42)), DeviceClass::Unknown);
    }

    #[test]
    fn raises_the_limit_of_descriptors() {
        let raised = raise_nofile().unwrap();
        assert_eq!(limit(libc::RLIMIT_NOFILE).unwrap().rlim_cur, raised);
        assert_eq!(raise_nofile().unwrap(), raised);
    }
}
