/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR MIT) */
/*
 * tdx_drcache: an L2 VM's debug registers, captured at its exits.
 *
 * In a TDX trust domain with TD partitioning, a paravisor runs as the L1 VMM
 * and its guest as an L2 VM. L1 and its L2 VMs share one physical set of DR0-DR3
 * and DR6 per vCPU, so these registers still hold the L2's values when it exits
 * to L1. At that moment the L1 kernel copies them into the vCPU's slot, one cache
 * line. The user-space VMM reads the slot through a read-only mapping or with an
 * ioctl. The registers are read from the CPU, never requested from the hypervisor,
 * which could forge the answer.
 *
 * DR4, DR5 and DR7 are not captured. DR4 and DR5 are aliases of DR6 and DR7. DR7
 * is switched with the VM: in L1 the CPU holds L1's DR7, and TDG.VP.RD reads the
 * L2's.
 *
 * The device
 * ----------
 * /dev/tdx_drcache has mode 0600, and open() requires CAP_SYS_ADMIN. Each open file
 * description represents one vCPU, which is one CPU of the L1 kernel.
 * TDX_DRCACHE_BIND binds it once. It stays bound until it is closed and its
 * mappings are gone. A vCPU has at most one owner, the VMM that runs the L2 there,
 * and any number of observers. Exits are captured only while the vCPU has an owner.
 *
 * Every ioctl is an _IO() number and takes a pointer to its struct. The first
 * member is @size, the caller's sizeof() of the struct. A struct only grows at its
 * end. A caller newer than the kernel may pass a longer struct if the members that
 * the kernel does not know are zero. An older caller passes a shorter struct, and
 * the kernel fills in the members that fit. Every ioctl returns 0 on success. The
 * common errors, beside those listed with each ioctl, are:
 *
 *   ENOTTY      no such ioctl
 *   EFAULT      the struct cannot be read or written
 *   EINVAL      @size is too small, a flag is unknown, or a reserved member is
 *               not zero
 *   E2BIG       @size exceeds the kernel's struct and the excess is not zero, or
 *               @size exceeds a page
 *   EOPNOTSUPP  this host does not support the value of a known member
 *
 * The mapping
 * -----------
 * Map a bound file at offset 0 with MAP_SHARED and PROT_READ; the length is
 * @map_size of TDX_DRCACHE_GET_INFO, one page. The page starts with struct
 * tdx_drcache_header; its @slot_offset locates struct tdx_drcache_slot. mmap()
 * fails with:
 *
 *   ENOTCONN    the file is not bound
 *   EINVAL      any other offset or length, or MAP_PRIVATE. mmap() rounds the length
 *               up to a full page first.
 *   EPERM       PROT_WRITE or PROT_EXEC; mprotect() to either fails with EACCES
 *   EACCES      PROT_WRITE on a file opened read-only; mmap() itself checks this
 *
 * A child does not inherit the mapping across fork(), unless the parent requested
 * it with MADV_DOFORK and the kernel allows that (6.12 does, 7.3 does not). The
 * mapping is excluded from core dumps.
 *
 * The reader's contract
 * ---------------------
 * 1. Take t = rdtsc() before the ioctl that enters the L2
 *    (MSHV_VTL_RETURN_TO_LOWER_VTL).
 * 2. After the ioctl returns with a HW_INTERRUPT exit, load @seq with acquire
 *    semantics. If it is odd, retry, at most TDX_DRCACHE_READ_RETRIES times; after
 *    that it is a miss. Load each member once. Fence. Load @seq again; if it has
 *    changed, retry.
 * 3. Accept the snapshot only if VALID is set in @flags, @tsc >= t, and @exit_rax
 *    equals the RAX of the exit in the run page. Otherwise it is a miss: use the
 *    host driver's local single-register ioctls, never a hypercall.
 * 4. After writing a debug register, take a new t, which makes older snapshots
 *    stale. There is no invalidate call and no second writer.
 * 5. If L1_HWBP is set in @flags, do not assume that the guest wrote @db, or that
 *    B0-B3 in @dr6 report a guest breakpoint: either may be L1's. The host driver's
 *    ioctls are no better, because they read the same registers. A debugger of the
 *    guest should treat the exit as one without a breakpoint.
 *
 * tools/lib/tdx_drcache_read.h implements this contract in C.
 *
 * The meaning of a snapshot
 * -------------------------
 * @db and @dr6, named as in struct kvm_debugregs, are the raw contents of the CPU
 * when the L2 exited: the registers that the L2 ran with. L1's own breakpoints (perf,
 * ptrace) share DR0-DR3 and DR6 with the L2:
 *
 * - If L1 has a breakpoint on the CPU at the exit, the snapshot has L1_HWBP.
 * - A breakpoint removed before the exit may have left its address in @db, and may
 *   have reset @dr6. No flag reports this. It lasts until the guest writes the
 *   register again; until then the guest runs with an L1 address and can read it.
 * - kgdb and a KVM inside L1 write the registers without telling perf, so L1_HWBP is
 *   not set.
 *
 * TDX_DRCACHE_BIND_EXCLUSIVE rules out the first two, because L1 can then have no
 * breakpoint on the CPU until the owner is gone. What a breakpoint left there before
 * BIND remains. A debug exception that an L1 task takes in user mode without a
 * breakpoint (INT1, the trap flag, single-stepping) still resets DR6; if the L2 is
 * entered after that, it runs with the reset DR6.
 *
 * The guest chooses the values. Treat them as data, never as an index, an address to
 * follow or a length. B0-B3 of DR6 are sticky and the guest can write them, so at a
 * HW_INTERRUPT exit they show the contents of the guest's DR6, not the cause of the
 * exit. At a #DB exit the exit qualification has the cause; DR6 does not.
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
 * @header_size: number of bytes used in this header
 * @slot_size: number of bytes used in the slot
 * @slot_offset: offset of the slot from the start of the page, in bytes
 * @cpu: the CPU that this page belongs to
 * @features: as in struct tdx_drcache_info
 * @reserved: zero
 *
 * Written once, before the page can be mapped.
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
#define TDX_DRCACHE_VALID		(1u << 0) /* the slot holds a snapshot */
#define TDX_DRCACHE_LATE		(1u << 1) /* taken after interrupts were enabled */
#define TDX_DRCACHE_L1_HWBP		(1u << 2) /* L1 had breakpoints on the CPU: a */
						  /* value may be L1's, see above */
