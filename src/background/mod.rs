//! Work that must not disturb a shard, on its own executor.

pub mod executor;
mod glommio_disk;
pub mod jobs;
pub mod pretouch;

pub use glommio_disk::GlommioDisk;
