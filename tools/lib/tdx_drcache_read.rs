// SPDX-License-Identifier: MIT
//! Read an L2's debug registers from tdx_drcache: the reader's contract of
//! `<linux/tdx_drcache.h>` in Rust, of std alone. The same in C is
//! `tdx_drcache_read.h`. To be taken in as a module:
//!
//! ```ignore
//! let reader = Reader::open(cpu, 0, run_page, 0)?;
//! loop {
//!     let t = tsc();
//!     // ioctl(vtl_fd, MSHV_VTL_RETURN_TO_LOWER_VTL)
//!     // at a HW_INTERRUPT exit:
//!     match reader.read(t, exit_rax) {
//!         Ok(snapshot) => { /* the L2's registers */ }
//!         Err(_miss) => { /* the host driver's ioctls; never a hypercall */ }
//!     }
//! }
//! ```
//!
//! Stay on the CPU that you are bound to, as for the host driver's run page. An
//! observer, which knows of no exit, may be on any CPU and reads with
//! [`Reader::observe`].

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::raw::{c_int, c_long, c_ulong, c_void};
use std::os::unix::io::{AsRawFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};

pub const DEVICE: &str = "/dev/tdx_drcache";

const MAGIC: u32 = 0x5244_4454;
const READ_RETRIES: u32 = 64;

/// There is a snapshot.
pub const VALID: u32 = 1 << 0;
/// Taken after interrupts were on.
pub const LATE: u32 = 1 << 1;
/// L1 had breakpoints on the CPU: a value in `db` or a bit of B0-B3 in `dr6` may be
/// L1's. Take it for nothing of the guest's. No other way to read is better.
pub const L1_HWBP: u32 = 1 << 2;
/// The L2 is of the emulator.
pub const EMULATED: u32 = 1 << 3;

/// Flag of [`Reader::open`]: look on; do not own.
pub const BIND_OBSERVE: u32 = 1 << 0;

const GET_INFO: c_ulong = 0xbb00;
const BIND: c_ulong = 0xbb01;

const PROT_READ: c_int = 1;
const MAP_SHARED: c_int = 1;
const EPROTO: i32 = 71;

// musl's ioctl() takes an int, glibc's an unsigned long; the numbers fit both.
#[cfg(target_env = "musl")]
type IoctlNumber = c_int;
#[cfg(not(target_env = "musl"))]
type IoctlNumber = c_ulong;

extern "C" {
    fn ioctl(fd: c_int, number: IoctlNumber, ...) -> c_int;
    fn mmap(
        addr: *mut c_void,
        length: usize,
        prot: c_int,
        flags: c_int,
        fd: c_int,
        offset: c_long,
    ) -> *mut c_void;
    fn munmap(addr: *mut c_void, length: usize) -> c_int;
}

/// `struct tdx_drcache_header`, as far as it is looked at.
#[repr(C)]
struct Header {
    magic: u32,
    header_size: u16,
    slot_size: u16,
    slot_offset: u32,
    cpu: u32,
}

/// `struct tdx_drcache_slot`: one cache line, written by the kernel at any time.
#[repr(C, align(64))]
struct Slot {
    seq: AtomicU32,
    flags: AtomicU32,
    exit_rax: AtomicU64,
    db: [AtomicU64; 4],
    dr6: AtomicU64,
    tsc: AtomicU64,
}

/// `struct tdx_drcache_info`
#[repr(C)]
#[derive(Default)]
struct Info {
    size: u32,
    hook: u32,
    features: u64,
    max_vcpus: u32,
    map_size: u32,
    host: u32,
    reserved: u32,
}

/// `struct tdx_drcache_bind`
#[repr(C)]
struct Bind {
    size: u32,
    cpu: u32,
    exit_reasons: u64,
    run_page: u64,
    flags: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<Slot>() == 64);
const _: () = assert!(size_of::<Info>() == 32);
const _: () = assert!(size_of::<Bind>() == 32);

/// What the CPU held at an exit, as in `struct tdx_drcache_slot`: the registers that the
/// L2 ran with. See [`L1_HWBP`] before taking one for the guest's. They are the guest's to
/// choose: data, never an index, an address to follow or a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub flags: u32,
    pub exit_rax: u64,
    pub db: [u64; 4],
    pub dr6: u64,
    pub tsc: u64,
}

