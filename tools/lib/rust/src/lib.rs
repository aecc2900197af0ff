// SPDX-License-Identifier: MIT
//! Read an L2's debug registers from tdx_drcache: the reader's contract of
//! `<linux/tdx_drcache.h>` in Rust, with std as the only dependency. `tdx_drcache_read.h`
//! is the C version.
//!
//! ```no_run
//! use tdx_drcache::{OPEN_TRY_EXCLUSIVE, Reader, tsc};
//!
//! # fn enter_l2() -> u64 { 0 }
//! # fn main() -> std::io::Result<()> {
//! # let (cpu, run_page) = (0, std::ptr::null());
//! // SAFETY: run_page is this process's mapping of the CPU's run page.
//! let reader = unsafe { Reader::open(cpu, 0, run_page, OPEN_TRY_EXCLUSIVE)? };
//! loop {
//!     let t = tsc();
//!     // MSHV_VTL_RETURN_TO_LOWER_VTL, then RAX from the run page
//!     let exit_rax = enter_l2();
//!     // at a HW_INTERRUPT exit:
//!     match reader.read_dr6(t, exit_rax) {
//!         Ok(dr6) if dr6 & 0xf == 0 => { /* no breakpoint */ }
//!         Ok(_) => match reader.read(t, exit_rax) {
//!             Ok(_snapshot) => { /* the L2's registers */ }
//!             Err(_miss) => { /* the host driver's ioctls; never a hypercall */ }
//!         },
//!         Err(_miss) => { /* the same */ }
//!     }
//! }
//! # }
//! ```
//!
//! The owner's thread must stay on the CPU that it is bound to, as for the host driver's
//! run page. An observer does not know which exit the owner is at. It may run on any CPU,
//! opens with [`Reader::open_observer`] and reads with [`Reader::observe`].

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(
    unsafe_code,
    reason = "maps a page that the kernel writes, and calls ioctl() and mmap()"
)]

use std::error;
use std::fmt;
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::raw::{c_int, c_long, c_ulong, c_void};
use std::ptr::{self, NonNull};
#[cfg(not(test))]
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::atomic::{Ordering, fence};
#[cfg(test)]
use tests::{AtomicU32, AtomicU64};

/// The device that [`Reader::open`] opens.
pub const DEVICE: &str = "/dev/tdx_drcache";

const MAGIC: u32 = 0x5244_4454;
const READ_RETRIES: u32 = 64;

/// The slot holds a snapshot.
pub const VALID: u32 = 1 << 0;
/// Taken after interrupts were enabled.
pub const LATE: u32 = 1 << 1;
/// L1 had breakpoints on the CPU. Do not assume that the guest wrote `db`, or that B0-B3 in
/// `dr6` report a guest breakpoint: either may be L1's. The host driver's ioctls are no
/// better.
pub const L1_HWBP: u32 = 1 << 2;
/// The L2 is emulated.
pub const EMULATED: u32 = 1 << 3;

/// Flag of BIND: read only; do not own the vCPU.
const BIND_OBSERVE: u32 = 1 << 0;
/// Flag of [`Reader::open`]: keep L1's breakpoints out of the CPU's DR0-DR3 while the vCPU
/// has this owner. Fails with ENOSPC while L1 has a breakpoint that may run on the CPU.
/// `TDX_DRCACHE_BIND_EXCLUSIVE` in `<linux/tdx_drcache.h>` describes the effects on L1.
pub const BIND_EXCLUSIVE: u32 = 1 << 1;
/// Flag of [`Reader::open`], never passed to the kernel: try to bind with
/// [`BIND_EXCLUSIVE`], and without it if that fails. [`Reader::is_exclusive`] returns the
/// result.
pub const OPEN_TRY_EXCLUSIVE: u32 = 1 << 31;

const GET_INFO: c_ulong = 0xbb00;
const BIND: c_ulong = 0xbb01;

const PROT_READ: c_int = 1;
const MAP_SHARED: c_int = 1;
const EBUSY: i32 = 16;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;
const EPROTO: i32 = 71;
const EOPNOTSUPP: i32 = 95;

// The request is an int in musl and an unsigned long in glibc; the numbers fit both.
#[cfg(target_env = "musl")]
type IoctlNumber = c_int;
#[cfg(not(target_env = "musl"))]
type IoctlNumber = c_ulong;

