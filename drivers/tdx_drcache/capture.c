// SPDX-License-Identifier: GPL-2.0
/*
 * The exit path, which a hook calls on the CPU of the exit with interrupts off. It takes
 * no lock, calls no other function, cannot fault, and does not need RCU. The cost does not
 * depend on how many vCPUs are bound.
 */
#include <linux/kprobes.h>
#include <linux/percpu.h>
#include <asm/debugreg.h>

#include "capture.h"
#include "l2_exit.h"
#include "regs.h"
#include "slot.h"

/**
 * struct drcache_capture - how to capture a CPU's exits
 * @slot: slot to publish in; NULL while the CPU is not armed. Written by this CPU with
 *	interrupts off.
 * @exit_reasons: the owner's, for drcache_l2_exit_decode(). Written while @slot is NULL.
 * @flags: flags of every snapshot: VALID, EMULATED if applicable, and FLAGS_SHARED.
 *	Written while @slot is NULL.
 * @counts: indexed by enum drcache_count; written by this CPU with interrupts off, read
 *	by any CPU
 */
struct drcache_capture {
	struct tdx_drcache_slot *slot;
	u64 exit_reasons;
	u32 flags;
	u64 counts[DRCACHE_NR_COUNTS];
};

/* L1 can have breakpoints on the CPU; never published. Testing the sign bit is cheapest. */
#define FLAGS_SHARED	BIT(31)

static DEFINE_PER_CPU(struct drcache_capture, drcache_capture);

#define count(what)	this_cpu_inc(drcache_capture.counts[what])

static __always_inline void capture_exit(u64 exit_rax, u64 entry_rcx, const u32 late)
{
	struct tdx_drcache_slot *slot = this_cpu_read(drcache_capture.slot);
	struct drcache_sample sample;
	u32 flags;

	if (!slot)
		return;

	switch (drcache_l2_exit_decode(exit_rax, entry_rcx,
				       this_cpu_read(drcache_capture.exit_reasons))) {
	case DRCACHE_L2_EXIT_CAPTURE:
		break;
	case DRCACHE_L2_EXIT_FILTERED:
		drcache_slot_invalidate(slot);
		count(DRCACHE_FILTERED);
		return;
	case DRCACHE_L2_EXIT_REFUSED:
	default:
		drcache_slot_invalidate(slot);
		count(DRCACHE_REFUSED);
		return;
	}

	drcache_sample_read(&sample);
	flags = drcache_l2_exit_vm(entry_rcx) | late | this_cpu_read(drcache_capture.flags);
	if (flags & FLAGS_SHARED) {
		flags &= ~FLAGS_SHARED;
		/*
		 * L1's perf and ptrace breakpoints are in the same registers, and the
		 * L2 ran with them. Don't use hw_breakpoint_active(): with
		 * DEBUG_PREEMPT it calls a function.
		 */
		if (unlikely(raw_cpu_read(cpu_dr7) & DR_GLOBAL_ENABLE_MASK)) {
			flags |= TDX_DRCACHE_L1_HWBP;
			count(DRCACHE_L1_HWBP);
		}
	}
	drcache_slot_publish(slot, flags, exit_rax, &sample);
	count(DRCACHE_PUBLISHED);
	if (late)	/* a compile-time constant */
		count(DRCACHE_LATE);
}

/**
 * drcache_capture_exit() - report that TDG.VP.ENTER has returned on this CPU
 * @exit_rax: RAX after the instruction
 * @entry_rcx: RCX before the instruction
 *
 * Context: Interrupts off since the exit. RCU may not be watching.
 */
void notrace drcache_capture_exit(u64 exit_rax, u64 entry_rcx)
{
	capture_exit(exit_rax, entry_rcx, 0);
}
NOKPROBE_SYMBOL(drcache_capture_exit);

/**
 * drcache_capture_exit_late() - report an exit after interrupts were enabled
 * @exit_rax: see drcache_capture_exit()
 * @entry_rcx: see drcache_capture_exit()
 *
 * Context: Interrupts off. The caller must know that the debug registers are still as
 * the L2 left them.
 */
void notrace drcache_capture_exit_late(u64 exit_rax, u64 entry_rcx)
{
	capture_exit(exit_rax, entry_rcx, TDX_DRCACHE_LATE);
}
NOKPROBE_SYMBOL(drcache_capture_exit_late);

/**
 * drcache_capture_lost() - count an exit whose registers are lost
 *
 * Context: Interrupts off.
 */
void notrace drcache_capture_lost(void)
{
	struct tdx_drcache_slot *slot = this_cpu_read(drcache_capture.slot);

	if (!slot)
		return;
	drcache_slot_invalidate(slot);
	count(DRCACHE_LOST);
}
NOKPROBE_SYMBOL(drcache_capture_lost);

/**
 * drcache_capture_setup() - configure the capture of a CPU's exits and reset its counts
 * @cpu: the CPU, not armed
 * @exit_reasons: one bit per basic exit reason
 * @flags: flags of every snapshot, beside those of the exit
 * @exclusive: L1 can have no breakpoint on the CPU
 */
void drcache_capture_setup(unsigned int cpu, u64 exit_reasons, u32 flags, bool exclusive)
{
	struct drcache_capture *c = per_cpu_ptr(&drcache_capture, cpu);
	unsigned int i;

	c->exit_reasons = exit_reasons;
	c->flags = flags | (exclusive ? 0 : FLAGS_SHARED);
	/* Observers may be reading these. */
	for (i = 0; i < DRCACHE_NR_COUNTS; i++)
		WRITE_ONCE(c->counts[i], 0);
}

/**
 * drcache_capture_start() - start to capture the exits of this CPU
 * @slot: slot to publish in
 *
 * Context: Interrupts off.
 */
void drcache_capture_start(struct tdx_drcache_slot *slot)
{
	this_cpu_write(drcache_capture.slot, slot);
}

/**
 * drcache_capture_stop() - stop capturing, and clear the slot
 *
 * Context: Interrupts off.
 */
void drcache_capture_stop(void)
{
	static const struct drcache_sample zero;
	struct tdx_drcache_slot *slot = this_cpu_read(drcache_capture.slot);

	this_cpu_write(drcache_capture.slot, NULL);
	drcache_slot_publish(slot, 0, 0, &zero);
}

/* Read each count since drcache_capture_setup() once. */
void drcache_capture_counts(unsigned int cpu, u64 counts[DRCACHE_NR_COUNTS])
{
	const struct drcache_capture *c = per_cpu_ptr(&drcache_capture, cpu);
	unsigned int i;

	for (i = 0; i < DRCACHE_NR_COUNTS; i++)
		counts[i] = READ_ONCE(c->counts[i]);
}
