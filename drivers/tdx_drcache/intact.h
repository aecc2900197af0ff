/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Are the debug registers still as the last L2 exit left them? For a CPU whose
 * breakpoint registers are kept from L1, see exclusive.c. Pure: no hardware, no state.
 *
 * Only a #DB of L1's can have changed one then. It resets DR6, and nothing else. With
 * no breakpoint to hit in the kernel it comes from user mode, and not from the VMM's
 * task, which has been in the kernel since before the exit. So another task had it,
 * which went to user space on this CPU first. DR6 was still the L2's at the first such
 * return after the exit:
 *
 *   - If no other task went to user space since the VMM's did, DR6 is the L2's.
 *   - If DR6 was the same at each of their returns and is the same now, it is the
 *     L2's, or has the L2's value again.
 *
 * All of their returns have to be the same, not the first alone: that may have been
 * before the exit, and the L2 may have left what a #DB leaves.
 */
#ifndef _DRCACHE_INTACT_H
#define _DRCACHE_INTACT_H

#include <linux/compiler.h>
#include <linux/types.h>

/*
 * What other tasks saw in DR6 when they went to user space since the VMM's task did:
 * the value, if it was the same each time, or one of these. DR6 never has them, as its
 * bits 4 to 11 are always set.
 */
#define DRCACHE_DR6_UNSEEN	0ULL	/* there were none */
#define DRCACHE_DR6_UNLIKE	1ULL	/* not the same each time */

/* Another task goes to user space with @dr6: what they have seen by now. */
static __always_inline u64 drcache_dr6_seen(u64 seen, u64 dr6)
{
	if (likely(seen == dr6))
		return seen;
	return seen == DRCACHE_DR6_UNSEEN ? dr6 : DRCACHE_DR6_UNLIKE;
}

/**
 * drcache_intact() - are the debug registers as the last L2 exit left them?
 * @same_task: the task that returns from the ioctl is the one that @seen is about: it
 *	went to user space on this CPU before
 * @seen: of DR6, by others since
 * @dr6: DR6 now
 *
 * Return: true if they are; false if they may not be.
 */
static __always_inline bool drcache_intact(bool same_task, u64 seen, u64 dr6)
{
	return same_task && (seen == DRCACHE_DR6_UNSEEN || seen == dr6);
}

#endif /* _DRCACHE_INTACT_H */