// SAFETY: declared as in libc.
unsafe extern "C" {
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

/// The members of `struct tdx_drcache_header` used here.
#[repr(C)]
struct Header {
    magic: u32,
    header_size: u16,
    slot_size: u16,
    slot_offset: u32,
    cpu: u32,
}

/// `struct tdx_drcache_slot`: one cache line, which the kernel may write at any time.
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
    nr_cpu_ids: u32,
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

/// The registers that the L2 ran with, as in `struct tdx_drcache_slot`. With [`L1_HWBP`]
/// some may be L1's. The guest chooses the values: treat them as data, never as an index, an
/// address to follow or a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// [`VALID`], [`LATE`], [`L1_HWBP`], [`EMULATED`] and the VM index.
    pub flags: u32,
    /// RAX of the TDG.VP.ENTER that ended with this exit: class << 32 | VMX exit reason.
    pub exit_rax: u64,
    /// DR0 to DR3.
    pub db: [u64; 4],
    /// DR6.
    pub dr6: u64,
    /// The CPU's time stamp counter, read right after the registers.
    pub tsc: u64,
}

impl Snapshot {
    /// The VM index of the L2, 1 to 3.
    pub fn vm(&self) -> u32 {
        (self.flags >> 8) & 3
    }
}

/// The reason for a miss. On any miss, use the host driver's ioctls, never a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The last exit that the kernel saw was not captured.
    Invalid,
    /// The snapshot is older than `min_tsc`.
    Stale,
    /// The snapshot's RAX differs from the run page's.
    OtherExit,
    /// The slot was being written on each attempt.
    Busy,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Miss::Invalid => "the last exit was not captured",
            Miss::Stale => "the snapshot is older than the entry",
            Miss::OtherExit => "the snapshot is of another exit",
            Miss::Busy => "the slot was being written on each attempt",
        })
    }
}

impl error::Error for Miss {}

