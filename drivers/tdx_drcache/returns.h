/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Determine whether the debug registers are still as the last L2 exit left them, on a
 * CPU that has no breakpoints of L1 (see exclusive.c). Pure: no hardware.
 *
 * Only a #DB in L1 can have changed a register then, and it resets only DR6. Without
 * breakpoints in the kernel, a #DB comes from user mode. It does not come from the VMM's
 * task, which has been in the kernel since before the exit. So another task took it, and
 * that task first returned to user space on this CPU. At the first such return after
 * the exit, DR6 was still the L2's:
 *
 *   - If no other task has returned to user space since the VMM's task did, DR6 is the
 *     L2's.
 *   - If DR6 was the same at each of the other tasks' returns and is the same now, it is
 *     the L2's, or has the L2's value again.
 *
 * DR6 must match at all of these returns. The first alone is not enough: it may have been
 * before the exit, and the L2 may have left the value that a #DB leaves.
 */
#ifndef _DRCACHE_RETURNS_H
#define _DRCACHE_RETURNS_H

#include <linux/compiler.h>
#include <linux/types.h>

struct task_struct;

/*
 * Special values of struct drcache_returns::dr6. DR6 never has them, because its bits 4
 * to 10 are always set.
 */
#define DRCACHE_DR6_UNSEEN	0ULL	/* no other task has returned */
#define DRCACHE_DR6_UNLIKE	1ULL	/* DR6 differed between returns */
#define DRCACHE_DR6_NOBODY	2ULL	/* no task has returned yet */

/**
 * struct drcache_returns - a CPU's returns to user space
 * @task: the last task that returned after entering the L2. Until there is one, the first
 *	task that returned at all; NULL before that. Only compared, never dereferenced:
 *	should another task reuse the address, everything said of @task holds for both.
 * @dr6: DR6 at the returns of other tasks since @task's, if it was the same each time;
 *	otherwise DRCACHE_DR6_*
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

/*
 * Record the return of a task that has not entered the L2. Most often that is @r->task,
 * for which reading DR6 would be a waste.
 */
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
 * drcache_returns_exit() - record the return of a task that has entered the L2
 * @r: the CPU's earlier returns
 * @task: the task
 * @dr6: current DR6
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