#define TDX_DRCACHE_EMULATED		(1u << 3) /* the L2 is emulated */
#define TDX_DRCACHE_VM_SHIFT		8	  /* the VM index, 1 to 3 */
#define TDX_DRCACHE_VM_MASK		(3u << TDX_DRCACHE_VM_SHIFT)

/**
 * struct tdx_drcache_slot - the registers at the last captured exit
 * @seq: sequence count; odd while the rest is being written
 * @flags: TDX_DRCACHE_VALID, TDX_DRCACHE_LATE, TDX_DRCACHE_L1_HWBP,
 *	TDX_DRCACHE_EMULATED and the VM index
 * @exit_rax: RAX of the TDG.VP.ENTER that ended with this exit:
 *	class << 32 | VMX exit reason
 * @db: DR0 to DR3
 * @dr6: DR6
 * @tsc: the CPU's time stamp counter, read right after the registers
 *
 * One cache line. Only the CPU that it belongs to writes it, with interrupts off; any
 * CPU may read it. Each member is written and read once, as a whole. While VALID is
 * clear, the other members are meaningless.
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
/* The host driver calls the module right after the exit: exact. */
#define TDX_DRCACHE_HOOK_CALLOUT	1
/*
 * An fprobe on the function that enters the L2: exact. On some kernels every exit in
 * an idle enter mode is a miss (Documentation/hooks.rst). An idle mode is one where
 * the low four bits of the run page's enter_mode are not 0. While this hook is in
 * place, kernel.ftrace_enabled cannot be set to 0.
 */