/// Read the time stamp counter, for `min_tsc` of [`Reader::read`].
#[inline]
pub fn tsc() -> u64 {
    // SAFETY: every x86-64 CPU has RDTSC.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Make a consistent copy of a slot.
///
/// The page is mapped read-only. Of the atomic loads, Rust guarantees only for relaxed ones
/// that they do not write, so this uses fences where the C reader uses an acquire load.
#[inline]
fn copy(slot: &Slot, min_tsc: u64) -> Result<Snapshot, Miss> {
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

/// Accept only a snapshot of the exit that the caller is handling.
#[inline]
fn of_exit(snapshot: Snapshot, exit_rax: u64) -> Result<Snapshot, Miss> {
    if snapshot.exit_rax == exit_rax {
        Ok(snapshot)
    } else {
        Err(Miss::OtherExit)
    }
}

/// Make one attempt to read DR6 alone: load the members that decide whether the snapshot is
/// accepted, and DR6. `None` if the snapshot is not accepted, for any reason.
#[inline]
fn try_dr6(slot: &Slot, min_tsc: u64, exit_rax: u64) -> Option<u64> {
    // seq only grows, so if this one is odd, the second can't be the even number below it.
    let seq = slot.seq.load(Ordering::Relaxed) & !1;
    // pairs with the kernel's release store of an even seq
    fence(Ordering::Acquire);
    let flags = slot.flags.load(Ordering::Relaxed);
    let rax = slot.exit_rax.load(Ordering::Relaxed);
    let dr6 = slot.dr6.load(Ordering::Relaxed);
    let tsc = slot.tsc.load(Ordering::Relaxed);
    // pairs with the kernel's write barrier after an odd seq
    fence(Ordering::Acquire);
    let unchanged = slot.seq.load(Ordering::Relaxed) == seq;
    (unchanged && flags & VALID != 0 && tsc >= min_tsc && rax == exit_rax).then_some(dr6)
}

/// Read DR6 by a full read, after the attempt of [`try_dr6`] failed.
#[cold]
#[inline(never)]
fn reread_dr6(slot: &Slot, min_tsc: u64, exit_rax: u64) -> Result<u64, Miss> {
    copy(slot, min_tsc)
        .and_then(|snapshot| of_exit(snapshot, exit_rax))
        .map(|snapshot| snapshot.dr6)
}

/// Read DR6 alone, with the result of a full read.
#[inline]
fn copy_dr6(slot: &Slot, min_tsc: u64, exit_rax: u64) -> Result<u64, Miss> {
    match try_dr6(slot, min_tsc, exit_rax) {
        Some(dr6) => Ok(dr6),
        None => reread_dr6(slot, min_tsc, exit_rax),
    }
}

/// Return true if BIND may succeed without [`BIND_EXCLUSIVE`] after this error. EBUSY,
/// EOPNOTSUPP and EINVAL also have other causes, with which the second BIND fails with the
/// same error.
fn not_exclusive(err: &io::Error) -> bool {
    matches!(
        err.raw_os_error(),
        // L1 has a breakpoint; a debugger is connected to kgdb; the kernel does not support
        // the flag; the module predates it.
        Some(ENOSPC | EBUSY | EOPNOTSUPP | EINVAL)
    )
}

/// Translate the flags of [`Reader::open`] to those of BIND, and call `bind` with them.
/// Return true if the vCPU is then exclusive.
fn bind_with(flags: u32, mut bind: impl FnMut(u32) -> io::Result<()>) -> io::Result<bool> {
    if flags & OPEN_TRY_EXCLUSIVE == 0 {
        bind(flags)?;
        return Ok(flags & BIND_EXCLUSIVE != 0);
    }
    let flags = flags & !(OPEN_TRY_EXCLUSIVE | BIND_EXCLUSIVE);
    match bind(flags | BIND_EXCLUSIVE) {
        Ok(()) => Ok(true),
        Err(err) if flags & BIND_OBSERVE == 0 && not_exclusive(&err) => {
            bind(flags)?;
            Ok(false)
        }
        Err(err) => Err(err),
    }
}

/// The mapped page; dropping it unmaps it.
#[derive(Debug)]
struct Mapping {
    addr: *mut c_void,
    length: usize,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the page was mapped with this length, and nothing refers to it any more.
        unsafe { munmap(self.addr, self.length) };
    }
}

/// A bound vCPU; dropping it closes the file.
#[derive(Debug)]
pub struct Reader {
    slot: NonNull<Slot>,
    _page: Mapping,
    file: File,
    exclusive: bool,
}

// SAFETY: the mapping and the file belong to the process, and only atomic loads read the
// slot.
unsafe impl Send for Reader {}
// SAFETY: as above.
unsafe impl Sync for Reader {}

impl Reader {
    /// Open the device, bind to a vCPU and map its slot.
    ///
    /// `exit_reasons` is as in `struct tdx_drcache_bind`, 0 for HW_INTERRUPT alone.
    /// `run_page` is the caller's mapping of that CPU's run page. `flags` is 0,
    /// [`BIND_EXCLUSIVE`] or [`OPEN_TRY_EXCLUSIVE`].
    ///
    /// # Safety
    ///
    /// `run_page` must be null, or the address of a page that the kernel may read at any time
    /// until the reader is dropped, such as the host driver's run page.
    ///
    /// The kernel does not verify that it is a run page. It keeps a reference to the page, and
    /// at exits it reads RAX there and publishes it in the slot, also after the caller has
    /// unmapped the page or put it to another use. With a page of the program's own memory,
    /// that would be a read behind the back of the code that owns the memory, and a data race
    /// with it.
    pub unsafe fn open(
        cpu: u32,
        exit_reasons: u64,
        run_page: *const c_void,
        flags: u32,
    ) -> io::Result<Reader> {
        Reader::bind(cpu, exit_reasons, run_page, flags)
    }

    /// Open the device, bind to a vCPU as an observer and map its slot. Safe, because an
    /// observer has no run page.
    pub fn open_observer(cpu: u32) -> io::Result<Reader> {
        Reader::bind(cpu, 0, ptr::null(), BIND_OBSERVE)
    }

    fn bind(
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
            run_page: run_page.addr() as u64,
            flags: 0,
            reserved: 0,
        };

        // BIND first: once the hook is in place, GET_INFO need not search for one.
        let exclusive = bind_with(flags, |flags| {
            bind.flags = flags;
            call(&file, BIND, &mut bind)
        })?;
        call(&file, GET_INFO, &mut info)?;
        let page = map(&file, info.map_size as usize)?;
        let slot = find_slot(&page)?;
        Ok(Reader {
            slot,
            _page: page,
            file,
            exclusive,
        })
    }

    /// Return true if the vCPU was bound with [`BIND_EXCLUSIVE`].
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    /// Read the L2's registers at the exit that just happened. `min_tsc` is [`tsc`] from
    /// before the entry, `exit_rax` RAX of the exit, from the run page. Makes no system call.
    #[inline]
    pub fn read(&self, min_tsc: u64, exit_rax: u64) -> Result<Snapshot, Miss> {
        self.observe(min_tsc)
            .and_then(|snapshot| of_exit(snapshot, exit_rax))
    }

    /// Read only the L2's DR6 at the exit that just happened: what [`Reader::read`] would
    /// return, and that snapshot's DR6.
    ///
    /// If it has any of B0-B3, call [`Reader::read`] for the address, and for [`L1_HWBP`]. If
    /// it has none, that flag does not matter: either way the guest's debugger has nothing to
    /// report. A hit touches one cache line besides `self`. Makes no system call.
    #[inline]
    pub fn read_dr6(&self, min_tsc: u64, exit_rax: u64) -> Result<u64, Miss> {
        copy_dr6(self.slot(), min_tsc, exit_rax)
    }

    /// Read the last captured exit, whichever it was. For observers, which do not know which
    /// exit the owner is at. Never returns [`Miss::OtherExit`]. Makes no system call.
    #[inline]
    pub fn observe(&self, min_tsc: u64) -> Result<Snapshot, Miss> {
        copy(self.slot(), min_tsc)
    }

    #[inline]
    fn slot(&self) -> &Slot {
        // SAFETY: find_slot() has checked the slot, and the mapping lives as long as self.
        unsafe { self.slot.as_ref() }
    }
}

