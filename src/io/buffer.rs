//! Memory that is lent to the kernel: log chunks, receive buffers, pages for direct IO.
//!
//! - [`ChunkBuf`]: the memory of one log chunk. Its front is *frozen* (immutable, shared as
//!   [`Bytes`]: the device reads it, consumers are served from it), its back is still being written.
//! - [`RecvBuf`]: one of the shard's shared receive buffers, on loan until dropped.
//! - [`PageBuf`]: page-aligned scratch memory for jobs.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use crossbeam::queue::ArrayQueue;

use crate::base::align::{PAGE_BYTES, round_up};

/// Memory of at least this size starts at a multiple of it, so that the kernel can back it by huge
/// pages: copying a batch into 4 KiB pages that are not in the TLB costs more than the copy.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// One aligned allocation, freed on drop.
struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    /// Whole pages' alignment, zeroed.
    fn new(bytes: usize) -> Memory {
        assert!(bytes > 0);
        let huge = bytes >= HUGE_PAGE_BYTES;
        let align = if huge { HUGE_PAGE_BYTES } else { PAGE_BYTES };
        let layout = Layout::from_size_align(bytes, align).expect("a size below isize::MAX");
        // SAFETY: the layout has a size above zero, asserted above.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        if huge {
            // Before the first touch: pages that are there already stay small.
            advise_huge_pages(start, bytes);
        }
        // SAFETY: `alloc` gave `bytes` bytes, which nobody else knows of yet.
        unsafe { start.write_bytes(0, bytes) };
        Memory { start, layout }
    }

    fn len(&self) -> usize {
        self.layout.size()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `start` came from `alloc` with this layout and is freed only here.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

// SAFETY: `Memory` is a plain allocation; who may read or write which range is the business of the
// types below, and none of them depends on the thread.
unsafe impl Send for Memory {}
// SAFETY: as above; `Memory` itself gives out no reference.
unsafe impl Sync for Memory {}

/// Hands out chunks of one size and takes their memory back, whichever thread drops it last.
#[derive(Clone)]
pub struct ChunkPool {
    inner: Arc<PoolInner>,
}

struct PoolInner {
    chunk_bytes: usize,
    /// Memory waiting for its next use. What does not fit is given back to the system.
    free: ArrayQueue<Memory>,
    /// Chunks in use, lent ones included.
    used: AtomicUsize,
    chunks_max: usize,
}

impl ChunkPool {
    /// At most `chunks_max` chunks of `chunk_bytes` (a multiple of the page) are out at a time.
    pub fn new(chunk_bytes: usize, chunks_max: usize) -> ChunkPool {
        assert!(chunk_bytes.is_multiple_of(PAGE_BYTES) && chunk_bytes > 0);
        assert!(chunks_max > 0);
        ChunkPool {
            inner: Arc::new(PoolInner {
                chunk_bytes,
                free: ArrayQueue::new(chunks_max),
                used: AtomicUsize::new(0),
                chunks_max,
            }),
        }
    }

    pub fn chunk_bytes(&self) -> usize {
        self.inner.chunk_bytes
    }

    /// Most chunks that are out at a time.
    pub fn chunks_max(&self) -> usize {
        self.inner.chunks_max
    }

    /// Chunks that are out: being written, in the tail cache, or still read by somebody.
    pub fn used(&self) -> usize {
        self.inner.used.load(Ordering::Acquire)
    }

    /// A chunk, or `None` when all are out: the caller waits until one comes back.
    pub fn take(&self) -> Option<ChunkBuf> {
        let pool = &self.inner;
        if pool.used.fetch_add(1, Ordering::AcqRel) >= pool.chunks_max {
            pool.used.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        let memory = pool.free.pop().unwrap_or_else(|| Memory::new(pool.chunk_bytes));
        Some(ChunkBuf::new(memory, Some(pool.clone())))
    }

    /// Put memory for one more chunk in store, touched, for a [`take`](Self::take) to come. `false` once there is
    /// memory for `chunks` chunks.
    pub fn stock(&self, chunks: usize) -> bool {
        let pool = &self.inner;
        self.used() + pool.free.len() < chunks.min(pool.chunks_max)
            && pool.free.push(Memory::new(pool.chunk_bytes)).is_ok()
    }
}

impl fmt::Debug for ChunkPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} chunks of {} bytes", self.used(), self.inner.chunks_max, self.inner.chunk_bytes)
    }
}

fn advise_huge_pages(start: NonNull<u8>, bytes: usize) {
    // SAFETY: the range is one live allocation; the advice changes no content. Failure only means
    // ordinary pages.
    unsafe {
        libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE);
    }
}

/// The memory of a chunk while anybody holds a part of it.
struct ChunkMemory {
    /// Taken only in `drop`.
    memory: Option<Memory>,
    pool: Option<Arc<PoolInner>>,
}

impl ChunkMemory {
    fn start(&self) -> *mut u8 {
        self.memory.as_ref().expect("memory is there until drop").start.as_ptr()
    }
}