#define TDX_DRCACHE_HOOK_FPROBE		2
/*
 * On the return to user space: LATE. The exit is a miss if anything that may have
 * changed the registers ran in between, or if L1 has a breakpoint on the CPU. With
 * TDX_DRCACHE_BIND_EXCLUSIVE it is a miss only if another task may have taken a debug
 * exception in between, or if L1 slept. Only for VMMs that use 64-bit system calls.
 */
#define TDX_DRCACHE_HOOK_RETURN		3

/* struct tdx_drcache_info::host */
#define TDX_DRCACHE_HOST_NONE		0 /* no host driver that runs L2s */
#define TDX_DRCACHE_HOST_MSHV_VTL	1 /* a TDX guest with mshv_vtl */
#define TDX_DRCACHE_HOST_EMULATED	2 /* mshv_vtl_emul */

/* struct tdx_drcache_info::features and struct tdx_drcache_header::features */
#define TDX_DRCACHE_FEATURE_EXCLUSIVE	(1ull << 0) /* TDX_DRCACHE_BIND_EXCLUSIVE */

/**
 * struct tdx_drcache_info - the host, the hook and the limits
 * @size: in: sizeof(struct tdx_drcache_info)
 * @hook: out: the hook in place, or the one that BIND would place now
 * @features: out: TDX_DRCACHE_FEATURE_*, the optional features of this kernel
 * @nr_cpu_ids: out: all CPU numbers are below this
 * @map_size: out: the length to mmap(), in bytes
 * @host: out: TDX_DRCACHE_HOST_*, the driver that runs the L2s
 * @reserved: zero
 */
struct tdx_drcache_info {
	__u32 size;
	__u32 hook;
	__aligned_u64 features;
	__u32 nr_cpu_ids;
	__u32 map_size;
	__u32 host;
	__u32 reserved;
};

/*
 * TDX_DRCACHE_GET_INFO - report the host, the hook and the limits. Does not require
 * BIND. While no vCPU has an owner, it searches for a hook, and the search for the
 * fprobe is slow: call it after BIND, or only once.
 */
#define TDX_DRCACHE_GET_INFO		_IO(TDX_DRCACHE_IOC_MAGIC, 0)

/* struct tdx_drcache_bind::flags */
#define TDX_DRCACHE_BIND_OBSERVE	(1u << 0) /* read only; do not own the vCPU */
/*
 * Keep L1's breakpoints out of the CPU's DR0-DR3 while the vCPU has this owner. All
 * four breakpoint slots of the CPU are reserved, so no breakpoint that L1 places later
 * can reach the L2 or a snapshot. Meanwhile perf and ptrace get ENOSPC for any
 * breakpoint that may run on this CPU. This includes every breakpoint of a task,
 * because tasks migrate: gdb's hardware watchpoints and hbreak fail in all of L1.
 * Software breakpoints, single-stepping and perf's breakpoints on other CPUs still
 * work.
 */
#define TDX_DRCACHE_BIND_EXCLUSIVE	(1u << 1)

/* struct tdx_drcache_bind::exit_reasons, one bit per VMX basic exit reason */
#define TDX_DRCACHE_REASON_HW_INTERRUPT	(1ull << 1)