impl Snapshot {
    /// The VM index of the L2, 1 to 3.
    pub fn vm(&self) -> u32 {
        self.flags >> 8 & 3
    }
}

/// Why there is no snapshot. Every one means: use the host driver's ioctls, never a
/// hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The last exit that the kernel saw was not captured.
    Invalid,
    /// The snapshot is of before the entry.
    Stale,
    /// It is of another exit than the run page's.
    OtherExit,
    /// The slot was being written at each try.
    Busy,
}

/// The time stamp counter, for `min_tsc` of [`Reader::read`].
#[inline]
pub fn tsc() -> u64 {
    // SAFETY: any x86-64 CPU has RDTSC.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// A consistent copy of a slot. `between` runs between the loads and the check that
/// nothing changed meanwhile: nothing, but in a test.
///
/// The page is mapped read-only, where Rust promises no more than that a relaxed load
/// writes nothing: hence fences, where C has an acquire load.
#[inline]
fn copy(slot: &Slot, min_tsc: u64, mut between: impl FnMut()) -> Result<Snapshot, Miss> {
    for _ in 0..READ_RETRIES {
        let seq = slot.seq.load(Ordering::Relaxed);
        // pairs with the kernel's release store of an even seq
        fence(Ordering::Acquire);
        if seq & 1 != 0 {
            std::hint::spin_loop();
            continue;
        }
        let snapshot = Snapshot {
            flags: slot.flags.load(Ordering::Relaxed),
            exit_rax: slot.exit_rax.load(Ordering::Relaxed),
            db: [
                slot.db[0].load(Ordering::Relaxed),
                slot.db[1].load(Ordering::Relaxed),
                slot.db[2].load(Ordering::Relaxed),
                slot.db[3].load(Ordering::Relaxed),
            ],
            dr6: slot.dr6.load(Ordering::Relaxed),
            tsc: slot.tsc.load(Ordering::Relaxed),
        };
        between();
        // pairs with the kernel's write barrier after an odd seq
        fence(Ordering::Acquire);
        if slot.seq.load(Ordering::Relaxed) != seq {
            continue;
        }
        if snapshot.flags & VALID == 0 {
            return Err(Miss::Invalid);
        }
        if snapshot.tsc < min_tsc {
            return Err(Miss::Stale);
        }
        return Ok(snapshot);
    }
    Err(Miss::Busy)
}

/// What [`Reader::read`] accepts of a copy: the exit that the caller is at.
#[inline]
fn of_exit(snapshot: Snapshot, exit_rax: u64) -> Result<Snapshot, Miss> {
    if snapshot.exit_rax == exit_rax {
        Ok(snapshot)
    } else {
        Err(Miss::OtherExit)
    }
}

/// The mapped page. Unmapped when dropped.
struct Mapping {
    addr: *mut c_void,
    length: usize,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nothing refers to it any more.
        unsafe { munmap(self.addr, self.length) };
    }
}

/// A vCPU that is bound, until it is dropped.
pub struct Reader {
    slot: NonNull<Slot>,
    _page: Mapping,
    file: File,
}

// SAFETY: the mapping and the file are the process's, and the slot is read by atomic
// loads alone.
unsafe impl Send for Reader {}
// SAFETY: as above.
unsafe impl Sync for Reader {}

impl Reader {
    /// Open the device, bind to a vCPU and map its slot.
    ///
    /// `exit_reasons` is as in `struct tdx_drcache_bind`, 0 for HW_INTERRUPT alone;
    /// `run_page` is where the run page of that CPU is mapped, null for an observer;
    /// `flags` is 0 or [`BIND_OBSERVE`].
    pub fn open(
        cpu: u32,
        exit_reasons: u64,
        run_page: *const c_void,
        flags: u32,
    ) -> io::Result<Reader> {
        let file = File::open(DEVICE)?;
        let mut info = Info {
            size: size_of::<Info>() as u32,
            ..Default::default()
        };
        let mut bind = Bind {
            size: size_of::<Bind>() as u32,
            cpu,
            exit_reasons,
            run_page: run_page as u64,
            flags,
            reserved: 0,
        };

        // In this order: with the hook in place GET_INFO need not look for one.
        call(&file, BIND, &mut bind)?;
        call(&file, GET_INFO, &mut info)?;
        let page = map(&file, info.map_size as usize)?;
        let slot = find_slot(&page)?;
        Ok(Reader {
            slot,
            _page: page,
            file,
        })
    }