impl AsFd for Reader {
    /// The file, for TDX_DRCACHE_GET_REGS and TDX_DRCACHE_GET_STATS.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for Reader {
    /// The file, for TDX_DRCACHE_GET_REGS and TDX_DRCACHE_GET_STATS.
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

fn call<T>(file: &File, number: c_ulong, arg: &mut T) -> io::Result<()> {
    // SAFETY: T is the struct of this ioctl number, and its size member is its length.
    if unsafe { ioctl(file.as_raw_fd(), number as IoctlNumber, ptr::from_mut(arg)) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn map(file: &File, length: usize) -> io::Result<Mapping> {
    // SAFETY: the kernel chooses a free address for the new mapping.
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

    if addr.addr() == usize::MAX {
        return Err(io::Error::last_os_error());
    }
    Ok(Mapping { addr, length })
}

fn find_slot(page: &Mapping) -> io::Result<NonNull<Slot>> {
    let unknown = || io::Error::from_raw_os_error(EPROTO);

    if page.length < size_of::<Header>() + size_of::<Slot>() {
        return Err(unknown());
    }
    // SAFETY: the page is long enough and aligned, and the header no longer changes.
    let header = unsafe { &*page.addr.cast_const().cast::<Header>() };
    let offset = header.slot_offset as usize;
    if header.magic != MAGIC
        || (header.slot_size as usize) < size_of::<Slot>()
        || offset % size_of::<Slot>() != 0
        || offset > page.length - size_of::<Slot>()
    {
        return Err(unknown());
    }
    // SAFETY: the slot lies within the page.
    NonNull::new(unsafe { page.addr.byte_add(offset) }.cast::<Slot>()).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::mem::offset_of;
    use std::rc::Rc;
    use std::sync::atomic;
    use std::thread;
    use std::time::Duration;

    // The loads of an undisturbed read, and the stores of a publish.
    const LOADS: u32 = 10;
    const STORES: u32 = 10;
    // The loads of a read of DR6 alone. If it fails, a full read follows.
    const DR6_LOADS: u32 = 6;

    /// Stop a reader that does not give up by itself after this many loads.
    const TOO_MANY: u32 = 2 * LOADS * READ_RETRIES;

    /// The number of publishes, each of which a concurrent read meets.
    const PUBLISHES: u64 = 1000;

    type Hook = Box<dyn FnMut(u32)>;

    thread_local! {
        /// The number of slot loads so far.
        static LOADED: Cell<u32> = const { Cell::new(0) };
        /// Called before each load with the number of loads so far.
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    fn loaded() -> u32 {
        LOADED.with(Cell::get)
    }

    fn before_load() {
        let nr = loaded();

        HOOK.with(|hook| {
            if let Some(hook) = hook.borrow_mut().as_mut() {
                hook(nr);
            }
        });
        LOADED.with(|n| n.set(nr + 1));
    }

    /// std's atomic types with a hook before each load; the reader under test uses these.
    #[repr(transparent)]
    pub struct AtomicU32(atomic::AtomicU32);
    #[repr(transparent)]
    pub struct AtomicU64(atomic::AtomicU64);

    impl AtomicU32 {
        pub fn load(&self, order: Ordering) -> u32 {
            before_load();
            self.0.load(order)
        }
    }

    impl AtomicU64 {
        pub fn load(&self, order: Ordering) -> u64 {
            before_load();
            self.0.load(order)
        }
    }

    /// As the kernel makes a page.
    const fn empty() -> Slot {
        Slot {
            seq: AtomicU32(atomic::AtomicU32::new(0)),
            flags: AtomicU32(atomic::AtomicU32::new(0)),
            exit_rax: AtomicU64(atomic::AtomicU64::new(0)),
            db: [const { AtomicU64(atomic::AtomicU64::new(0)) }; 4],
            dr6: AtomicU64(atomic::AtomicU64::new(0)),
            tsc: AtomicU64(atomic::AtomicU64::new(0)),
        }
    }

    /// Make a snapshot in which `n` determines each member.
    fn snapshot(n: u64) -> Snapshot {
        Snapshot {
            flags: VALID | EMULATED | 2 << 8 | if n % 2 == 1 { L1_HWBP } else { 0 },
            exit_rax: n + 1,
            db: [n + 2, n + 3, n + 4, n + 5],
            dr6: n + 6,
            tsc: n,
        }
    }

    fn is_whole(s: Snapshot) -> bool {
        s == snapshot(s.tsc)
    }

    /// Do the `nr`-th store of the kernel's `drcache_slot_publish()`.
    fn store(slot: &Slot, n: u64, nr: u32) {
        let s = snapshot(n);
        let seq = slot.seq.0.load(Ordering::Relaxed).wrapping_add(1);

        match nr {
            0 => {
                slot.seq.0.store(seq, Ordering::Relaxed);
                fence(Ordering::Release);
            }
            1 => slot.flags.0.store(s.flags, Ordering::Relaxed),
            2 => slot.exit_rax.0.store(s.exit_rax, Ordering::Relaxed),
            3..=6 => {
                let i = nr as usize - 3;
                slot.db[i].0.store(s.db[i], Ordering::Relaxed);
            }
            7 => slot.dr6.0.store(s.dr6, Ordering::Relaxed),
            8 => slot.tsc.0.store(s.tsc, Ordering::Relaxed),
            _ => slot.seq.0.store(seq, Ordering::Release),
        }
    }

    fn publish(slot: &Slot, n: u64) {
        for nr in 0..STORES {
            store(slot, n, nr);
        }
    }

    fn published(n: u64) -> Slot {
        let slot = empty();

        publish(&slot, n);
        slot
    }

    fn read(slot: &Slot, min_tsc: u64, exit_rax: u64) -> Result<Snapshot, Miss> {
        copy(slot, min_tsc).and_then(|s| of_exit(s, exit_rax))
    }

    /// Call `read` with `hook` before each load.
    fn hooked<T>(
        slot: &Rc<Slot>,
        mut hook: impl FnMut(&Slot, u32) + 'static,
        read: impl FnOnce(&Slot) -> T,
    ) -> T {
        let hooked = Rc::clone(slot);

        LOADED.with(|n| n.set(0));
        HOOK.with(|h| *h.borrow_mut() = Some(Box::new(move |nr| hook(&hooked, nr))));
        let result = read(slot);
        HOOK.with(|h| *h.borrow_mut() = None);
        result
    }

    /// Copy the slot, calling `hook` before each load.
    fn hooked_copy(
        slot: &Rc<Slot>,
        hook: impl FnMut(&Slot, u32) + 'static,
    ) -> Result<Snapshot, Miss> {
        hooked(slot, hook, |slot| copy(slot, 0))
    }

    /// Read DR6 alone, calling `hook` before each load.
    fn hooked_dr6(
        slot: &Rc<Slot>,
        min_tsc: u64,
        exit_rax: u64,
        hook: impl FnMut(&Slot, u32) + 'static,
    ) -> Result<u64, Miss> {
        hooked(slot, hook, |slot| copy_dr6(slot, min_tsc, exit_rax))
    }

    #[test]
    fn layout() {
        assert_eq!(offset_of!(Slot, seq), 0);
        assert_eq!(offset_of!(Slot, flags), 4);
        assert_eq!(offset_of!(Slot, exit_rax), 8);
        assert_eq!(offset_of!(Slot, db), 16);
        assert_eq!(offset_of!(Slot, dr6), 48);
        assert_eq!(offset_of!(Slot, tsc), 56);
    }

    #[test]
    fn hit() {
        let got = read(&published(1000), 1000, 1001).unwrap();

        assert_eq!(got, snapshot(1000));
        assert_eq!(got.vm(), 2);
    }

    #[test]
    fn nothing_published_is_invalid() {
        assert_eq!(read(&empty(), 0, 0), Err(Miss::Invalid));
        let slot = published(1000);
        slot.flags.0.store(LATE, Ordering::Relaxed);
        assert_eq!(read(&slot, 0, 1001), Err(Miss::Invalid));
    }

    #[test]
    fn older_is_stale() {
        assert_eq!(read(&published(1000), 1001, 1001), Err(Miss::Stale));
    }

    #[test]
    fn of_another_exit() {
        assert_eq!(read(&published(1000), 1000, 1002), Err(Miss::OtherExit));
        // An observer does not compare.
        assert!(copy(&published(1000), 1000).is_ok());
    }

    /// Check that each member is loaded once and seq twice, so that no load escapes the hook.
    #[test]
    fn undisturbed() {
        let slot = Rc::new(published(1000));

        assert_eq!(hooked_copy(&slot, |_, _| ()), Ok(snapshot(1000)));
        assert_eq!(loaded(), LOADS);
    }

    #[test]
    fn odd_seq_is_busy() {
        let slot = Rc::new(published(1000));

        slot.seq.0.store(5, Ordering::Relaxed);
        let result = hooked_copy(&slot, |slot, nr| {
            if nr == TOO_MANY {
                slot.seq.0.store(6, Ordering::Relaxed);
            }
        });
        assert_eq!(result, Err(Miss::Busy));
        assert_eq!(loaded(), READ_RETRIES);
    }

    /// Advance to the next order of `loads` loads and the stores; return false after the last.
    fn next_order(before: &mut [u32; STORES as usize], loads: u32) -> bool {
        match before.iter().rposition(|&load| load != loads) {
            Some(last) => {
                let load = before[last] + 1;
                before[last..].fill(load);
                true
            }
            None => false,
        }
    }

    /// Run a publish and a read in every order of their stores and loads.
    #[test]
    fn no_order_of_stores_and_loads_tears() {
        // Store n is done before load before[n].
        let mut before = [0; STORES as usize];
        let mut orders = 0;

        loop {
            let slot = Rc::new(published(1000));
            let mut done = 0;
            let result = hooked_copy(&slot, move |slot, nr| {
                while done < STORES && before[done as usize] <= nr {
                    store(slot, 2001, done);
                    done += 1;
                }
            });
            let got = result.unwrap();

            assert!(is_whole(got), "{got:?} of {before:?}");
            // A publish before the read gives the new snapshot, one after it the old.
            if before[STORES as usize - 1] == 0 {
                assert_eq!(got.tsc, 2001);
            } else if before[0] == LOADS {
                assert_eq!(got.tsc, 1000);
            }
            orders += 1;
            if !next_order(&mut before, LOADS) {
                break;
            }
        }
        assert_eq!(orders, 184_756); // 20 over 10
    }

    /// Check every kind of miss, and that DR6 comes with no other value.
    #[test]
    fn dr6_alone() {
        let slot = published(1000);

        assert_eq!(copy_dr6(&slot, 1000, 1001), Ok(1006));
        assert_eq!(copy_dr6(&slot, 1001, 1001), Err(Miss::Stale));
        assert_eq!(copy_dr6(&slot, 1000, 1002), Err(Miss::OtherExit));
        slot.flags.0.store(LATE, Ordering::Relaxed);
        assert_eq!(copy_dr6(&slot, 0, 1001), Err(Miss::Invalid));
        assert_eq!(copy_dr6(&empty(), 0, 0), Err(Miss::Invalid));
    }

    /// Run a publish and a read of DR6 in every order of their stores and loads. DR6 alone does
    /// not show that a snapshot is torn, so the read accepts only one of the two: by its time
    /// stamp, its RAX or VALID. It must have that one's DR6, or be a miss.
    #[test]
    fn no_order_of_stores_and_loads_mixes_dr6() {
        // The slot's first snapshot is valid; min_tsc; exit_rax; DR6; any other result.
        let cases = [
            (true, 2001, 2002, 2007, Miss::Stale),
            (true, 0, 2002, 2007, Miss::OtherExit),
            (true, 0, 1001, 1006, Miss::OtherExit),
            (false, 0, 2002, 2007, Miss::Invalid),
        ];
        let mut before = [0; STORES as usize];
        let mut orders = 0;

        loop {
            for (valid, min_tsc, exit_rax, dr6, miss) in cases {
                let slot = Rc::new(published(1000));
                if !valid {
                    slot.flags.0.store(0, Ordering::Relaxed);
                }
                let mut done = 0;
                let result = hooked_dr6(&slot, min_tsc, exit_rax, move |slot, nr| {
                    while done < STORES && before[done as usize] <= nr {
                        store(slot, 2001, done);
                        done += 1;
                    }
                });

                assert!(
                    [Ok(dr6), Err(miss)].contains(&result),
                    "{result:?} of {before:?}"
                );
                // A publish before the read, or after it.
                if before[STORES as usize - 1] == 0 {
                    assert_eq!(result.is_ok(), dr6 == 2007, "{before:?}");
                } else if before[0] == DR6_LOADS {
                    assert!(result.is_ok() || dr6 == 2007, "{before:?}");
                }
            }
            orders += 1;
            if !next_order(&mut before, DR6_LOADS) {
                break;
            }
        }
        assert_eq!(orders, 8008); // 16 over 6
    }

    /// Check that a read of DR6 that meets a publish ends as a full read does.
    #[test]
    fn dr6_alone_is_retried() {
        let slot = Rc::new(published(1000));

        assert_eq!(hooked_dr6(&slot, 0, 1001, |_, _| ()), Ok(1006));
        assert_eq!(loaded(), DR6_LOADS);
        for at in 0..DR6_LOADS {
            let result = hooked_dr6(&slot, 0, 2001, move |slot, nr| {
                if nr == at {
                    publish(slot, 2000);
                }
            });
            assert_eq!(result, Ok(2006));
            assert_eq!(loaded(), DR6_LOADS + if at == 0 { 0 } else { LOADS });
            publish(&slot, 2000);
        }
        let result = hooked_dr6(&slot, 0, 2001, |slot, nr| {
            if nr < TOO_MANY {
                publish(slot, 2000);
            }
        });
        assert_eq!(result, Err(Miss::Busy));
        assert_eq!(loaded(), DR6_LOADS + READ_RETRIES * LOADS);
        slot.seq.0.store(5, Ordering::Relaxed);
        let result = hooked_dr6(&slot, 0, 2001, |slot, nr| {
            if nr == TOO_MANY {
                slot.seq.0.store(6, Ordering::Relaxed);
            }
        });
        assert_eq!(result, Err(Miss::Busy));
        assert_eq!(loaded(), DR6_LOADS + READ_RETRIES);
    }

    /// Invalidate before each load of a read of DR6: a miss until flags is loaded.
    #[test]
    fn dr6_alone_invalidated() {
        for at in 0..DR6_LOADS {
            let slot = Rc::new(published(1000));
            let result = hooked_dr6(&slot, 0, 1001, move |slot, nr| {
                if nr == at {
                    slot.flags.0.store(0, Ordering::Relaxed);
                }
            });

            assert_eq!(result, if at < 2 { Err(Miss::Invalid) } else { Ok(1006) });
        }
    }

    #[test]
    fn miss_is_an_error() {
        let all = [Miss::Invalid, Miss::Stale, Miss::OtherExit, Miss::Busy];
        let texts = all.map(|miss| Box::<dyn error::Error + Send + Sync>::from(miss).to_string());

        for (i, text) in texts.iter().enumerate() {
            assert!(!text.is_empty() && !texts[..i].contains(text), "{text}");
        }
    }

    /// Publish before load `at` of each of the first `tries` attempts.
    fn publish_again(slot: &Rc<Slot>, at: u32, tries: u32) -> Result<Snapshot, Miss> {
        hooked_copy(slot, move |slot, nr| {
            if nr % LOADS == at && nr / LOADS < tries {
                publish(slot, u64::from(nr / LOADS + 1));
            }
        })
    }

    /// Check that the reader gives up after READ_RETRIES attempts, and not earlier.
    #[test]
    fn changed_seq_is_retried() {
        let slot = Rc::new(published(1000));

        // A publish before the first load causes no retry.
        for at in 1..LOADS {
            for tries in 1..READ_RETRIES {
                assert_eq!(publish_again(&slot, at, tries), Ok(snapshot(tries.into())));
                assert_eq!(loaded(), (tries + 1) * LOADS);
            }
            assert_eq!(publish_again(&slot, at, TOO_MANY / LOADS), Err(Miss::Busy));
            assert_eq!(loaded(), READ_RETRIES * LOADS);
        }
    }

    #[test]
    fn changed_at_each_load_is_busy() {
        let slot = Rc::new(published(1000));
        let result = hooked_copy(&slot, |slot, nr| {
            if nr < TOO_MANY {
                publish(slot, nr.into());
            }
        });

        assert_eq!(result, Err(Miss::Busy));
        assert_eq!(loaded(), READ_RETRIES * LOADS);
    }

    /// Invalidate before each load: a miss until flags is loaded, then the whole snapshot.
    #[test]
    fn invalidated_at_each_load() {
        for at in 0..LOADS {
            let slot = Rc::new(published(1000));
            let result = hooked_copy(&slot, move |slot, nr| {
                if nr == at {
                    slot.flags.0.store(0, Ordering::Relaxed);
                }
            });
            let want = if at < 2 {
                Err(Miss::Invalid)
            } else {
                Ok(snapshot(1000))
            };

            assert_eq!(result, want);
            assert_eq!(loaded(), LOADS);
        }
    }

    /// The reader's load count, visible to the concurrent writer.
    static READ: atomic::AtomicU32 = atomic::AtomicU32::new(0);

    /// Let the other thread run. On a busy core yield_now() would let every thread run first.
    fn rest() {
        thread::sleep(Duration::from_micros(1));
    }

    /// Wait until the reader has done at least `n` more loads.
    fn wait_for_loads(n: u32) {
        // The reader's next loads see all earlier stores.
        fence(Ordering::SeqCst);
        let from = READ.load(Ordering::Acquire);
        while READ.load(Ordering::Acquire).wrapping_sub(from) <= n {
            rest();
        }
    }

    /// Pause each publish before one of its stores until the reader has loaded, so that a
    /// read meets every publish regardless of the machine's load.
    #[test]
    fn no_torn_snapshot_beside_a_writer() {
        static SLOT: Slot = empty();
        static STOP: atomic::AtomicBool = atomic::AtomicBool::new(false);
        let writer = thread::spawn(|| {
            for n in 1..=PUBLISHES {
                // Let the read that met the last publish end, and another begin.
                wait_for_loads(2 * LOADS + n as u32 % LOADS);
                for nr in 0..STORES {
                    if nr == 1 + n as u32 % (STORES - 1) {
                        wait_for_loads(1);
                    }
                    store(&SLOT, n, nr);
                }
            }
            STOP.store(true, Ordering::Relaxed);
        });
        let (mut hits, mut met, mut last) = (0, 0, 0);
        let (mut torn, mut wrong) = (None, None);

        // The writer waits for loads until it ends, so nothing may panic before that.
        HOOK.with(|hook| {
            *hook.borrow_mut() = Some(Box::new(|_| {
                READ.fetch_add(1, Ordering::Release);
            }))
        });
        while !STOP.load(Ordering::Relaxed) {
            let from = loaded();
            let result = copy(&SLOT, last);

            met += u64::from(loaded() - from != LOADS);
            match result {
                Ok(s) => {
                    hits += 1;
                    if !is_whole(s) {
                        torn = Some(s);
                    }
                    if s.tsc == last {
                        rest();
                    }
                    last = s.tsc;
                }
                Err(Miss::Busy) => rest(),
                Err(Miss::Invalid) if hits == 0 => rest(),
                Err(_) => wrong = Some(result),
            }
        }
        writer.join().unwrap();
        println!("{PUBLISHES} publishes, {hits} hits, {met} reads met a publish");
        assert_eq!(torn, None);
        assert_eq!(wrong, None);
        assert!(met >= PUBLISHES, "{met} reads met a publish");
    }

    /// Bind with `flags`. A BIND with BIND_EXCLUSIVE fails with `exclusive_error`; any other,
    /// or if that is 0, with `error`, or succeeds if that is 0. Return the result and the
    /// flags of each BIND.
    fn bound(flags: u32, error: i32, exclusive_error: i32) -> (Result<bool, i32>, Vec<u32>) {
        let mut tried = Vec::new();
        let result = bind_with(flags, |flags| {
            tried.push(flags);
            let errno = match flags & (BIND_OBSERVE | BIND_EXCLUSIVE) {
                BIND_EXCLUSIVE if exclusive_error != 0 => exclusive_error,
                0 | BIND_OBSERVE | BIND_EXCLUSIVE => error,
                _ => EINVAL,
            };
            match errno {
                0 => Ok(()),
                errno => Err(io::Error::from_raw_os_error(errno)),
            }
        });

        (result.map_err(|err| err.raw_os_error().unwrap()), tried)
    }

    #[test]
    fn flags_of_open() {
        assert_eq!(bound(0, 0, 0), (Ok(false), vec![0]));
        assert_eq!(bound(BIND_OBSERVE, 0, 0), (Ok(false), vec![BIND_OBSERVE]));
        for flags in [BIND_EXCLUSIVE, OPEN_TRY_EXCLUSIVE] {
            assert_eq!(bound(flags, 0, 0), (Ok(true), vec![BIND_EXCLUSIVE]));
        }
        // An observer cannot be exclusive, and the library does not fall back for it.
        assert_eq!(
            bound(OPEN_TRY_EXCLUSIVE | BIND_OBSERVE, 0, 0),
            (Err(EINVAL), vec![BIND_EXCLUSIVE | BIND_OBSERVE])
        );
    }

    #[test]
    fn where_exclusive_cannot_be_had() {
        const ENXIO: i32 = 6;
        const ENOMEM: i32 = 12;
        let once = vec![BIND_EXCLUSIVE];
        let twice = vec![BIND_EXCLUSIVE, 0];

        for errno in [ENOSPC, EBUSY, EOPNOTSUPP, EINVAL] {
            assert_eq!(bound(BIND_EXCLUSIVE, 0, errno), (Err(errno), once.clone()));
            for flags in [OPEN_TRY_EXCLUSIVE, OPEN_TRY_EXCLUSIVE | BIND_EXCLUSIVE] {
                assert_eq!(bound(flags, 0, errno), (Ok(false), twice.clone()));
                // The cause was a different one, which the second BIND reports.
                assert_eq!(bound(flags, errno, 0), (Err(errno), twice.clone()));
                assert_eq!(bound(flags, ENXIO, errno), (Err(ENXIO), twice.clone()));
            }
        }
        for errno in [ENXIO, ENOMEM] {
            assert_eq!(
                bound(OPEN_TRY_EXCLUSIVE, 0, errno),
                (Err(errno), once.clone())
            );
        }
    }

    #[test]
    fn a_page_that_is_not_known_is_refused() {
        #[repr(C, align(4096))]
        struct Page([u32; 1024]);
        let mut page = Page([0; 1024]);
        let mut slot_at = |magic: u32, slot_size: u32, offset: u32| {
            page.0[..3].copy_from_slice(&[magic, slot_size << 16 | 24, offset]);
            // Never drop it: it is not a real mapping.
            let mapping = std::mem::ManuallyDrop::new(Mapping {
                addr: page.0.as_mut_ptr().cast(),
                length: 4096,
            });
            find_slot(&mapping).map(|slot| slot.as_ptr().addr() - mapping.addr.addr())
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
