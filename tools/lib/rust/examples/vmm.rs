// SPDX-License-Identifier: MIT
//! vmm CPU EXITS: run an L2 on mshv_vtl's ABI and read its debug registers at its
//! HW_INTERRUPT exits as a VMM with a debugger would: DR6 alone, and the rest only if DR6
//! reports a breakpoint. After EXITS exits it prints the counts.
//!
//! The L2 counts in EBX and DR0 to DR3. A part of the time it also sets B0 in DR6, so that
//! both ways of reading are taken. RBX in the run page tells what each register must hold.
//!
//! It runs on the stand-in for OpenHCL's host driver, mshv_vtl_emul, because one ioctl is the
//! stand-in's: the one that gives the L2 its memory. Needs root, and tdx_drcache.
#![expect(
    unsafe_code,
    reason = "maps pages that the kernel and the L2 write, and calls ioctl() and mmap()"
)]

use std::error::Error;
use std::ffi::{c_int, c_long, c_ulong, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr;
use std::slice;
use tdx_drcache::{OPEN_TRY_EXCLUSIVE, Reader, Snapshot, tsc};

// The host driver's ABI; include/mshv/mshv_vtl.h has the sources.
const MSHV_CREATE_VTL: c_ulong = 0x8001_b81d;
const MSHV_GET_VP_REGISTERS: c_ulong = 0xc010_b805;
const MSHV_VTL_RETURN_TO_LOWER_VTL: c_ulong = 0xb827;
const DR0: u32 = 0x0005_0000;
const DR6: u32 = 0x0005_0004;
// Members of the run page.
const ENTER_MODE: usize = 15;
const EXIT_RAX: usize = 272;
const ENTRY_RCX: usize = 504;
const RBX: usize = 536;
const RFLAGS: usize = 640;
const RIP: usize = 648;
const DEADLINE_UPDATE: usize = 680;
const FCW: usize = 768;
const MXCSR: usize = 792;
const CONTEXT_END: usize = 1296;
// Fast, and IdleToVtl0 in the upper nibble, as OpenVMM does.
const ENTER_MODES: u8 = 0x20;
// The first of the L2 VMs.
const VM_1: u64 = 1 << 52;
const HW_INTERRUPT: u64 = 1;

// Of the stand-in alone.
const MSHV_VTL_EMUL_SET_MEMORY: c_ulong = 0x4010_b8f0;
const MEMORY: usize = 0x10000;
const IMAGE: usize = 0x1000;

const PROT_READ_WRITE: c_int = 3;
const MAP_SHARED: c_int = 1;
const MAP_PRIVATE_ANONYMOUS: c_int = 0x22;
const EINTR: i32 = 4;

// SAFETY: declared as in libc.
unsafe extern "C" {
    fn ioctl(fd: c_int, number: c_ulong, ...) -> c_int;
    fn mmap(
        addr: *mut c_void,
        length: usize,
        prot: c_int,
        flags: c_int,
        fd: c_int,
        offset: c_long,
    ) -> *mut c_void;
    fn sched_setaffinity(pid: c_int, size: usize, mask: *const u64) -> c_int;
}

// The L2's program, entered in real mode. B0 of DR6 is bit 8 of the count.
std::arch::global_asm!(
    ".pushsection .rodata",
    ".code16",
    "l2_start:",
    "1: incl %ebx",
    "movl %ebx, %eax",
    "movl %eax, %dr0",
    "movl %eax, %dr1",
    "movl %eax, %dr2",
    "movl %eax, %dr3",
    "shrl $8, %eax",
    "andl $1, %eax",
    "orl $0xffff0ff0, %eax",
    "movl %eax, %dr6",
    "jmp 1b",
    "l2_end:",
    ".code64",
    ".popsection",
    options(att_syntax)
);

// SAFETY: labels of the code above.
unsafe extern "C" {
    static l2_start: u8;
    static l2_end: u8;
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Map `length` bytes that nothing else in the program refers to. They stay mapped.
fn map(file: Option<&File>, length: usize, offset: usize) -> io::Result<*mut u8> {
    let (fd, flags) = match file {
        Some(file) => (file.as_raw_fd(), MAP_SHARED),
        None => (-1, MAP_PRIVATE_ANONYMOUS),
    };
    // SAFETY: the kernel chooses a free address for the new mapping.
    let addr = unsafe {
        mmap(
            ptr::null_mut(),
            length,
            PROT_READ_WRITE,
            flags,
            fd,
            offset as c_long,
        )
    };

    if addr.addr() == usize::MAX {
        return Err(io::Error::last_os_error());
    }
    Ok(addr.cast())
}

/// Stay on the CPU: the host driver enters the L2 of the CPU that the caller runs on.
fn pin(cpu: u32) -> io::Result<()> {
    let mut mask = [0u64; 16];

    mask[cpu as usize / 64 % 16] = 1 << (cpu % 64);
    // SAFETY: the mask has the size that is passed.
    check(unsafe { sched_setaffinity(0, size_of_val(&mask), mask.as_ptr()) })?;
    Ok(())
}

/// A vCPU of a VTL: its run page, and the file for its ioctls.
struct Vcpu {
    vtl: File,
    run: *mut u8,
}

impl Vcpu {
    /// Create a VTL with an L2 in its memory, and prepare the run page of `cpu`.
    fn new(cpu: u32) -> io::Result<Vcpu> {
        let mshv = File::options().read(true).write(true).open("/dev/mshv")?;
        // SAFETY: the ioctl takes no argument, and returns a new file descriptor.
        let vtl = unsafe { File::from_raw_fd(check(ioctl(mshv.as_raw_fd(), MSHV_CREATE_VTL, 0))?) };
        let memory = map(None, MEMORY, 0)?;
        let arg = [memory.addr() as u64, MEMORY as u64];

        // SAFETY: the labels enclose the program. The memory is new, so nothing overlaps.
        unsafe {
            let length = (&raw const l2_end).addr() - (&raw const l2_start).addr();
            let image = slice::from_raw_parts(&raw const l2_start, length);
            ptr::copy_nonoverlapping(image.as_ptr(), memory.add(IMAGE), length);
        }
        // SAFETY: struct mshv_vtl_emul_memory is an address and a length. No reference to the
        // memory exists, which the L2 writes from now on.
        check(unsafe { ioctl(vtl.as_raw_fd(), MSHV_VTL_EMUL_SET_MEMORY, &raw const arg) })?;

        let run = map(Some(&vtl), 4096, cpu as usize * 4096)?;
        let vcpu = Vcpu { vtl, run };
        // The page may still hold what another VMM wrote.
        for offset in 0..CONTEXT_END {
            vcpu.set(offset, 0u8);
        }
        vcpu.set(DEADLINE_UPDATE, 1u8);
        vcpu.set(ENTRY_RCX, VM_1);
        vcpu.set(RIP, IMAGE as u64);
        vcpu.set(RFLAGS, 2u64);
        vcpu.set(FCW, 0x37fu16);
        vcpu.set(MXCSR, 0x1f80u32);
        Ok(vcpu)
    }

    /// Write a member of the run page.
    fn set<T>(&self, offset: usize, value: T) {
        // SAFETY: all offsets above are aligned and within the page, which stays mapped. The
        // kernel reads and writes it only during the ioctl that enters the L2.
        unsafe { self.run.add(offset).cast::<T>().write_volatile(value) }
    }

    /// Read a 64-bit member of the run page.
    fn get(&self, offset: usize) -> u64 {
        // SAFETY: as in set().
        unsafe { self.run.add(offset).cast::<u64>().read_volatile() }
    }

    /// Enter the L2 until an exit that is not interrupted by a signal. Returns RAX.
    fn enter(&self) -> io::Result<u64> {
        loop {
            self.set(ENTER_MODE, ENTER_MODES);
            // SAFETY: the ioctl takes no argument. It reads and writes the run page.
            match check(unsafe { ioctl(self.vtl.as_raw_fd(), MSHV_VTL_RETURN_TO_LOWER_VTL, 0) }) {
                Ok(_) => return Ok(self.get(EXIT_RAX)),
                Err(err) if err.raw_os_error() == Some(EINTR) => (),
                Err(err) => return Err(err),
            }
        }
    }

    /// Read a register by the host driver's ioctl.
    fn register(&self, name: u32) -> io::Result<u64> {
        // struct hv_register_assoc and struct mshv_vp_registers
        let mut assoc = [u64::from(name), 0, 0, 0];
        let arg = [1, (&raw mut assoc).addr() as u64];

        // SAFETY: the struct has a count of 1 and the address of one register.
        check(unsafe { ioctl(self.vtl.as_raw_fd(), MSHV_GET_VP_REGISTERS, &raw const arg) })?;
        Ok(assoc[2])
    }

    /// Read DR0 to DR3 and DR6 by five of the host driver's ioctls.
    fn registers(&self) -> io::Result<([u64; 4], u64)> {
        let mut db = [0; 4];

        for (name, db) in (DR0..).zip(&mut db) {
            *db = self.register(name)?;
        }
        Ok((db, self.register(DR6)?))
    }
}

/// How the registers of the exits so far were read.
#[derive(Default)]
struct Counts {
    dr6_alone: u64,
    whole: u64,
    missed: u64,
}

/// The registers of one exit: DR6, and the rest if it was read.
type Registers = (u64, Option<[u64; 4]>);

/// Read the registers after a HW_INTERRUPT exit. `t` is the time before the entry.
fn read(vcpu: &Vcpu, reader: &Reader, t: u64, rax: u64, n: &mut Counts) -> io::Result<Registers> {
    match reader.read_dr6(t, rax) {
        Ok(dr6) if dr6 & 0xf == 0 => {
            n.dr6_alone += 1;
            return Ok((dr6, None));
        }
        Ok(_) => {
            if let Ok(Snapshot { db, dr6, .. }) = reader.read(t, rax) {
                n.whole += 1;
                return Ok((dr6, Some(db)));
            }
        }
        Err(_) => (),
    }
    // A miss. The host driver reads the registers locally, never by a hypercall.
    n.missed += 1;
    let (db, dr6) = vcpu.registers()?;
    Ok((dr6, Some(db)))
}

/// Check the registers: the L2 writes its count to each in turn, so each has it, or the one
/// before.
fn verify(count: u64, (dr6, db): Registers) -> Result<()> {
    let last = count.wrapping_sub(1);
    let b0 = |count: u64| 0xffff_0ff0 | ((count >> 8) & 1);
    let wrong = db.is_some_and(|db| db.iter().any(|&db| db != count && db != last));

    // In its first turn it has not written all.
    if count > 1 && (wrong || (dr6 != b0(count) && dr6 != b0(last))) {
        return Err(format!("DR6 {dr6:#x}, DR0 to DR3 {db:x?} at a count of {count:#x}").into());
    }
    Ok(())
}

fn run(cpu: u32, exits: u64) -> Result<Counts> {
    pin(cpu)?;
    let vcpu = Vcpu::new(cpu)?;
    // SAFETY: the run page stays mapped, and is only accessed as the kernel allows.
    let reader = unsafe { Reader::open(cpu, 0, vcpu.run.cast(), OPEN_TRY_EXCLUSIVE) }
        .map_err(|err| format!("{}: {err}", tdx_drcache::DEVICE))?;
    let mut n = Counts::default();

    while n.dr6_alone + n.whole + n.missed < exits {
        let t = tsc();
        let rax = vcpu.enter()?;

        // The class is one that ends an L2's run; see include/tdx/tdg_vp.h.
        match (rax >> 32, rax & 0xffff_ffff) {
            (0 | 0x1100 | 0x1102, HW_INTERRUPT) => {
                let registers = read(&vcpu, &reader, t, rax, &mut n)?;
                verify(vcpu.get(RBX), registers)?;
            }
            // Refused: an interrupt was pending.
            (0x1120, _) => (),
            _ => return Err(format!("the L2 exited with RAX {rax:#x}").into()),
        }
    }
    Ok(n)
}

fn main() -> Result<()> {
    let args: Vec<u64> =
        (std::env::args().skip(1).map(|arg| arg.parse())).collect::<std::result::Result<_, _>>()?;
    let &[cpu, exits] = args.as_slice() else {
        return Err("usage: vmm CPU EXITS".into());
    };
    let n = run(u32::try_from(cpu)?, exits)?;

    println!(
        "{exits} HW_INTERRUPT exits: {} by DR6 alone, {} by a full read, {} missed",
        n.dr6_alone, n.whole, n.missed
    );
    Ok(())
}