    /// The L2's registers at the exit that just ended. `min_tsc` is [`tsc`] of before the
    /// entry, `exit_rax` RAX of the exit, from the run page. No syscall.
    #[inline]
    pub fn read(&self, min_tsc: u64, exit_rax: u64) -> Result<Snapshot, Miss> {
        self.observe(min_tsc)
            .and_then(|snapshot| of_exit(snapshot, exit_rax))
    }

    /// The last exit that was captured, whichever it was: for who looks on and does not
    /// know which exit the vCPU's owner is at. Never [`Miss::OtherExit`]. No syscall.
    #[inline]
    pub fn observe(&self, min_tsc: u64) -> Result<Snapshot, Miss> {
        // SAFETY: find_slot() has checked it, and the mapping lives as long as self.
        copy(unsafe { self.slot.as_ref() }, min_tsc, || ())
    }
}

impl AsRawFd for Reader {
    /// The file, for TDX_DRCACHE_GET_REGS and TDX_DRCACHE_GET_STATS.
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

fn call<T>(file: &File, number: c_ulong, arg: &mut T) -> io::Result<()> {
    // SAFETY: the number's struct is T, and its size member says how long it is.
    if unsafe { ioctl(file.as_raw_fd(), number as IoctlNumber, arg as *mut T) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn map(file: &File, length: usize) -> io::Result<Mapping> {
    // SAFETY: a new mapping, where the kernel likes; nothing else is there.
    let addr = unsafe {
        mmap(
            ptr::null_mut(),
            length,
            PROT_READ,
            MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };

    if addr as isize == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(Mapping { addr, length })
}

fn find_slot(page: &Mapping) -> io::Result<NonNull<Slot>> {
    let unknown = || io::Error::from_raw_os_error(EPROTO);

    if page.length < size_of::<Header>() + size_of::<Slot>() {
        return Err(unknown());
    }
    // SAFETY: long enough, as aligned as a page, and not written once it can be mapped.
    let header = unsafe { &*(page.addr as *const Header) };
    let offset = header.slot_offset as usize;
    if header.magic != MAGIC
        || (header.slot_size as usize) < size_of::<Slot>()
        || offset % size_of::<Slot>() != 0
        || offset > page.length - size_of::<Slot>()
    {
        return Err(unknown());
    }
    // SAFETY: inside of the page.
    NonNull::new(unsafe { (page.addr as *mut u8).add(offset) } as *mut Slot).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    const RAX: u64 = 0x1100_0000_0001;
    /// As the kernel makes a page.
    const fn empty() -> Slot {
        Slot {
            seq: AtomicU32::new(0),
            flags: AtomicU32::new(0),
            exit_rax: AtomicU64::new(0),
            db: [
                AtomicU64::new(0),
                AtomicU64::new(0),
                AtomicU64::new(0),
                AtomicU64::new(0),
            ],
            dr6: AtomicU64::new(0),
            tsc: AtomicU64::new(0),
        }
    }

    fn read(slot: &Slot, min_tsc: u64, exit_rax: u64) -> Result<Snapshot, Miss> {
        copy(slot, min_tsc, || ()).and_then(|s| of_exit(s, exit_rax))
    }

    /// The kernel's `drcache_slot_publish()`; each register is `n`.
    fn publish(slot: &Slot, n: u64) {
        let seq = slot.seq.load(Ordering::Relaxed);

        slot.seq.store(seq.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        slot.flags
            .store(VALID | EMULATED | 2 << 8, Ordering::Relaxed);
        slot.exit_rax.store(RAX, Ordering::Relaxed);
        for db in &slot.db {
            db.store(n, Ordering::Relaxed);
        }
        slot.dr6.store(n, Ordering::Relaxed);
        slot.tsc.store(n, Ordering::Relaxed);
        slot.seq.store(seq.wrapping_add(2), Ordering::Release);
    }

    fn published(n: u64) -> Slot {
        let slot = empty();

        publish(&slot, n);
        slot
    }

    #[test]
    fn layout() {
        let slot = empty();
        let base = &slot as *const Slot as usize;

        assert_eq!(&slot.flags as *const _ as usize - base, 4);
        assert_eq!(&slot.exit_rax as *const _ as usize - base, 8);
        assert_eq!(&slot.db as *const _ as usize - base, 16);
        assert_eq!(&slot.dr6 as *const _ as usize - base, 48);
        assert_eq!(&slot.tsc as *const _ as usize - base, 56);
    }

    #[test]
    fn hit() {
        let snapshot = read(&published(1000), 1000, RAX).unwrap();

        assert_eq!(snapshot.db, [1000; 4]);
        assert_eq!(
            (snapshot.dr6, snapshot.tsc, snapshot.exit_rax),
            (1000, 1000, RAX)
        );
        assert_eq!(snapshot.vm(), 2);
    }

    #[test]
    fn nothing_published_is_invalid() {
        assert_eq!(read(&empty(), 0, 0), Err(Miss::Invalid));
        let slot = published(1000);
        slot.flags.store(LATE, Ordering::Relaxed);
        assert_eq!(read(&slot, 0, RAX), Err(Miss::Invalid));
    }

    #[test]
    fn older_is_stale() {
        assert_eq!(read(&published(1000), 1001, RAX), Err(Miss::Stale));
    }

    #[test]
    fn of_another_exit() {
        assert_eq!(read(&published(1000), 1000, RAX + 1), Err(Miss::OtherExit));
        // An observer does not compare.
        assert!(copy(&published(1000), 1000, || ()).is_ok());
    }

    #[test]
    fn odd_seq_is_busy() {
        let slot = published(1000);
        let mut loads = 0;

        slot.seq.store(5, Ordering::Relaxed);
        assert_eq!(copy(&slot, 0, || loads += 1), Err(Miss::Busy));
        assert_eq!(loads, 0);
    }

    #[test]
    fn changed_seq_is_retried() {
        let slot = published(1000);
        let mut loads = 0;
        let snapshot = copy(&slot, 0, || {
            loads += 1;
            if loads < 3 {
                publish(&slot, 1000 + loads);
            }
        });

        assert_eq!(snapshot.unwrap().db, [1002; 4]);
        assert_eq!(loads, 3);
    }

    #[test]
    fn changed_at_each_try_is_busy() {
        let slot = published(1000);
        let mut loads = 0;

        assert_eq!(
            copy(&slot, 0, || {
                loads += 1;
                publish(&slot, 1000);
            }),
            Err(Miss::Busy)
        );
        assert_eq!(loads, READ_RETRIES);
    }

    #[test]
    fn no_torn_snapshot_beside_a_writer() {
        static SLOT: Slot = empty();
        static STOP: AtomicBool = AtomicBool::new(false);
        let writer = std::thread::spawn(|| {
            (1..)
                .take_while(|_| !STOP.load(Ordering::Relaxed))
                .for_each(|n| publish(&SLOT, n))
        });
        let mut hits = 0;

        while hits < 100_000 {
            match copy(&SLOT, 0, || ()) {
                Ok(s) => {
                    assert_eq!((s.db, s.dr6), ([s.tsc; 4], s.tsc));
                    hits += 1;
                }
                Err(miss) => assert!(matches!(miss, Miss::Busy | Miss::Invalid)),
            }
        }
        STOP.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    }

    #[test]
    fn a_page_that_is_not_known_is_refused() {
        #[repr(C, align(4096))]
        struct Page([u32; 1024]);
        let mut page = Page([0; 1024]);
        let mut slot_at = |magic: u32, slot_size: u32, offset: u32| {
            page.0[..3].copy_from_slice(&[magic, slot_size << 16 | 24, offset]);
            // Never dropped: it is not a mapping.
            let mapping = std::mem::ManuallyDrop::new(Mapping {
                addr: page.0.as_mut_ptr() as *mut c_void,
                length: 4096,
            });
            find_slot(&mapping).map(|slot| slot.as_ptr() as usize - mapping.addr as usize)
        };

        assert_eq!(slot_at(MAGIC, 64, 64).unwrap(), 64);
        assert_eq!(slot_at(MAGIC, 128, 4032).unwrap(), 4032);
        for (magic, size, offset) in [
            (0, 64, 64),
            (MAGIC, 56, 64),
            (MAGIC, 64, 72),
            (MAGIC, 64, 4096),
            (MAGIC, 64, !63),
        ] {
            let err = slot_at(magic, size, offset).unwrap_err();
            assert_eq!(err.raw_os_error(), Some(EPROTO));
        }
    }
}
