// SPDX-License-Identifier: GPL-2.0
/*
 * Idle-thread mode: the VMM's task sleeps while the CPU's idle task enters the L2
 * in place of idling. After the exit the idle task wakes the VMM's task.
 *
 * Modelled on drivers/hv/mshv_vtl_main.c of OHCL-Linux-Kernel (00d95ddb1b73):
 * mshv_vtl_idle(), and mshv_vtl_ioctl_return_to_lower_vtl() for the task's part.
 *
 * The real driver is built in and replaces x86_idle, which is not exported. A
 * cpuidle driver with one state does the same here: the idle loop calls its enter
 * callback in place of x86_idle, with interrupts off and, in 6.1 to 7.x alike,
 * with the tick stopped. A kernel has at most one cpuidle driver. If there is
 * another (intel_idle, haltpoll, ACPI's), or cpuidle takes none, the mode is not
 * available and the L2 is entered as in play idle. The real driver does the same
 * until its idle routine is in place.
 *
 * The CPU also idles in this driver when no task waits. As in the real driver, the
 * deadline of the L2 that last ran on the CPU then wakes it, and leaves reason 52
 * in the run page.
 *
 * Two differences from the real driver:
 *
 * - The state has CPUIDLE_FLAG_RCU_IDLE, so RCU stops watching only within the
 *   callback and watches when it wakes the task. In the real driver RCU does not
 *   watch there, and lockdep would complain.
 * - The task can't migrate while it sleeps, so it never runs at the same time as
 *   the idle task. The real driver takes a migration for an exit. A CPU goes
 *   offline once the task has left.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpu.h>
#include <linux/cpuidle.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/stop_machine.h>
#include <asm/processor.h>

#include "vtl.h"

static bool available;

static int set_available(const char *val, const struct kernel_param *kp)
{
	return -EPERM;
}

static const struct kernel_param_ops available_ops = {
	.set = set_available,
	.get = param_get_bool,
};
module_param_cb(idle_thread, &available_ops, &available, 0444);
MODULE_PARM_DESC(idle_thread, "idle-thread mode is available (read only)");

/* The VMM's task that sleeps on this CPU while the idle task enters the L2. */
static DEFINE_PER_CPU(struct task_struct *, waiting);

#ifdef CONFIG_CPU_IDLE

static struct cpumask idle_cpus;

/* Runs in the idle task, with interrupts off. */
static int enter_idle(struct cpuidle_device *dev, struct cpuidle_driver *drv, int index)
{
	struct mshv_vtl_run *run = mshv_vtl_this_run();
	struct task_struct *task = this_cpu_read(waiting);
	bool armed;

	if (!task) {
		armed = vtl_halt_arm(run);
		vtl_halt(true);
		if (armed)
			vtl_halt_disarm(run);
		return index;
	}
	if (!READ_ONCE(run->cancel)) {
		vtl_switch_irqoff(run, MSHV_ENTER_IDLE_THREAD);
		this_cpu_write(waiting, NULL);
	}
	wake_up_process(task);
	return index;
}

/* No owner: the module would hold a reference to itself. */
static struct cpuidle_driver idle_driver = {
	.name = "mshv_vtl_emul",
	.states = {
		{
			.name = "VTL",
			.desc = "the lower VTL, or HLT",
			.flags = CPUIDLE_FLAG_RCU_IDLE,
			.enter = enter_idle,
		},
	},
	.state_count = 1,
	.cpumask = &idle_cpus,
};

static int nothing(void *unused)
{
	return 0;
}

void __init vtl_idle_init(void)
{
	struct cpuidle_driver *other = cpuidle_get_driver();

	cpumask_copy(&idle_cpus, cpu_present_mask);
	if (other)
		pr_info("no idle-thread mode: %s is the cpuidle driver\n", other->name);
	else if (boot_option_idle_override == IDLE_POLL)
		pr_info("no idle-thread mode: idle=poll\n");
	else if (cpuidle_register(&idle_driver, NULL))
		pr_info("no idle-thread mode: cpuidle accepts no driver\n");
	else
		available = true;
}

void vtl_idle_fini(void)
{
	if (!available)
		return;
	cpuidle_unregister(&idle_driver);
	/* Wait for every CPU to leave enter_idle(). */
	stop_machine(nothing, NULL, NULL);
}

static bool on_idle_cpu(void)
{
	return cpumask_test_cpu(smp_processor_id(), &idle_cpus);
}

#else

void __init vtl_idle_init(void)
{
	pr_info("no idle-thread mode: this kernel has no cpuidle\n");
}

void vtl_idle_fini(void)
{
}

static bool on_idle_cpu(void)
{
	return false;
}

#endif /* CONFIG_CPU_IDLE */

/* True if a task can wait on this CPU; only one can at a time. Preemption is off. */
bool vtl_idle_available(void)
{
	return available && on_idle_cpu() && !this_cpu_read(waiting);
}

/**
 * vtl_idle_wait() - have the idle task of this CPU enter the L2
 * @irq_flags: from local_irq_save(); restored
 *
 * Context: Interrupts and preemption off. Sleeps; returns with preemption off.
 * Return: true if the L2 was entered, false if something else woke the task.
 */
bool vtl_idle_wait(unsigned long irq_flags)
{
	bool entered;

	set_current_state(TASK_INTERRUPTIBLE);
	this_cpu_write(waiting, current);
	migrate_disable();
	local_irq_restore(irq_flags);

	/* schedule_preempt_disabled() is not exported. */
	preempt_enable();
	schedule();
	preempt_disable();

	entered = !this_cpu_read(waiting);
	this_cpu_write(waiting, NULL);
	migrate_enable();
	return entered;
}
