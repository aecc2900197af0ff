/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR MIT) */
/*
 * tdx_drcache: the debug registers of an L2 VM, kept at its exits.
 *
 * In a TDX trust domain with TD partitioning, a paravisor runs as the L1 VMM
 * and its guest as an L2 VM. DR0-DR3 and DR6 are one set of physical registers
 * a vCPU, shared by L1 and its L2 VMs: when an L2 leaves to L1, they still hold
 * the L2's values. The L1 kernel copies them into a slot of one cache line a
 * vCPU at that moment, and the user-space VMM reads the slot, either through a
 * read-only mapping or through an ioctl. Nobody is asked for them: a hypervisor
 * could answer anything.
 *
 * DR4 and DR5 are not there because they are aliases of DR6 and DR7. DR7 is not
 * there because it is switched with the VM: in L1 the CPU holds L1's own, and
 * the L2's is read with TDG.VP.RD.
 *
 * The device
 * ----------
 * /dev/tdx_drcache, mode 0600, CAP_SYS_ADMIN at open. One open file description
 * stands for one vCPU, that is one CPU of the L1 kernel: it is bound once, by
 * TDX_DRCACHE_BIND, and stays bound until it is closed and its mappings are
 * gone. A vCPU has at most one owner, the VMM that runs the L2 there, and any
 * number of observers. Exits are watched while there is an owner.
 *
 * Every ioctl is an _IO() number and takes a pointer to its struct, whose first
 * member is the caller's sizeof() of it. A struct only grows at its end. A
 * caller that is newer than the kernel may pass a longer struct as long as what
 * the kernel does not know is zero; a caller that is older passes a shorter one
 * and gets what fits. Every ioctl returns 0 or fails with one of:
 *
 *   ENOTTY      no such ioctl
 *   EFAULT      the struct is not readable, or not writable
 *   EINVAL      size is too small, a flag is unknown, or a reserved member is
 *               not zero
 *   E2BIG       size is longer than the kernel knows, and what is beyond is not
 *               zero; or longer than a page
 *   EOPNOTSUPP  a known member has a value that this host cannot serve
 *
 * and with those listed at the ioctl.
 *
 * The mapping
 * -----------
 * mmap() of a bound file at offset 0, one page (@map_size of
 * TDX_DRCACHE_GET_INFO), MAP_SHARED, PROT_READ: a struct tdx_drcache_header,
 * and at its @slot_offset the struct tdx_drcache_slot. It fails with
 *
 *   ENOTCONN    the file is not bound
 *   EINVAL      another offset or length, or MAP_PRIVATE. mmap() itself rounds the
 *               length up, so that any up to a page is one page.
 *   EPERM       PROT_WRITE or PROT_EXEC; mprotect() to either fails with EACCES
 *   EACCES      PROT_WRITE, of a file that was opened read-only: mmap()'s own
 *
 * A child does not inherit the mapping over fork(), unless the parent asked for
 * that with MADV_DOFORK and the kernel gives it (6.12 does, 7.3 does not). It is
 * left out of core dumps.
 *
 * The reader's contract
 * ---------------------
 * 1. Take t = rdtsc() before the ioctl that enters the L2
 *    (MSHV_VTL_RETURN_TO_LOWER_VTL).
 * 2. After it returned with a HW_INTERRUPT exit, load @seq with acquire
 *    semantics. Odd: retry, at most TDX_DRCACHE_READ_RETRIES times, then it is
 *    a miss. Load the members once each. Fence. Load @seq again: changed, retry.
 * 3. Accept only if VALID is set in @flags, @tsc >= t, and @exit_rax equals the
 *    RAX of the exit in the run page. Else it is a miss: use the local
 *    single-register ioctls of the host driver. Never a hypercall.
 * 4. After writing a debug register, take a new t: older snapshots become stale
 *    by themselves. There is no call to invalidate, and no second writer.
 * 5. If L1_HWBP is set in @flags, do not take @db for what the guest wrote, nor a
 *    bit of B0-B3 in @dr6 for a breakpoint of the guest's: either may be L1's. The
 *    host driver's ioctls read the same registers, so they are no better. A debugger
 *    of the guest should treat the exit as one without a breakpoint.
 *
 * tools/lib/tdx_drcache_read.h is this contract in C.
 *
 * What a snapshot says
 * --------------------
 * @db and @dr6 are what the CPU held when the L2 left, raw, named as in struct
 * kvm_debugregs: the registers that the L2 ran with. L1's own breakpoints (perf,
 * ptrace) share DR0-DR3 and DR6 with the L2:
 *
 * - While L1 has one on the CPU at the exit, the snapshot has L1_HWBP.
 * - A breakpoint that is gone by then may have left its address in @db, and reset
 *   @dr6. Nothing tells of that. It lasts until the guest writes the register again,
 *   and until then the guest runs with, and can read, an address of L1's.
 * - kgdb and a KVM inside L1 write the registers without telling perf, so that there
 *   is no L1_HWBP.
 *
 * An owner that binds with TDX_DRCACHE_BIND_EXCLUSIVE rules out the first two: L1 can
 * have no breakpoint on the CPU until the owner is gone.
 *
 * The values are the guest's to choose: data, never an index, an address to follow
 * or a length. B0-B3 of DR6 are sticky and the guest can write them, so at a
 * HW_INTERRUPT exit they say what the guest's DR6 holds, not what ended it. At an
 * exit by #DB the cause is in the exit qualification, not in DR6.
 */