impl Drop for ChunkMemory {
    fn drop(&mut self) {
        if let (Some(memory), Some(pool)) = (self.memory.take(), self.pool.take()) {
            // A full free list drops the memory: it was a chunk too many.
            let _ = pool.free.push(memory);
            pool.used.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// The frozen front of a chunk, as the owner behind a [`Bytes`].
struct Frozen {
    memory: Arc<ChunkMemory>,
    len: usize,
}

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `0..len` was frozen before this value was made, and frozen bytes are never
        // written again (`ChunkBuf` gives out `&mut` only behind its `frozen` mark, which only
        // grows); the memory lives as long as the `Arc`.
        unsafe { std::slice::from_raw_parts(self.memory.start(), self.len) }
    }
}

/// The memory of one log chunk, with its only writer.
///
/// ```text
/// 0            frozen                    capacity
/// | shared, immutable | writable by tail_mut |
/// ```
pub struct ChunkBuf {
    memory: Arc<ChunkMemory>,
    capacity: usize,
    frozen: usize,
    /// All of `0..frozen`.
    shared: Bytes,
}

impl ChunkBuf {
    fn new(memory: Memory, pool: Option<Arc<PoolInner>>) -> ChunkBuf {
        let capacity = memory.len();
        ChunkBuf {
            memory: Arc::new(ChunkMemory { memory: Some(memory), pool }),
            capacity,
            frozen: 0,
            shared: Bytes::new(),
        }
    }

    /// A chunk outside any pool, for one batch that is larger than a pool's chunk.
    pub fn unpooled(bytes: usize) -> ChunkBuf {
        ChunkBuf::new(Memory::new(round_up(bytes.max(1), PAGE_BYTES)), None)
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes from the start that will never change again.
    pub fn frozen(&self) -> usize {
        self.frozen
    }

    /// The writable rest: byte `i` of it is byte `frozen + i` of the chunk.
    pub fn tail_mut(&mut self) -> &mut [u8] {
        // SAFETY: bytes from `frozen` on are shared with nobody (`Frozen` ends at a mark that was
        // `frozen` at its time or earlier), `&mut self` is the only writer, and the memory holds
        // `capacity` initialised bytes (zeroed at first, written later).
        unsafe {
            std::slice::from_raw_parts_mut(self.memory.start().add(self.frozen), self.capacity - self.frozen)
        }
    }

    /// Freeze up to `end` and return all that is frozen.
    pub fn freeze(&mut self, end: usize) -> &Bytes {
        assert!(
            end >= self.frozen && end <= self.capacity,
            "freeze {end} of {}..{}",
            self.frozen,
            self.capacity
        );
        if end > self.frozen {
            self.frozen = end;
            self.shared = Bytes::from_owner(Frozen { memory: self.memory.clone(), len: end });
        }
        &self.shared
    }

    /// A part of what is frozen.
    pub fn slice(&self, range: Range<usize>) -> Bytes {
        self.shared.slice(range)
    }

    /// The frozen bytes.
    pub fn shared(&self) -> &Bytes {
        &self.shared
    }
}

impl fmt::Debug for ChunkBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chunk of {} bytes, {} frozen", self.capacity, self.frozen)
    }
}

/// The shard's shared receive buffers: all of one size in one allocation.
///
/// `Rc`: they never leave their shard.
#[derive(Clone)]
pub struct RecvPool {
    inner: Rc<RecvPoolInner>,
}

struct RecvPoolInner {
    memory: Memory,
    buffer_bytes: usize,
    count: u16,
    /// Buffers that came back and that the kernel does not yet know to be free.
    returned: RefCell<Vec<u16>>,
}

impl RecvPool {
    pub fn new(count: u16, buffer_bytes: usize) -> RecvPool {
        assert!(count.is_power_of_two(), "the kernel's buffer ring has a power of two of entries");
        RecvPool {
            inner: Rc::new(RecvPoolInner {
                memory: Memory::new(usize::from(count) * buffer_bytes),
                buffer_bytes,
                count,
                returned: RefCell::new((0..count).collect()),
            }),
        }
    }

    pub fn count(&self) -> u16 {
        self.inner.count
    }

    pub fn buffer_bytes(&self) -> usize {
        self.inner.buffer_bytes
    }

    /// Buffers that are free and have not been given out since: at first, all.
    pub fn take_returned(&self, into: &mut Vec<u16>) {
        into.append(&mut self.inner.returned.borrow_mut());
    }

    /// Where buffer `id` starts, for the kernel.
    pub fn address(&self, id: u16) -> *mut u8 {
        assert!(id < self.inner.count);
        // SAFETY: `id < count`, so the offset lies inside the allocation.
        unsafe { self.inner.memory.start.as_ptr().add(usize::from(id) * self.inner.buffer_bytes) }
    }

    /// The loan of buffer `id`, of which the first `len` bytes have been written.
    ///
    /// # Safety
    /// The buffer is not free, nobody else holds its loan, and nobody (kernel included) writes it
    /// before the loan is dropped.
    pub unsafe fn loan(&self, id: u16, len: usize) -> RecvBuf {
        assert!(id < self.inner.count && len <= self.inner.buffer_bytes);
        RecvBuf { pool: self.clone(), id, start: 0, len }
    }