/**
 * struct tdx_drcache_bind - the vCPU to bind to, and the exits to capture
 * @size: in: sizeof(struct tdx_drcache_bind)
 * @cpu: in: the L1 kernel's CPU number
 * @exit_reasons: in: the VMX basic exit reasons to capture at; 0 means
 *	TDX_DRCACHE_REASON_HW_INTERRUPT alone (the kernel calls that reason
 *	EXIT_REASON_EXTERNAL_INTERRUPT)
 * @run_page: in: the address where the caller has mapped the host driver's run page
 *	of that CPU; may be 0 if the hook does not need it (the callout does not). The
 *	module does not verify that it is a run page. With any other page the module
 *	takes RAX from that page, so the reader misses unless that RAX matches by
 *	chance.
 * @flags: in: TDX_DRCACHE_BIND_OBSERVE, TDX_DRCACHE_BIND_EXCLUSIVE or 0
 * @reserved: in: zero
 *
 * An observer sees the snapshots that the owner's exits produce, so its
 * @exit_reasons and @run_page must be zero. It can bind before there is an owner or
 * a host driver.
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
 *   EBUSY       the file is already bound, the vCPU already has an owner, or another
 *               user has the host driver's callout; with TDX_DRCACHE_BIND_EXCLUSIVE
 *               also: a debugger is connected to kgdb, which writes the registers
 *               regardless
 *   ENOSPC      TDX_DRCACHE_BIND_EXCLUSIVE: L1 has a breakpoint that may run on the
 *               CPU, set on the CPU or on any task. Binding without the flag works.
 *   ENODEV      owner only: there is no host driver to hook; the kernel log lists
 *               what the module looked for
 *   EINVAL      @run_page is not page-aligned, or is 0 although the hook needs it; or
 *               an observer set @exit_reasons, @run_page or
 *               TDX_DRCACHE_BIND_EXCLUSIVE
 *   EFAULT      also: there is no writable memory at @run_page
 *   EOPNOTSUPP  @exit_reasons includes a reason at which no L2 ran (33, 34, 41);
 *               with the return hook, it includes 52, which the host driver also
 *               reports when its own timer ends a halt and no L2 ran;
 *               with the return hook, the caller is a 32-bit or x32 process;
 *               with TDX_DRCACHE_BIND_EXCLUSIVE, the kernel lacks
 *               TDX_DRCACHE_FEATURE_EXCLUSIVE
 *   ENOMEM      out of memory
 */
#define TDX_DRCACHE_BIND		_IO(TDX_DRCACHE_IOC_MAGIC, 1)

/**
 * struct tdx_drcache_regs - a snapshot
 * @size: in: sizeof(struct tdx_drcache_regs)
 * @flags: out: as in struct tdx_drcache_slot
 * @min_tsc: in: the lowest acceptable @tsc; 0 accepts any
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
 *   ENOTCONN    the file is not bound
 *   ENODATA     no valid snapshot: the last exit was not captured, or there was none
 *   ESTALE      the snapshot is older than @min_tsc
 *   EAGAIN      the slot was being written on each of TDX_DRCACHE_READ_RETRIES
 *               attempts
 */
#define TDX_DRCACHE_GET_REGS		_IO(TDX_DRCACHE_IOC_MAGIC, 2)

/* struct tdx_drcache_stats::flags */
#define TDX_DRCACHE_STATS_EXCLUSIVE	(1u << 0) /* the owner has BIND_EXCLUSIVE */

/**
 * struct tdx_drcache_stats - counts since the vCPU's last owner bound
 * @size: in: sizeof(struct tdx_drcache_stats)
 * @flags: out: TDX_DRCACHE_STATS_*, the current state, not the last owner's
 * @published: out: snapshots published
 * @filtered: out: exits seen but not captured because of their reason; with the
 *	return hook also halts that the host driver's timer ended
 * @refused: out: entries that returned without an L2 having run
 * @late: out: snapshots published with LATE
 * @l1_hwbp: out: snapshots published with L1_HWBP
 * @lost: out: exits seen but not captured although their reason is selected: L1 may have
 *	written the registers, or the hook may not see every exit
 *
 * Each count is read once, so together they are not a snapshot of one moment. They
 * are kept after the owner is gone, until the next owner binds.
 */
struct tdx_drcache_stats {
	__u32 size;
	__u32 flags;
	__aligned_u64 published;
	__aligned_u64 filtered;
	__aligned_u64 refused;
	__aligned_u64 late;
	__aligned_u64 l1_hwbp;
	__aligned_u64 lost;
};

/*
 * TDX_DRCACHE_GET_STATS - read the counts.
 *
 *   ENOTCONN    the file is not bound
 */
#define TDX_DRCACHE_GET_STATS		_IO(TDX_DRCACHE_IOC_MAGIC, 3)

#endif /* _UAPI_LINUX_TDX_DRCACHE_H */