#ifndef _UAPI_LINUX_TDX_DRCACHE_H
#define _UAPI_LINUX_TDX_DRCACHE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* "TDDR" in memory order. */
#define TDX_DRCACHE_MAGIC		0x52444454u

#define TDX_DRCACHE_READ_RETRIES	64

/**
 * struct tdx_drcache_header - the first 64 bytes of the mapped page
 * @magic: TDX_DRCACHE_MAGIC
 * @header_size: bytes of this header that are in use
 * @slot_size: bytes of the slot that are in use
 * @slot_offset: where the slot is, in bytes from the start of the page
 * @cpu: the CPU that this page is of
 * @features: as in struct tdx_drcache_info
 * @reserved: zero
 *
 * Written before the page can be mapped, and not again.
 */
struct tdx_drcache_header {
	__u32 magic;
	__u16 header_size;
	__u16 slot_size;
	__u32 slot_offset;
	__u32 cpu;
	__aligned_u64 features;
	__u8 reserved[40];
};

/* struct tdx_drcache_slot::flags */
#define TDX_DRCACHE_VALID		(1u << 0) /* there is a snapshot */
#define TDX_DRCACHE_LATE		(1u << 1) /* taken after interrupts were on */
#define TDX_DRCACHE_L1_HWBP		(1u << 2) /* L1 had breakpoints on the CPU: a */
						  /* value may be L1's, see above */
#define TDX_DRCACHE_EMULATED		(1u << 3) /* the L2 is of the emulator */
#define TDX_DRCACHE_VM_SHIFT		8	  /* the VM index, 1 to 3 */
#define TDX_DRCACHE_VM_MASK		(3u << TDX_DRCACHE_VM_SHIFT)

/**
 * struct tdx_drcache_slot - the registers at the last exit that was captured
 * @seq: sequence count; odd while the rest is being written
 * @flags: TDX_DRCACHE_VALID, and how the snapshot was taken
 * @exit_rax: RAX of the TDG.VP.ENTER that ended with this exit:
 *	class << 32 | VMX exit reason
 * @db: DR0 to DR3
 * @dr6: DR6
 * @tsc: the time stamp counter of the CPU when the registers had been read
 *
 * One cache line. Written by the CPU that it is of, with interrupts off, and
 * read by anybody; each member is written and read once, whole. While VALID is
 * clear the other members mean nothing.
 */
struct tdx_drcache_slot {
	__u32 seq;
	__u32 flags;
	__aligned_u64 exit_rax;
	__aligned_u64 db[4];
	__aligned_u64 dr6;
	__aligned_u64 tsc;
};

#define TDX_DRCACHE_IOC_MAGIC		0xBB

/* struct tdx_drcache_info::hook */
#define TDX_DRCACHE_HOOK_NONE		0
/* The host driver calls right after the exit: exact. */
#define TDX_DRCACHE_HOOK_CALLOUT	1
/*
 * An fprobe on the function that enters the L2: exact. On some kernels every exit in
 * an idle mode, where the low four bits of the run page's enter_mode are not 0, is a
 * miss (Documentation/hooks.rst). While it is in place kernel.ftrace_enabled cannot
 * be set to 0.
 */
