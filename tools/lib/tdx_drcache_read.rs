// SPDX-License-Identifier: MIT
//! Read an L2's debug registers from tdx_drcache: the reader's contract of
//! `<linux/tdx_drcache.h>` in Rust, of std alone. The same in C is
//! `tdx_drcache_read.h`. To be taken in as a module:
//!
//! ```ignore
//! let reader = Reader::open(cpu, 0, run_page, OPEN_TRY_EXCLUSIVE)?;
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
use std::sync::atomic::{fence, Ordering};
#[cfg(not(test))]
use std::sync::atomic::{AtomicU32, AtomicU64};
#[cfg(test)]
use tests::{AtomicU32, AtomicU64};

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
/// Flag of [`Reader::open`]: keep DR0-DR3 of the CPU from L1 while the vCPU has this owner,
/// or fail; with ENOSPC while L1 has a breakpoint that may run on the CPU. See
/// `TDX_DRCACHE_BIND_EXCLUSIVE` in `<linux/tdx_drcache.h>` for what it takes from L1.
pub const BIND_EXCLUSIVE: u32 = 1 << 1;
/// Flag of [`Reader::open`], and never passed to the kernel: bind with [`BIND_EXCLUSIVE`],
/// or without where that cannot be had. [`Reader::is_exclusive`] tells.
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

/// The registers at an exit, as in `struct tdx_drcache_slot`: those that the L2 ran with. See
/// [`L1_HWBP`] before taking one for the guest's. They are the guest's to choose: data, never
/// an index, an address to follow or a length.
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

/// A consistent copy of a slot.
///
/// The page is mapped read-only, where Rust promises no more than that a relaxed load
/// writes nothing: hence fences, where C has an acquire load.
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

/// What [`Reader::read`] accepts of a copy: the exit that the caller is at.
#[inline]
fn of_exit(snapshot: Snapshot, exit_rax: u64) -> Result<Snapshot, Miss> {
    if snapshot.exit_rax == exit_rax {
        Ok(snapshot)
    } else {
        Err(Miss::OtherExit)
    }
}

/// Is BIND with [`BIND_EXCLUSIVE`] worth another try without, after this error? EBUSY,
/// EOPNOTSUPP and EINVAL have other causes as well: then that fails alike.
fn not_exclusive(err: &io::Error) -> bool {
    matches!(
        err.raw_os_error(),
        // L1 has a breakpoint; a debugger is connected to kgdb; the kernel cannot; an older
        // module does not know the flag.
        Some(ENOSPC | EBUSY | EOPNOTSUPP | EINVAL)
    )
}

