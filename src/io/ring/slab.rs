//! Operations under way, by the key that the kernel gives back with their completion.

/// Entries with keys that are not reused at once: a key is the entry's index and how often the
/// entry has been used, so that a completion can meet only the operation it belongs to.
pub(super) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

struct Entry<T> {
    /// Counts the uses, and so tells them apart.
    generation: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub fn new() -> Slab<T> {
        Slab { entries: Vec::new(), free: Vec::new() }
    }

    /// Operations under way.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// A key for a value to come.
    pub fn reserve(&mut self) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, value: None });
            u32::try_from(self.entries.len() - 1).expect("fewer than 2^31 operations")
        });
        u64::from(self.entries[index as usize].generation) << 32 | u64::from(index)
    }

    /// Keep `value` under a reserved key until [`take`](Slab::take).
    pub fn put(&mut self, key: u64, value: T) {
        let entry = self.entry(key);
        assert!(entry.value.is_none());
        entry.value = Some(value);
    }

    /// The value, while its key stays reserved: [`put`](Slab::put) it back or
    /// [`release`](Slab::release) the key.
    pub fn take(&mut self, key: u64) -> T {
        self.entry(key).value.take().expect("a completion belongs to an operation under way")
    }

    pub fn release(&mut self, key: u64) {
        let entry = self.entry(key);
        assert!(entry.value.is_none());
        // 31 bits: the key with all ones stays free for completions that nobody waits for.
        entry.generation = (entry.generation + 1) & (u32::MAX >> 1);
        self.free.push(key as u32);
    }

    fn entry(&mut self, key: u64) -> &mut Entry<T> {
        let entry = &mut self.entries[key as u32 as usize];
        assert_eq!(u64::from(entry.generation), key >> 32, "a key is dead after its release");
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_entry_has_another_key() {
        let mut slab = Slab::new();
        let first = slab.reserve();
        slab.put(first, "a");
        assert_eq!((slab.len(), slab.take(first)), (1, "a"));
        slab.release(first);
        assert_eq!(slab.len(), 0);
        let second = slab.reserve();
        assert_ne!(first, second);
    }

    #[test]
    #[should_panic(expected = "dead after its release")]
    fn a_released_key_finds_nothing() {
        let mut slab: Slab<u8> = Slab::new();
        let key = slab.reserve();
        slab.release(key);
        slab.put(key, 1);
    }
}
