/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Decode an exit from RAX after TDG.VP.ENTER. Pure: no hardware, no state.
 */
#ifndef _DRCACHE_L2_EXIT_H
#define _DRCACHE_L2_EXIT_H

#include <linux/bits.h>
#include <linux/compiler.h>
#include <linux/types.h>
#include <tdx/tdg_vp.h>
#include <uapi/linux/tdx_drcache.h>

/* Basic reasons of a failed VM entry: no L2 ran. BIND rejects them. */
#define DRCACHE_REASONS_NO_L2	(BIT_ULL(33) | BIT_ULL(34) | BIT_ULL(41))

enum drcache_l2_exit {
	DRCACHE_L2_EXIT_CAPTURE,	/* the L2's registers are in the CPU and wanted */
	DRCACHE_L2_EXIT_FILTERED,	/* an L2 ran, but the exit is not wanted */
	DRCACHE_L2_EXIT_REFUSED,	/* no L2 ran */
};

/* Return the VM index at its place in a snapshot's flags. 0 is L1 itself. */
static __always_inline u32 drcache_l2_exit_vm(u64 entry_rcx)
{
	return entry_rcx >> (TDX_ENTRY_VM_SHIFT - TDX_DRCACHE_VM_SHIFT) &
	       TDX_DRCACHE_VM_MASK;
}

/* Return true if an L2 ran. Test the most frequent classes first. */
static __always_inline bool drcache_l2_ran(u64 rax)
{
	u64 class;

	/* class SUCCESS without entry failure */
	if (likely(rax < TDX_ENTRY_FAILURE))
		return true;
	if (rax & TDX_ENTRY_FAILURE)
		return false;
	class = rax >> TDX_CLASS_SHIFT;
	/* Exclude TDX_CLASS_PENDING_INTERRUPT, whose low half only looks like reason 0. */
	return likely(class == TDX_CLASS_L2_EXIT_HOST_ROUTED_ASYNC) ||
	       class == TDX_CLASS_L2_EXIT_PENDING_INTERRUPT ||
	       class == TDX_CLASS_L2_EXIT_HOST_ROUTED_TDVMCALL;
}

/**
 * drcache_l2_exit_decode() - decide whether to capture an exit
 * @rax: RAX after TDG.VP.ENTER
 * @entry_rcx: RCX before TDG.VP.ENTER
 * @reasons: one bit per basic reason to capture at, up to reason 63
 *
 * The CPU holds an L2's registers only if TDG.VP.ENTER ran an L2, so an exit that is not
 * known to be an L2's is refused.
 *
 * Return: the verdict.
 */
static __always_inline enum drcache_l2_exit
drcache_l2_exit_decode(u64 rax, u64 entry_rcx, u64 reasons)
{
	const u64 async = (u64)TDX_CLASS_L2_EXIT_HOST_ROUTED_ASYNC << TDX_CLASS_SHIFT;

	/*
	 * Most exits end here, after one bit test, which takes the bit number modulo 64.
	 * Ignore VM 0 here: it would only select a different counter.
	 */
	if (!(reasons & BIT_ULL(rax & 63)))
		return drcache_l2_ran(rax) ? DRCACHE_L2_EXIT_FILTERED :
					     DRCACHE_L2_EXIT_REFUSED;
	if (!drcache_l2_exit_vm(entry_rcx))
		return DRCACHE_L2_EXIT_REFUSED;
	/* A shortcut: most exits have one of two classes and no other bits but the reason. */
	if (likely((rax & ~63ULL) == async || rax < 64))
		return DRCACHE_L2_EXIT_CAPTURE;
	if (!drcache_l2_ran(rax))
		return DRCACHE_L2_EXIT_REFUSED;
	if (rax >> TDX_CLASS_SHIFT == TDX_CLASS_L2_EXIT_HOST_ROUTED_TDVMCALL ||
	    (rax & TDX_BASIC_REASON_MASK) > 63)
		return DRCACHE_L2_EXIT_FILTERED;
	return DRCACHE_L2_EXIT_CAPTURE;
}

#endif /* _DRCACHE_L2_EXIT_H */
