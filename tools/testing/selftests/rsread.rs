// SPDX-License-Identifier: GPL-2.0
//! rsread CPU N: observe a vCPU whose VMM runs drcvmm's counter. Check that each snapshot
//! is one that this guest can have, and that it matches TDX_DRCACHE_GET_REGS, until N
//! snapshots stayed unchanged during the ioctl. rsread --own CPU: own the vCPU instead for
//! a moment, exclusively if possible.

use std::io;
use std::os::raw::{c_int, c_ulong};
use std::os::unix::io::AsRawFd;
use std::process::ExitCode;
use std::ptr;
use std::time::{Duration, Instant};
use tdx_drcache::{
    BIND_EXCLUSIVE, EMULATED, Miss, OPEN_TRY_EXCLUSIVE, Reader, Snapshot, VALID, tsc,
};

const GET_REGS: c_ulong = 0xbb02;
const TIMEOUT: Duration = Duration::from_secs(300);
const HW_INTERRUPT: u64 = 1;
const EBUSY: i32 = 16;
const ENOSPC: i32 = 28;

unsafe extern "C" {
    fn ioctl(fd: c_int, number: c_ulong, ...) -> c_int;
}

/// `struct tdx_drcache_regs`
#[repr(C)]
#[derive(Default)]
struct Regs {
    size: u32,
    flags: u32,
    min_tsc: u64,
    exit_rax: u64,
    db: [u64; 4],
    dr6: u64,
    tsc: u64,
}

fn get_regs(reader: &Reader) -> Option<Snapshot> {
    let mut regs = Regs {
        size: std::mem::size_of::<Regs>() as u32,
        ..Default::default()
    };

    // SAFETY: the ioctl takes a Regs, whose size member has its size.
    if unsafe { ioctl(reader.as_raw_fd(), GET_REGS, &mut regs as *mut Regs) } != 0 {
        return None;
    }
    Some(Snapshot {
        flags: regs.flags,
        exit_rax: regs.exit_rax,
        db: regs.db,
        dr6: regs.dr6,
        tsc: regs.tsc,
    })
}

/// The guest writes its count to DR0, then DR1, DR2, DR3 and DR6. The registers that it has
/// not reached yet hold the previous count.
fn is_of_counter(s: &Snapshot) -> bool {
    let n = s.db[0] & 0xf_ffff_ffff;
    let behind: Vec<u64> = (s.db.iter().map(|db| n.wrapping_sub(db & 0xf_ffff_ffff)))
        .chain([n.wrapping_sub(s.dr6) & 0xf])
        .collect();

    n < 2 || (behind.windows(2).all(|w| w[0] <= w[1]) && behind[4] <= 1)
}

fn observe(cpu: u32, wanted: u32) -> Result<String, String> {
    let reader = Reader::open_observer(cpu).map_err(|e| e.to_string())?;
    let start = Instant::now();
    let (mut seen, mut compared, mut last) = (0, 0, 0);

    while compared < wanted {
        if start.elapsed() > TIMEOUT {
            return Err(format!(
                "{seen} snapshots in {TIMEOUT:?}, {compared} stayed unchanged"
            ));
        }
        let first = match reader.observe(last + 1) {
            Ok(first) => first,
            Err(Miss::OtherExit) => return Err("an observer compares exits".into()),
            Err(_) => continue,
        };
        let ioctl = get_regs(&reader);
        // Unchanged before and after the ioctl, so the ioctl saw the same snapshot.
        if reader.observe(0) == Ok(first) {
            compared += 1;
            if ioctl != Some(first) {
                return Err(format!("by mmap {first:x?}, by GET_REGS {ioctl:x?}"));
            }
        }
        if first.tsc <= last || first.tsc > tsc() {
            return Err(format!("tsc {} after {last}", first.tsc));
        }
        if first.flags & (VALID | EMULATED) != VALID | EMULATED
            || first.vm() != 1
            || first.exit_rax & 0xffff != HW_INTERRUPT
            || !is_of_counter(&first)
        {
            return Err(format!("{first:x?} is not of the counter"));
        }
        if reader.read(first.tsc, first.exit_rax + 1) == Ok(first) {
            return Err("a read accepts another exit's RAX".into());
        }
        last = first.tsc;
        seen += 1;
    }
    Ok(format!(
        "{seen} snapshots, {compared} compared with GET_REGS"
    ))
}

fn own(cpu: u32) -> Result<String, String> {
    // SAFETY: there is no run page.
    let open =
        |flags| -> io::Result<Reader> { unsafe { Reader::open(cpu, 0, ptr::null(), flags) } };
    let reader = open(OPEN_TRY_EXCLUSIVE).map_err(|e| e.to_string())?;
    let exclusive = reader.is_exclusive();

    match open(OPEN_TRY_EXCLUSIVE) {
        Err(err) if err.raw_os_error() == Some(EBUSY) => (),
        Err(err) => return Err(format!("a second owner: {err}")),
        Ok(_) => return Err("a second owner can bind".into()),
    }
    if reader.read(0, 0) != Err(Miss::Invalid) {
        return Err("a snapshot without an exit".into());
    }
    drop(reader);
    match open(BIND_EXCLUSIVE) {
        Ok(reader) if exclusive && reader.is_exclusive() => (),
        Err(err) if !exclusive && err.raw_os_error() == Some(ENOSPC) => (),
        Err(err) => return Err(format!("exclusive after that: {err}")),
        Ok(_) => return Err("exclusive after that, but not before".into()),
    }
    let reader = open(0).map_err(|e| format!("after the first was dropped: {e}"))?;
    if reader.is_exclusive() {
        return Err("exclusive without the flag".into());
    }
    Ok(format!(
        "owned{}, left, and owned again",
        if exclusive { " exclusively" } else { "" }
    ))
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--own", cpu] => cpu.parse().map(own),
        [cpu, n] => cpu.parse().and_then(|cpu| Ok(observe(cpu, n.parse()?))),
        _ => return ExitCode::from(2),
    };

    match result {
        Ok(Ok(what)) => {
            println!("{what}");
            ExitCode::SUCCESS
        }
        Ok(Err(what)) => {
            println!("rsread: {what}");
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::from(2),
    }
}
