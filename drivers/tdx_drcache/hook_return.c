// SPDX-License-Identifier: GPL-2.0
/*
 * The return hook: a user-return notifier, for kernels where neither other hook works.
 * It runs when the VMM returns to user space, long after the exit: L1 has taken
 * interrupts since, and other tasks may have run. So the hook has to make sure that
 * L1 has not written the debug registers since the exit.
 *
 * L1 writes them when it switches to a task with breakpoints, when a breakpoint on the
 * CPU is placed or removed, and when it handles a #DB. In kernel mode only a
 * breakpoint causes a #DB. The notifier runs at every return to user space on its CPU
 * and records
 *
 *   - the task that returned, unless L1 has a breakpoint on the CPU. A breakpoint may
 *     be hit at any time, and the hook cannot see that the hit reset DR6.
 *   - how often that task has been switched away from. If this is unchanged at the
 *     next return, no other task ran here in between.
 *   - how many function-call interrupts the CPU has had. They carry every breakpoint
 *     that is placed on the CPU, except those of the running task.
 *
 * If these are unchanged between the caller's last return to user space and the
 * return of the ioctl that enters the L2, the registers are as the last exit left
 * them. Otherwise the exit is a miss.
 *
 * Only a successful return of that ioctl captures. At any other return, an exit
 * missed earlier would look intact. The hook recognizes the ioctl by the caller's saved
 * registers; a VMM that forges them spoils only its own snapshots. If a signal handler
 * runs first, the saved registers are already the handler's. Nothing is captured then,
 * and the time stamp shows that an older snapshot is stale.
 *
 * While the vCPU is exclusive, L1 has no breakpoint that a switch or an interrupt could
 * bring. The exit is then a miss only if another task's #DB may have reset DR6 (see
 * returns.h), or if L1 slept, because a CPU that wakes up gets L1's debug registers.
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
 * struct return_cpu - the last return to user space on a CPU
 * @urn: the notifier
 * @task: the task that returned; only compared, never dereferenced. NULL if L1 had a
 *	breakpoint.
 * @events: sum of the task's context switches and the CPU's function-call interrupts.
 *	The sum suffices because neither ever decreases.
 * @returns: replaces @task and @events while exclusive
 * @sleeps: value of the variable sleeps at the last capture while exclusive
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
 * Incremented when L1 starts to suspend or hibernate and when it has resumed. Odd in
 * between, when tasks are frozen and thawed, perhaps on their way back from the L2.
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

/* Registered while the module is loaded, because a BIND may happen during a suspend. */
static void return_init(void)
{
	register_pm_notifier(&sleep_nb);
}

static void return_fini(void)
{
	unregister_pm_notifier(&sleep_nb);
}

/* Return true if the task returns from an ioctl that entered the L2. */
static __always_inline bool returns_from_l2(const struct pt_regs *regs)
{
	return regs->orig_ax == __NR_ioctl &&
	       regs->si == MSHV_VTL_RETURN_TO_LOWER_VTL && !regs->ax;
}

static __always_inline void note_return(struct return_cpu *r,
					const struct task_struct *task, u32 events)
{
	r->task = task;
	r->events = events;
}

/* Report the exit of the returning ioctl. */
static __always_inline void capture_if(bool intact)
{
	const struct mshv_vtl_run *run = drcache_run_page();

	if (!run || !drcache_run_page_is_mine())
		return;
	if (intact)
		drcache_capture_exit_late(READ_ONCE(run->exit_info.rax),
					  READ_ONCE(run->entry_rcx));
	else
		drcache_capture_lost();
}

/* Not inlined, to keep its stack frame off all other returns. */
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
	/* Call drcache_returns_exit() first: it must record every return. */
	capture_if(drcache_returns_exit(&r->returns, task, drcache_read_dr6()) && awake);
}
NOKPROBE_SYMBOL(capture_exclusive);

/* Called with interrupts off, at every return to user space on this CPU. */
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

/* Used instead while the vCPU is exclusive. */
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

	/* Forget all earlier returns. */
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
	 * The host driver also writes this reason when a halt timer expires and no
	 * L2 was entered: OHCL-Linux-Kernel, mshv_tdx_halt_timer_post().
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