#define TDX_DRCACHE_HOOK_FPROBE		2
/*
 * On the way to user space: LATE, and a miss if anything ran in between that may
 * have changed the registers, or if L1 has a breakpoint on the CPU. With
 * TDX_DRCACHE_BIND_EXCLUSIVE only a debug exception that another task had in between
 * makes a miss. Only for VMMs that use 64-bit system calls.
 */
#define TDX_DRCACHE_HOOK_RETURN		3

/* struct tdx_drcache_info::host */
#define TDX_DRCACHE_HOST_NONE		0 /* nothing here runs an L2 */
#define TDX_DRCACHE_HOST_MSHV_VTL	1 /* a TDX guest with mshv_vtl */
#define TDX_DRCACHE_HOST_EMULATED	2 /* mshv_vtl_emul */

/* struct tdx_drcache_info::features and struct tdx_drcache_header::features */
#define TDX_DRCACHE_FEATURE_EXCLUSIVE	(1ull << 0) /* TDX_DRCACHE_BIND_EXCLUSIVE */

/**
 * struct tdx_drcache_info - what TDX_DRCACHE_GET_INFO tells
 * @size: in: sizeof(struct tdx_drcache_info)
 * @hook: out: the hook in place, or the one that BIND would place now
 * @features: out: TDX_DRCACHE_FEATURE_*: the optional parts that this kernel has
 * @max_vcpus: out: CPU numbers are below this
 * @map_size: out: the length to mmap(), in bytes
 * @host: out: what runs the L2s here
 * @reserved: zero
 */
struct tdx_drcache_info {
	__u32 size;
	__u32 hook;
	__aligned_u64 features;
	__u32 max_vcpus;
	__u32 map_size;
	__u32 host;
	__u32 reserved;
};

/*
 * TDX_DRCACHE_GET_INFO - what there is. Needs no BIND. While no vCPU has an owner it
 * looks for a hook, which is slow where that is the fprobe: ask after BIND, or once.
 */
#define TDX_DRCACHE_GET_INFO		_IO(TDX_DRCACHE_IOC_MAGIC, 0)

/* struct tdx_drcache_bind::flags */
#define TDX_DRCACHE_BIND_OBSERVE	(1u << 0) /* look on; do not own */
/*
 * Keep DR0-DR3 of the CPU from L1 while the vCPU has this owner. All four breakpoint
 * slots of the CPU are reserved, so that L1's values never reach the L2 or a snapshot.
 * Meanwhile perf and ptrace fail with ENOSPC to place a breakpoint that may run on this
 * CPU. That is every breakpoint of a task, as tasks move: gdb's hardware watchpoints
 * and hbreak fail in all of L1. Software breakpoints and single-stepping work, and so
 * do perf's breakpoints of other CPUs.
 */
#define TDX_DRCACHE_BIND_EXCLUSIVE	(1u << 1)

/* struct tdx_drcache_bind::exit_reasons, a bit for each VMX basic exit reason */
#define TDX_DRCACHE_HW_INTERRUPT	(1ull << 1)

/**
 * struct tdx_drcache_bind - which vCPU, and which of its exits
 * @size: in: sizeof(struct tdx_drcache_bind)
 * @cpu: in: the L1 kernel's number of the CPU
 * @exit_reasons: in: capture at these VMX basic exit reasons; 0 is
 *	TDX_DRCACHE_HW_INTERRUPT alone (the kernel calls that reason
 *	EXIT_REASON_EXTERNAL_INTERRUPT)
 * @run_page: in: where the caller has the host driver's run page of that CPU
 *	mapped; 0 where the hook needs none (the callout does not). It is not checked
 *	to be one. With another page the snapshots tell the exits that this page has,
 *	so that exits are missed, or accepted if its RAX is the right one by chance.
 * @flags: in: TDX_DRCACHE_BIND_OBSERVE, TDX_DRCACHE_BIND_EXCLUSIVE or 0
 * @reserved: in: zero
 *
 * An observer sees what the owner captures: its @exit_reasons and @run_page
 * are zero. It can be bound before there is an owner, or a host driver.
 */
struct tdx_drcache_bind {
	__u32 size;
	__u32 cpu;
	__aligned_u64 exit_reasons;
	__aligned_u64 run_page;
	__u32 flags;
	__u32 reserved;
};

