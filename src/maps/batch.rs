//! Reading, writing and deleting many map entries by one system call. For LPM tries and per-CPU arrays kernels have that
//! since 5.13; on older ones, entries are accessed one by one.

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd};
use std::{io, ptr};

use anyhow::{Context, Result, bail};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

/// The kernel has no such call for this kind of map (include/linux/errno.h; libc does not know it).
const ENOTSUPP: i32 = 524;

/// Entries that are read at once.
const AT_ONCE: usize = 1 << 14;

/// Keys, and as many values, each in one piece.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Entries {
    pub keys: Vec<u8>,
    pub values: Vec<u8>,
}

/// All entries, in no order. Nobody else is to change the map meanwhile.
pub fn read(map: &MapHandle) -> Result<Entries> {
    match read_at_once(map, map.value_size() as usize, AT_ONCE)? {
        Some(entries) => Ok(entries),
        None => read_one_by_one(map),
    }
}

/// The values of an array of so many entries, in their order; of one that is per CPU, `value_size` is the size
/// of all of an entry's together. `None` where the kernel has no such call.
pub fn read_values(map: &MapHandle, value_size: usize, entries: u32) -> Result<Option<Vec<u8>>> {
    // with room for one more, the first call tells that there is none
    let read = read_at_once(map, value_size, entries as usize + 1)?;
    Ok(read.map(|read| read.values))
}

/// `None` where the kernel has no such call.
fn read_at_once(map: &MapHandle, value_size: usize, at_once: usize) -> Result<Option<Entries>> {
    let key_size = map.key_size() as usize;
    let mut all = Entries::default();
    let mut keys = vec![0_u8; at_once * key_size];
    let mut values = vec![0_u8; at_once * value_size];
    // where the kernel goes on
    let mut place = vec![0_u8; key_size];
    let mut is_first = true;
    loop {
        let mut count = u32::try_from(at_once)?;
        let from = if is_first { ptr::null_mut() } else { place.as_mut_ptr().cast() };
        // SAFETY: buffers for as many entries as `count` says and for a key, and null for options
        let result = unsafe {
            libbpf_sys::bpf_map_lookup_batch(
                map.as_fd().as_raw_fd(),
                from,
                place.as_mut_ptr().cast(),
                keys.as_mut_ptr().cast(),
                values.as_mut_ptr().cast(),
                &mut count,
                ptr::null(),
            )
        };
        match -result {
            0 | libc::ENOENT => {}
            ENOTSUPP if is_first => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error).into()),
        }
        all.keys.extend(&keys[..count as usize * key_size]);
        all.values.extend(&values[..count as usize * value_size]);
        if -result == libc::ENOENT {
            return Ok(Some(all));
        }
        is_first = false;
    }
}

/// Writes entries, whether or not there are others with their keys.
pub fn write(map: &MapHandle, entries: &Entries) -> Result<()> {
    let Entries { keys, values } = entries;
    let written = at_once(map, keys, |keys, count| {
        // SAFETY: as many keys and values as `count` says, which the kernel reads, and null for options
        unsafe {
            let values = values.as_ptr().cast();
            libbpf_sys::bpf_map_update_batch(
                map.as_fd().as_raw_fd(),
                keys,
                values,
                count,
                ptr::null(),
            )
        }
    });
    if written? {
        return Ok(());
    }
    let keys = keys.chunks_exact(map.key_size() as usize);
    for (key, value) in keys.zip(values.chunks_exact(map.value_size() as usize)) {
        map.update(key, value, MapFlags::ANY)?;
    }
    Ok(())
}

/// Deletes the entries with these keys, all of which are there.
pub fn delete(map: &MapHandle, keys: &[u8]) -> Result<()> {
    let deleted = at_once(map, keys, |keys, count| {
        // SAFETY: as many keys as `count` says, which the kernel reads, and null for options
        unsafe {
            libbpf_sys::bpf_map_delete_batch(map.as_fd().as_raw_fd(), keys, count, ptr::null())
        }
    });
    if deleted? {
        return Ok(());
    }
    for key in keys.chunks_exact(map.key_size() as usize) {
        map.delete(key)?;
    }
    Ok(())
}

