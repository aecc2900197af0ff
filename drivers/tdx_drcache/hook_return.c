// SPDX-License-Identifier: GPL-2.0
/*
 * The return hook: a user-return notifier, for kernels that have nothing better.
 * It sees the VMM on its way back to user space, long after the exit: interrupts
 * were taken, and other tasks may have run. So it has to know that nobody has
 * touched the debug registers since the L2 left them.
 *
 * L1 writes them when it switches to a task that has breakpoints, when a breakpoint
 * of a CPU comes or goes, and when it handles a #DB, which only a breakpoint brings
 * in kernel mode. The notifier runs at every return to user space of its CPU, and
 * each time notes down
 *
 *   - who returned, unless L1 has a breakpoint on the CPU: that may be hit at any
 *     time, which resets DR6 and changes nothing that could be seen here;
 *   - how often that task has been switched away from: the same at the next
 *     return means that no other ran here in between;
 *   - how many function-call interrupts the CPU has had: breakpoints come to it
 *     by these, but for those of the task that runs.
 *
 * If all are the same when the ioctl that enters the L2 returns as they were when
 * its caller last went to user space, the registers are as the last exit left
 * them. If not, the exit is a miss.
 *
 * Only the return of that ioctl, with success, captures: at any other, an exit
 * that was missed before would pass for one that is intact now. The caller's own
 * registers tell the ioctl; a VMM that lies there spoils its own snapshots only.
 * If a signal handler is to run first, they are the handler's already. Then there is
 * no capture, and an older snapshot is stale by its time stamp.
 *
 * While the vCPU is exclusive, L1 has no breakpoint that could come with a switch or an
 * interrupt. Then far less has to be looked at, and the exit is a miss only if another
 * task's #DB may have reset DR6: see returns.h. Or if L1 has slept, as a CPU that wakes
 * up gets L1's debug registers.
 */
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/sched/task_stack.h>
#include <linux/suspend.h>
#include <linux/unistd.h>
#include <linux/user-return-notifier.h>
#include <asm/debugreg.h>
#include <asm/hardirq.h>
#include <asm/vmx.h>
#include <uapi/linux/tdx_drcache.h>

#include "capture.h"
#include "compat.h"
#include "hook.h"
#include "host_driver.h"
#include "regs.h"
#include "returns.h"
#include "run_page.h"

#ifdef CONFIG_USER_RETURN_NOTIFIER

/**
 * struct return_cpu - the last return to user space of this CPU
 * @urn: the notifier
 * @task: who returned; compared, never followed. NULL if L1 had a breakpoint.
 * @events: its switches and this CPU's function-call interrupts. One sum is enough,
 *	as neither ever goes down.
 * @returns: while exclusive, instead of @task and @events
 * @sleeps: what sleeps was at the last capture while exclusive
 */
struct return_cpu {
	struct user_return_notifier urn;
	const struct task_struct *task;
	u32 events;
	struct drcache_returns returns;
	unsigned int sleeps;
};

static DEFINE_PER_CPU(struct return_cpu, return_cpu);

/*
 * Goes up when L1 starts to go to sleep, and when it is awake again. Odd in between:
 * tasks are frozen and thawed then, maybe on their way back from the L2.
 */
static unsigned int sleeps;