/// Call `bind` with the flags for BIND, which are made of those of [`Reader::open`]. Is the
/// vCPU exclusive then?
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
    exclusive: bool,
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
    /// `flags` is 0, [`BIND_OBSERVE`], [`BIND_EXCLUSIVE`] or [`OPEN_TRY_EXCLUSIVE`].
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
            flags: 0,
            reserved: 0,
        };

        // In this order: with the hook in place GET_INFO need not look for one.
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

    /// Was it bound with [`BIND_EXCLUSIVE`]?
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
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
        copy(unsafe { self.slot.as_ref() }, min_tsc)
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
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;
    use std::sync::atomic;
    use std::thread;
    use std::time::Duration;

    // Of a read that meets no publish, and of a publish.
    const LOADS: u32 = 10;
    const STORES: u32 = 10;

    /// A reader that does not give up by itself is stopped after so many loads.
    const TOO_MANY: u32 = 2 * LOADS * READ_RETRIES;

    /// Publishes beside a reader, each of which a read meets.
    const PUBLISHES: u64 = 1000;

    type Hook = Box<dyn FnMut(u32)>;

    thread_local! {
        /// Loads of a slot so far.
        static LOADED: Cell<u32> = const { Cell::new(0) };
        /// It runs before each load, and gets the number of those before.
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

    /// What the reader is compiled with here: std's, with a hook before each load.
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
        const ZERO: AtomicU64 = AtomicU64(atomic::AtomicU64::new(0));

        Slot {
            seq: AtomicU32(atomic::AtomicU32::new(0)),
            flags: AtomicU32(atomic::AtomicU32::new(0)),
            exit_rax: ZERO,
            db: [ZERO; 4],
            dr6: ZERO,
            tsc: ZERO,
        }
    }

    /// A snapshot of which each member is told by `n`.
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

    /// The `nr`-th store of the kernel's `drcache_slot_publish()`.
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

    /// Read with `hook` before each load.
    fn hooked_copy(
        slot: &Rc<Slot>,
        mut hook: impl FnMut(&Slot, u32) + 'static,
    ) -> Result<Snapshot, Miss> {
        let hooked = Rc::clone(slot);

        LOADED.with(|n| n.set(0));
        HOOK.with(|h| *h.borrow_mut() = Some(Box::new(move |nr| hook(&hooked, nr))));
        let result = copy(slot, 0);
        HOOK.with(|h| *h.borrow_mut() = None);
        result
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

    /// Each member is loaded once, and seq twice: nothing escapes the hook.
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

    /// On to the next order of loads and stores; false after the last.
    fn next_order(before: &mut [u32; STORES as usize]) -> bool {
        match before.iter().rposition(|&load| load != LOADS) {
            Some(last) => {
                let load = before[last] + 1;
                before[last..].fill(load);
                true
            }
            None => false,
        }
    }

    /// A publish and a read, in each order that their stores and loads can have.
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
            // Before the read is new, after it is old.
            if before[STORES as usize - 1] == 0 {
                assert_eq!(got.tsc, 2001);
            } else if before[0] == LOADS {
                assert_eq!(got.tsc, 1000);
            }
            orders += 1;
            if !next_order(&mut before) {
                break;
            }
        }
        assert_eq!(orders, 184_756); // 20 over 10
    }

    /// Publish before load `at` of each of the first `tries` tries.
    fn publish_again(slot: &Rc<Slot>, at: u32, tries: u32) -> Result<Snapshot, Miss> {
        hooked_copy(slot, move |slot, nr| {
            if nr % LOADS == at && nr / LOADS < tries {
                publish(slot, u64::from(nr / LOADS + 1));
            }
        })
    }

    /// Retries end, and not too early.
    #[test]
    fn changed_seq_is_retried() {
        let slot = Rc::new(published(1000));

        // Before the first load there is nothing to retry for.
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

    /// Before flags is loaded there is no snapshot, from then on it is the whole one.
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

    /// The loads of the reader beside a writer, for the writer to see.
    static READ: atomic::AtomicU32 = atomic::AtomicU32::new(0);

    /// Let the other thread run. On a busy core yield_now() would wait for a turn of all.
    fn rest() {
        thread::sleep(Duration::from_micros(1));
    }

    /// Wait until the reader has done `n` more loads, or a few more.
    fn wait_for_loads(n: u32) {
        // The reader's next loads see what was stored before.
        fence(Ordering::SeqCst);
        let from = READ.load(Ordering::Acquire);
        while READ.load(Ordering::Acquire).wrapping_sub(from) <= n {
            rest();
        }
    }

    /// Each publish stops before one of its stores until there was a load, so a read meets
    /// it, whatever the load.
    #[test]
    fn no_torn_snapshot_beside_a_writer() {
        static SLOT: Slot = empty();
        static STOP: atomic::AtomicBool = atomic::AtomicBool::new(false);
        let writer = thread::spawn(|| {
            for n in 1..=PUBLISHES {
                // The read that met the last publish ends, and another begins.
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

        // The writer waits for loads to the end: nothing may panic before that.
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

    /// Bind with `flags` where BIND fails with `error`, with BIND_EXCLUSIVE with
    /// `exclusive_error`, unless these are 0. What comes of it, and the flags of each BIND.
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
        // An observer has none, and is not let in as if it had.
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
                // It was something else, which the second tells.
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