    /// A loan filled by copying, for implementations without a kernel. `None` when all are out.
    pub fn copy_in(&self, bytes: &[u8]) -> Option<RecvBuf> {
        assert!(bytes.len() <= self.inner.buffer_bytes);
        let id = self.inner.returned.borrow_mut().pop()?;
        // SAFETY: the buffer was free and is now ours alone; the length was checked.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.address(id), bytes.len());
            Some(self.loan(id, bytes.len()))
        }
    }
}

/// Received bytes in a shared buffer, which goes back when this is dropped.
pub struct RecvBuf {
    pool: RecvPool,
    id: u16,
    start: usize,
    len: usize,
}

impl RecvBuf {
    /// Forget the first `count` bytes.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len);
        self.start += count;
        self.len -= count;
    }
}

impl Deref for RecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `loan`'s contract: the bytes were written before and nobody writes them while the
        // loan lives; `start + len` is at most the buffer's size.
        unsafe { std::slice::from_raw_parts(self.pool.address(self.id).add(self.start), self.len) }
    }
}

impl Drop for RecvBuf {
    fn drop(&mut self) {
        self.pool.inner.returned.borrow_mut().push(self.id);
    }
}

impl fmt::Debug for RecvBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "receive buffer {} with {} bytes", self.id, self.len)
    }
}

/// Page-aligned memory of whole pages, zeroed at first.
pub struct PageBuf {
    memory: Memory,
    len: usize,
}

impl PageBuf {
    /// `len` is rounded up to whole pages.
    pub fn zeroed(len: usize) -> PageBuf {
        let len = round_up(len.max(1), PAGE_BYTES);
        PageBuf { memory: Memory::new(len), len }
    }

    /// `bytes`, and zeros up to the page's end.
    pub fn from_bytes(bytes: &[u8]) -> PageBuf {
        let mut buf = PageBuf::zeroed(bytes.len());
        buf[..bytes.len()].copy_from_slice(bytes);
        buf
    }

    /// Keep only the first `len` bytes (rounded up to whole pages).
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(round_up(len.max(1), PAGE_BYTES));
    }
}

impl Deref for PageBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the allocation holds at least `len` initialised bytes and belongs to `self`.
        unsafe { std::slice::from_raw_parts(self.memory.start.as_ptr(), self.len) }
    }
}

impl DerefMut for PageBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.memory.start.as_ptr(), self.len) }
    }
}

impl fmt::Debug for PageBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} page bytes", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frozen_bytes_outlive_the_chunk_and_the_rest_stays_writable() {
        let pool = ChunkPool::new(8192, 1);
        let mut chunk = pool.take().unwrap();
        chunk.tail_mut()[..3].copy_from_slice(b"abc");
        let first = chunk.freeze(4096).slice(0..3);
        chunk.tail_mut()[..3].copy_from_slice(b"def");
        let second = chunk.freeze(8192).slice(4096..4099);
        assert!(chunk.tail_mut().is_empty());
        drop(chunk);
        assert_eq!((&first[..], &second[..]), (&b"abc"[..], &b"def"[..]));

        assert!(pool.take().is_none(), "the only chunk is still read");
        drop((first, second));
        assert!(pool.take().is_some(), "the last reader gives it back");
    }

    #[test]
    fn a_pool_is_stocked_up_to_what_is_asked_for_and_never_beyond_its_limit() {
        let pool = ChunkPool::new(4096, 4);
        let out = pool.take().unwrap();
        assert!(pool.stock(3) && pool.stock(3));
        assert!(!pool.stock(3), "one is out, two are in store");
        let stocked: Vec<usize> = std::iter::from_fn(|| pool.inner.free.pop())
            .map(|memory| memory.start.as_ptr() as usize)
            .collect();
        assert_eq!(stocked.len(), 2);
        drop(out);
        while pool.stock(usize::MAX) {}
        assert_eq!((pool.used(), pool.inner.free.len()), (0, 4));
    }

    #[test]
    fn receive_buffers_come_back_when_dropped() {
        let pool = RecvPool::new(2, 16);
        let mut first = pool.copy_in(b"hello").unwrap();
        let second = pool.copy_in(b"world").unwrap();
        assert!(pool.copy_in(b"!").is_none());
        first.advance(2);
        assert_eq!(&first[..], b"llo");
        drop(second);
        assert_eq!(&pool.copy_in(b"!").unwrap()[..], b"!");
        assert_eq!(&first[..], b"llo");
    }

    #[test]
    fn pages_are_whole_aligned_and_zero() {
        let buf = PageBuf::from_bytes(b"x");
        assert_eq!(buf.len(), PAGE_BYTES);
        assert_eq!(buf.as_ptr() as usize % PAGE_BYTES, 0);
        assert!(buf[1..].iter().all(|&byte| byte == 0));
    }
}