static int on_sleep(struct notifier_block *nb, unsigned long event, void *unused)
{
	switch (event) {
	case PM_HIBERNATION_PREPARE:
	case PM_SUSPEND_PREPARE:
	case PM_RESTORE_PREPARE:
		WRITE_ONCE(sleeps, sleeps | 1);
		break;
	case PM_POST_HIBERNATION:
	case PM_POST_SUSPEND:
	case PM_POST_RESTORE:
		WRITE_ONCE(sleeps, (sleeps | 1) + 1);
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block sleep_nb = { .notifier_call = on_sleep };

/* As long as the module is loaded: a BIND may be in the middle of a suspend. */
static void return_init(void)
{
	register_pm_notifier(&sleep_nb);
}

static void return_fini(void)
{
	unregister_pm_notifier(&sleep_nb);
}

/* Does this CPU return from an ioctl that has entered the L2? */
static __always_inline bool returns_from_l2(const struct pt_regs *regs)
{
	return regs->orig_ax == __NR_ioctl &&
	       regs->si == MSHV_VTL_RETURN_TO_LOWER_VTL && !regs->ax;
}

static __always_inline void note_return(struct return_cpu *r, const struct task_struct *task,
				 u32 events)
{
	r->task = task;
	r->events = events;
}

/* An ioctl that has entered the L2 returns. */
static __always_inline void capture_if(bool intact)
{
	const struct mshv_vtl_run *run = drcache_run_page();

	if (!run || !drcache_run_page_is_mine())
		return;
	if (intact)
		drcache_capture_exit_late(READ_ONCE(run->exit_info.rax),
				       READ_ONCE(run->entry_rcx));
	else
		drcache_capture_missed();
}

/* Not inlined, to save the other returns its stack. */
static noinline notrace void capture(struct return_cpu *r, const struct task_struct *task,
				     u32 events)
{
	bool intact = task && r->task == task && r->events == events;

	note_return(r, task, events);
	capture_if(intact);
}
NOKPROBE_SYMBOL(capture);

static noinline notrace void capture_exclusive(struct return_cpu *r,
					       const struct task_struct *task)
{
	unsigned int now = READ_ONCE(sleeps);
	bool awake = now == r->sleeps && !(now & 1);

	r->sleeps = now;
	/* Not the other way round: it counts as a return in any case. */
	capture_if(drcache_returns_exit(&r->returns, task, drcache_read_dr6()) && awake);
}
NOKPROBE_SYMBOL(capture_exclusive);

/* Interrupts are off. Every return to user space of this CPU pays for this. */
static notrace void on_user_return(struct user_return_notifier *urn)
{
	struct return_cpu *r = container_of(urn, struct return_cpu, urn);
	const struct task_struct *task = current;
	u32 events = task->nvcsw + task->nivcsw + drcache_call_interrupts();
	bool returns = returns_from_l2(task_pt_regs(task));

	if (unlikely(raw_cpu_read(cpu_dr7) & DR_GLOBAL_ENABLE_MASK))
		task = NULL;
	if (unlikely(returns))
		capture(r, task, events);
	else
		note_return(r, task, events);
}
NOKPROBE_SYMBOL(on_user_return);

/* The same while the vCPU is exclusive. */
static notrace void on_user_return_exclusive(struct user_return_notifier *urn)
{
	struct return_cpu *r = container_of(urn, struct return_cpu, urn);
	const struct task_struct *task = current;

	if (unlikely(returns_from_l2(task_pt_regs(task))))
		capture_exclusive(r, task);
	else
		drcache_returns_any(&r->returns, task, drcache_read_dr6);
}
NOKPROBE_SYMBOL(on_user_return_exclusive);

static int return_place(void)
{
	return drcache_host_driver_present() ? 0 : -ENOENT;
}

static void return_arm(bool exclusive)
{
	struct return_cpu *r = this_cpu_ptr(&return_cpu);

	/* Nothing of before counts. */
	r->task = NULL;
	drcache_returns_reset(&r->returns);
	r->sleeps = READ_ONCE(sleeps);
	r->urn.on_user_return = exclusive ? on_user_return_exclusive : on_user_return;
	user_return_notifier_register(&r->urn);
}

static void return_disarm(void)
{
	user_return_notifier_unregister(&this_cpu_ptr(&return_cpu)->urn);
}

#endif /* CONFIG_USER_RETURN_NOTIFIER */

const struct drcache_hook drcache_hook_return = {
	.id		= TDX_DRCACHE_HOOK_RETURN,
	.name		= "return",
	.wants		= "/dev/mshv in a TDX guest, with CONFIG_USER_RETURN_NOTIFIER",
	.needs_run_page	= true,
	.native_only	= true,
	/*
	 * The host driver writes this one when a halt timer expires, with no L2
	 * entered: OHCL-Linux-Kernel, mshv_tdx_halt_timer_post().
	 */
	.untold		= BIT_ULL(EXIT_REASON_PREEMPTION_TIMER),
#ifdef CONFIG_USER_RETURN_NOTIFIER
	.available	= drcache_host_driver_present,
	.place		= return_place,
	.arm		= return_arm,
	.disarm		= return_disarm,
	.init		= return_init,
	.fini		= return_fini,
#endif
};