/// Makes a call for all keys, unless there are none. False where the kernel does not have it.
fn at_once(
    map: &MapHandle,
    keys: &[u8],
    call: impl FnOnce(*const c_void, *mut u32) -> i32,
) -> Result<bool> {
    if keys.is_empty() {
        return Ok(true);
    }
    let mut count = u32::try_from(keys.len() / map.key_size() as usize)?;
    match -call(keys.as_ptr().cast(), &mut count) {
        0 => Ok(true),
        ENOTSUPP => Ok(false),
        error => bail!(io::Error::from_raw_os_error(error)),
    }
}

fn read_one_by_one(map: &MapHandle) -> Result<Entries> {
    let mut all = Entries::default();
    for key in map.keys() {
        let value = map.lookup(&key, MapFlags::ANY)?.context("an entry has gone")?;
        all.keys.extend(key);
        all.values.extend(value);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use libbpf_rs::MapType;

    use super::*;

    fn map(kind: MapType, key_size: u32) -> MapHandle {
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
            map_flags: if kind == MapType::LpmTrie { libbpf_sys::BPF_F_NO_PREALLOC } else { 0 },
            ..Default::default()
        };
        MapHandle::create(kind, Some("test"), key_size, 8, 40_000, &options).unwrap()
    }

    /// More than are read at once; the value can be the index of the loopback device, too.
    fn entries(count: u32, key: impl Fn(u32) -> Vec<u8>) -> Entries {
        Entries {
            keys: (0..count).flat_map(key).collect(),
            values: 1_u64.to_ne_bytes().repeat(count as usize),
        }
    }

    fn sorted(entries: &Entries, key_size: usize) -> Vec<(&[u8], &[u8])> {
        let pairs = entries.keys.chunks_exact(key_size).zip(entries.values.chunks_exact(8));
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_unstable();
        pairs
    }

    fn there_and_back(map: &MapHandle, all: &Entries) {
        let key_size = map.key_size() as usize;
        assert_eq!(read(map).unwrap(), Entries::default());
        write(map, all).unwrap();
        // once more, over what is there
        write(map, all).unwrap();
        assert!(sorted(&read(map).unwrap(), key_size) == sorted(all, key_size));
        let (gone, kept) = all.keys.split_at(all.keys.len() / key_size / 3 * key_size);
        delete(map, gone).unwrap();
        let left = read(map).unwrap();
        let left: Vec<_> = sorted(&left, key_size).into_iter().map(|(key, _)| key).collect();
        let mut kept: Vec<_> = kept.chunks_exact(key_size).collect();
        kept.sort_unstable();
        assert!(left == kept);
        delete(map, kept.concat().as_slice()).unwrap();
        assert_eq!(read(map).unwrap(), Entries::default());
        write(map, &Entries::default()).unwrap();
    }

    #[test]
    fn needs_root_tries_are_written_read_and_deleted_in_batches() {
        let key = |n: u32| [32_u32.to_ne_bytes(), n.to_be_bytes()].concat();
        there_and_back(&map(MapType::LpmTrie, 8), &entries(35_000, key));
    }

    /// As kernels before 5.13 have it for tries, too.
    #[test]
    fn needs_root_a_map_without_batch_calls_is_accessed_singly() {
        let map = map(MapType::DevmapHash, 4);
        let mut count = 1;
        // SAFETY: room for a key and a value, and null for options
        let result = unsafe {
            let (mut place, mut key, mut value) = ([0_u8; 4], [0_u8; 4], [0_u8; 8]);
            libbpf_sys::bpf_map_lookup_batch(
                map.as_fd().as_raw_fd(),
                ptr::null_mut(),
                place.as_mut_ptr().cast(),
                key.as_mut_ptr().cast(),
                value.as_mut_ptr().cast(),
                &mut count,
                ptr::null(),
            )
        };
        assert_eq!(-result, ENOTSUPP);
        there_and_back(&map, &entries(1000, |n| n.to_ne_bytes().to_vec()));
    }

    #[test]
    fn needs_root_what_the_kernel_refuses_is_an_error() {
        let map = map(MapType::LpmTrie, 8);
        let key = |n: u32| [32_u32.to_ne_bytes(), n.to_be_bytes()].concat();
        let error = write(&map, &entries(40_001, key)).unwrap_err().to_string();
        assert!(error.contains("No space left"), "{error}");
        assert!(delete(&map, &key(50_000)).is_err());
    }
}