/*
 * TDX_DRCACHE_BIND - bind this file to a vCPU.
 *
 *   ENXIO       no such CPU, or it is offline
 *   EBUSY       this file is bound already, or the vCPU has an owner; or somebody
 *               else has the host driver's callout; or a debugger is connected to
 *               kgdb, which writes the registers regardless, and the caller wants
 *               TDX_DRCACHE_BIND_EXCLUSIVE
 *   ENOSPC      TDX_DRCACHE_BIND_EXCLUSIVE: L1 has a breakpoint that may run on the
 *               CPU: one of the CPU, or of any task. Binding without the flag works.
 *   ENODEV      an owner: there is no host driver to hook; the log says what was
 *               looked for
 *   EINVAL      @run_page is not at the start of a page, or is 0 where the hook
 *               needs it; or an observer gave @exit_reasons or @run_page, or wants
 *               TDX_DRCACHE_BIND_EXCLUSIVE
 *   EFAULT      also: there is nothing writable at @run_page
 *   EOPNOTSUPP  @exit_reasons has a reason at which no L2 ran (33, 34, 41); or, with
 *               the return hook, 52, which the host driver also reports when its own
 *               halt timer ends a halt and no L2 ran, or the caller is a 32-bit or
 *               x32 process; or TDX_DRCACHE_BIND_EXCLUSIVE, and the kernel has no
 *               TDX_DRCACHE_FEATURE_EXCLUSIVE
 *   ENOMEM
 */
#define TDX_DRCACHE_BIND		_IO(TDX_DRCACHE_IOC_MAGIC, 1)

/**
 * struct tdx_drcache_regs - a snapshot
 * @size: in: sizeof(struct tdx_drcache_regs)
 * @flags: out: as in struct tdx_drcache_slot
 * @min_tsc: in: only a snapshot with at least this @tsc will do; 0 for any
 * @exit_rax: out: as in struct tdx_drcache_slot
 * @db: out: DR0 to DR3
 * @dr6: out: DR6
 * @tsc: out: as in struct tdx_drcache_slot
 */
struct tdx_drcache_regs {
	__u32 size;
	__u32 flags;
	__aligned_u64 min_tsc;
	__aligned_u64 exit_rax;
	__aligned_u64 db[4];
	__aligned_u64 dr6;
	__aligned_u64 tsc;
};

/*
 * TDX_DRCACHE_GET_REGS - read the slot.
 *
 *   ENOTCONN    this file is not bound
 *   ENODATA     there is no valid snapshot: the last exit was not one to capture
 *   ESTALE      the snapshot is older than @min_tsc
 *   EAGAIN      the slot was being written at each of TDX_DRCACHE_READ_RETRIES
 *               tries
 */
#define TDX_DRCACHE_GET_REGS		_IO(TDX_DRCACHE_IOC_MAGIC, 2)

/* struct tdx_drcache_stats::flags */
#define TDX_DRCACHE_STATS_EXCLUSIVE	(1u << 0) /* the owner has BIND_EXCLUSIVE */

/**
 * struct tdx_drcache_stats - counts since the vCPU's last owner was bound
 * @size: in: sizeof(struct tdx_drcache_stats)
 * @flags: out: TDX_DRCACHE_STATS_*: of now, and not of the last owner
 * @published: out: snapshots published
 * @filtered: out: exits that were seen and not captured, for their reason. With the
 *	return hook also halts that the host driver's timer ended.
 * @refused: out: entries that ended with no L2 having run
 * @late: out: snapshots published with LATE
 * @l1_hwbp: out: snapshots published with L1_HWBP
 * @missed: out: exits that were seen, and whose registers could not be told
 *	from L1's
 *
 * Each count is read once; they are not a snapshot of one moment. They stay when
 * the owner is gone, until the next one is bound.
 */
struct tdx_drcache_stats {
	__u32 size;
	__u32 flags;
	__aligned_u64 published;
	__aligned_u64 filtered;
	__aligned_u64 refused;
	__aligned_u64 late;
	__aligned_u64 l1_hwbp;
	__aligned_u64 missed;
};

/*
 * TDX_DRCACHE_GET_STATS - read the counts.
 *
 *   ENOTCONN    this file is not bound
 */
#define TDX_DRCACHE_GET_STATS		_IO(TDX_DRCACHE_IOC_MAGIC, 3)

#endif /* _UAPI_LINUX_TDX_DRCACHE_H */
