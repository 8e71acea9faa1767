//! Making a segment's file ahead of its use, slice by slice, at the pace of the appends.
//!
//! A file that is filled with zeros as fast as the device can is the loudest neighbour that a commit
//! can have: each waits behind megabytes. So the filling follows the appends. With `room` bytes left
//! when it began, it has to be over when they are used up; it keeps twice that pace.
//!
//! ```text
//!   appends:  from |=====consumed=====>            | room's end
//!   file:     0    |=====done================>     | bytes
//! ```

use std::path::Path;

use crate::io::file::FileHandle;
use crate::model::Position;

use super::segment::{Slice, segment_path};

/// A file under way that is not in the manifest yet.
#[derive(Debug)]
pub struct Preparation {
    pub number: u32,
    pub bytes: u64,
    slice_bytes: u64,
    file: Option<FileHandle>,
    /// Really written, from the start.
    done: u64,
    /// Where the slice ends that the background has, if it has one.
    busy: Option<u64>,
    from: Position,
    room: u64,
}

impl Preparation {
    /// Of a file of `bytes`, while `room` bytes are left to append from `from` on.
    pub fn new(number: u32, bytes: u64, slice_bytes: u64, from: Position, room: u64) -> Preparation {
        assert!(bytes > 0 && slice_bytes > 0);
        Preparation { number, bytes, slice_bytes, file: None, done: 0, busy: None, from, room }
    }

    /// The background has a slice.
    pub fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    /// Every byte is written, and the file synced.
    pub fn is_whole(&self) -> bool {
        self.done == self.bytes
    }

    /// There is a next slice, and nobody has it.
    pub fn is_waiting(&self) -> bool {
        !self.is_busy() && !self.is_whole()
    }

    /// The appends have come so far that the next slice must be written.
    pub fn is_due(&self, appended: Position) -> bool {
        let consumed = u128::from(appended.since(self.from));
        // done / bytes <= 2 * consumed / room.
        let behind = u128::from(self.done) * u128::from(self.room) <= 2 * consumed * u128::from(self.bytes);
        behind || self.is_pressed(appended)
    }

    /// The appends are nearer to the end of their room than the file is to its own, or in the last quarter
    /// of it: no time for pacing.
    fn is_pressed(&self, appended: Position) -> bool {
        let consumed = u128::from(appended.since(self.from));
        // done / bytes < consumed / room.
        let late = u128::from(self.done) * u128::from(self.room) < consumed * u128::from(self.bytes);
        late || 4 * consumed >= 3 * u128::from(self.room)
    }

    /// The next slice, when the appends have come so far.
    pub fn next(&mut self, dir: &Path, appended: Position) -> Slice {
        assert!(self.is_waiting());
        let pressed = self.is_pressed(appended);
        let end = self.bytes.min(self.done + self.slice_bytes);
        self.busy = Some(end);
        Slice {
            path: segment_path(dir, self.number),
            file: self.file.clone(),
            range: self.done..end,
            file_bytes: self.bytes,
            pressed,
        }
    }

    /// The slice is written.
    pub fn on_slice(&mut self, file: FileHandle) {
        self.done = self.busy.take().expect("the background had a slice");
        self.file = Some(file);
    }

    /// The whole file.
    pub fn into_file(self) -> FileHandle {
        assert!(self.is_whole());
        self.file.expect("a slice left it here")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileHandle = FileHandle::Sim(1);

    /// How much is made when the appends have come to each tenth of the room.
    fn pace(bytes: u64, room: u64) -> Vec<u64> {
        let mut preparation = Preparation::new(1, bytes, 10, Position(500), room);
        let mut made = Vec::new();
        for tenth in 0..=10 {
            let appended = Position(500 + room * tenth / 10);
            while preparation.is_waiting() && preparation.is_due(appended) {
                let slice = preparation.next(Path::new("log"), appended);
                assert_eq!(
                    (slice.range.start, slice.file.is_some()),
                    (preparation.done, preparation.done > 0)
                );
                preparation.on_slice(FILE);
                assert_eq!(preparation.is_whole(), slice.is_last());
            }
            made.push(preparation.done);
        }
        made
    }

    #[test]
    fn the_file_is_made_at_twice_the_pace_of_the_appends() {
        assert_eq!(pace(100, 100), [10, 30, 50, 70, 90, 100, 100, 100, 100, 100, 100]);
        assert_eq!(pace(100, 1000), [10, 30, 50, 70, 90, 100, 100, 100, 100, 100, 100]);
        assert_eq!(pace(95, 95), [10, 20, 40, 60, 80, 95, 95, 95, 95, 95, 95]);
    }

    #[test]
    fn who_is_late_is_pressed() {
        // Of 100 bytes, how many are made when the appends have come how far.
        let table =
            [(0, 0, false), (0, 1, true), (30, 30, false), (30, 31, true), (70, 74, true), (90, 75, true)];
        for (done, consumed, pressed) in table {
            let mut preparation = Preparation::new(1, 100, 10, Position(500), 100);
            preparation.done = done;
            let slice = preparation.next(Path::new("log"), Position(500 + consumed));
            assert_eq!(slice.pressed, pressed, "{done} made, {consumed} consumed");
        }
    }

    #[test]
    fn without_room_there_is_no_pace() {
        assert_eq!(pace(100, 0)[0], 100);
    }
}
