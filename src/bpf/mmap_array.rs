//! Array maps mapped into memory: user space and the programs share the same words.

use std::marker::PhantomData;
use std::mem::offset_of;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapCore, MapHandle};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::bpf;

/// A type whose memory layout is that of an array map's value.
///
/// # Safety
/// Any bytes are a valid value, it has no padding, and its size is a multiple of 8, which is how the kernel spaces
/// the entries of an array map (`array_map_alloc` in kernel/bpf/arraymap.c).
pub unsafe trait Entry: Copy {}
// SAFETY: integers and arrays of integers only; `MmapArray::new` checks the size against the kernel's
unsafe impl Entry for bpf::Config {}
// SAFETY: as above; of enums, user space alone writes them
unsafe impl Entry for bpf::RuleEntry {}
// SAFETY: as above
unsafe impl Entry for bpf::Tunnel {}
// SAFETY: as above
unsafe impl Entry for bpf::Instance {}
// SAFETY: as above
unsafe impl Entry for bpf::GueTemplate {}
// SAFETY: an integer of 8 bytes
unsafe impl Entry for u64 {}
// SAFETY: as many of them
unsafe impl<const N: usize> Entry for [u64; N] {}

/// The memory of an array map made with `BPF_F_MMAPABLE`.
#[derive(Debug)]
pub struct MmapArray<T: Entry> {
    memory: NonNull<T>,
    entries: usize,
    _entries: PhantomData<T>,
}

impl<T: Entry> MmapArray<T> {
    /// Maps all entries of `map` for reading and writing. Fails if their number or size is not as this version has
    /// it.
    pub fn new(map: &MapHandle, entries: usize) -> Result<Self> {
        let found = (map.value_size() as usize, map.max_entries() as usize);
        ensure!(
            found == (size_of::<T>(), entries),
            "the map \"{}\" has {} entries of {} bytes where this version has {entries} of {}",
            map.name().to_string_lossy(),
            found.1,
            found.0,
            size_of::<T>()
        );
        Self::map(map, entries)
    }

    /// Maps the only entry of a `map` that other versions have as well. Fields that another version lacks at the end
    /// read as 0: the kernel allocates an array in whole pages, and clears them (`array_map_alloc` in
    /// kernel/bpf/arraymap.c).
    pub fn of_any_version(map: &MapHandle) -> Result<Self> {
        const { assert!(size_of::<T>() <= 4096) };
        Self::map(map, 1)
    }

    fn map(map: &MapHandle, entries: usize) -> Result<Self> {
        const { assert!(size_of::<T>() % 8 == 0) };
        let length = NonZeroUsize::new(entries * size_of::<T>()).context("an empty map")?;
        // SAFETY: a new mapping, wherever the kernel has room for it
        let memory = unsafe {
            mmap(
                None,
                length,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                map.as_fd(),
                0,
            )
        };
        let memory = memory.with_context(|| {
            format!("cannot map the map \"{}\" into memory", map.name().to_string_lossy())
        })?;
        Ok(Self { memory: memory.cast(), entries, _entries: PhantomData })
    }

    /// The whole array in 8-byte words. A program sees each store to one of them completely or not at all.
    pub fn words(&self) -> &[AtomicU64] {
        let count = self.entries * size_of::<T>() / size_of::<u64>();
        // SAFETY: aligned words that live as long as the mapping, shared with the programs
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), count) }
    }

    fn entry(&self, index: usize) -> *mut T {
        assert!(index < self.entries, "entry {index} of {}", self.entries);
        // SAFETY: within the mapping, as just checked
        unsafe { self.memory.as_ptr().add(index) }
    }

    /// A copy of an entry.
    pub fn read(&self, index: usize) -> T {
        // SAFETY: a valid, aligned entry; programs never write the entries of this type
        unsafe { self.entry(index).read_volatile() }
    }

    /// Whether an entry equals `value`, byte for byte.
    pub fn holds(&self, index: usize, value: &T) -> bool {
        fn bytes<T: Entry>(value: &T) -> &[u8] {
            // SAFETY: as many bytes as the value has, none of which is padding
            unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
        }
        bytes(&self.read(index)) == bytes(value)
    }

    /// Stores only the 8-byte word of an entry that contains the field at `offset`. A program sees the store
    /// completely or not at all.
    pub fn write_word(&self, index: usize, offset: usize, value: &T) {
        let start = offset / size_of::<u64>() * size_of::<u64>();
        assert!(start < size_of::<T>());
        // SAFETY: within the value, whose size is a multiple of 8
        let word =
            unsafe { std::ptr::from_ref(value).byte_add(start).cast::<u64>().read_unaligned() };
        let first = index * size_of::<T>() / size_of::<u64>();
        self.words()[first + start / size_of::<u64>()].store(word, Ordering::Release);
    }

    /// Stores an entry. A program may see a part of the store, so write only entries that no rule in force uses.
    pub fn write(&self, index: usize, value: T) {
        // SAFETY: a valid, aligned entry
        unsafe { self.entry(index).write_volatile(value) }
    }
}

impl MmapArray<bpf::Config> {
    /// The mask at `offset` bytes, as `offset_of!` gives it.
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset % 8 == 0 && offset < size_of::<bpf::Config>());
        // SAFETY: an aligned word of the mapping that lives as long, shared with the programs
        unsafe { AtomicU64::from_ptr(self.entry(0).cast::<u64>().byte_add(offset)) }
    }

    /// The word that decides which rules are in force.
    pub fn live(&self) -> &AtomicU64 {
        self.word(offset_of!(bpf::Config, live))
    }

    /// Says that l3afd has loaded the program. Loader and verdict share a word, and both are 0 then.
    pub fn give_to_l3afd(&self) {
        self.word(offset_of!(bpf::Config, loader)).store(0, Ordering::Release);
    }

    /// Whether any rule is in force.
    pub fn is_live(&self) -> bool {
        self.live().load(Ordering::Acquire) != 0
    }
}

impl<T: Entry> Drop for MmapArray<T> {
    fn drop(&mut self) {
        let length = self.entries * size_of::<T>();
        // SAFETY: our own mapping; nothing borrows from it any more
        if let Err(error) = unsafe { munmap(self.memory.cast(), length) } {
            log::debug!("munmap: {error}");
        }
    }
}
