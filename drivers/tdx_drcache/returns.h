/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Are the debug registers still as the last L2 exit left them? For a CPU whose
 * breakpoint registers are kept from L1, see exclusive.c. Pure: no hardware.
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
#ifndef _DRCACHE_RETURNS_H
#define _DRCACHE_RETURNS_H

#include <linux/compiler.h>
#include <linux/types.h>

struct task_struct;

/* struct drcache_returns::dr6. Not values of DR6, whose bits 4 to 10 are always set. */
#define DRCACHE_DR6_UNSEEN	0ULL	/* no other returned */
#define DRCACHE_DR6_UNLIKE	1ULL	/* it was not the same each time */
#define DRCACHE_DR6_NOBODY	2ULL	/* no task returned yet */

/**
 * struct drcache_returns - a CPU's returns to user space
 * @task: the last that had entered the L2. As long as none has, the first that returned
 *	at all, and NULL before that. Compared, never followed: when another task has its
 *	address, what is said of @task holds for both.
 * @dr6: DR6 at the returns of others since that of @task, if it was the same each
 *	time; or DRCACHE_DR6_*
 */
struct drcache_returns {
	const struct task_struct *task;
	u64 dr6;
};

static __always_inline void drcache_returns_reset(struct drcache_returns *r)
{
	r->task = NULL;
	r->dr6 = DRCACHE_DR6_NOBODY;
}

/* A task returns that has not entered the L2. Most are the VMM's own: no DR6 then. */
static __always_inline void drcache_returns_any(struct drcache_returns *r,
						const struct task_struct *task,
						u64 (*read_dr6)(void))
{
	u64 dr6;

	if (r->task == task) {
		r->dr6 = DRCACHE_DR6_UNSEEN;
		return;
	}
	dr6 = read_dr6();
	if (likely(r->dr6 == dr6))
		return;
	if (r->dr6 == DRCACHE_DR6_UNSEEN) {
		r->dr6 = dr6;
	} else if (r->dr6 == DRCACHE_DR6_NOBODY) {
		r->task = task;
		r->dr6 = DRCACHE_DR6_UNSEEN;
	} else {
		r->dr6 = DRCACHE_DR6_UNLIKE;
	}
}

/**
 * drcache_returns_exit() - a task returns that has entered the L2
 * @r: the CPU's returns until now
 * @task: the task
 * @dr6: DR6 now
 *
 * Return: true if the debug registers are as the last exit on this CPU left them;
 * false if they may not be.
 */
static __always_inline bool drcache_returns_exit(struct drcache_returns *r,
						 const struct task_struct *task, u64 dr6)
{
	bool intact = r->task == task &&
		      (r->dr6 == DRCACHE_DR6_UNSEEN || r->dr6 == dr6);

	r->task = task;
	r->dr6 = DRCACHE_DR6_UNSEEN;
	return intact;
}

#endif /* _DRCACHE_RETURNS_H */
