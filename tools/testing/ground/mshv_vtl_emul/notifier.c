// SPDX-License-Identifier: GPL-2.0
/*
 * The host driver's own user-return notifier; a hook's notifier must work beside it.
 *
 * Modelled on drivers/hv/mshv_vtl_main.c of OHCL-Linux-Kernel (00d95ddb1b73):
 * mshv_vtl_return_tdx() registers it at an entry unless it is registered already.
 * mshv_vtl_on_user_return() unregisters it from within the callback and restores
 * L1's system call MSRs. An emulated L2 has its own, so nothing is restored here.
 */
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/user-return-notifier.h>

#include "vtl.h"

#ifdef CONFIG_USER_RETURN_NOTIFIER

/**
 * struct notifier - per-CPU notifier
 * @urn: the notifier
 * @registered: @urn is registered; changed on its CPU with interrupts off
 * @calls: number of calls
 */
struct notifier {
	struct user_return_notifier urn;
	bool registered;
	unsigned long calls;
};

static DEFINE_PER_CPU(struct notifier, notifiers);

static int get_calls(char *buffer, const struct kernel_param *kp)
{
	unsigned long calls = 0;
	unsigned int cpu;

	for_each_possible_cpu(cpu)
		calls += READ_ONCE(per_cpu(notifiers, cpu).calls);
	return sysfs_emit(buffer, "%lu\n", calls);
}

static int set_calls(const char *val, const struct kernel_param *kp)
{
	return -EPERM;
}

static const struct kernel_param_ops calls_ops = {
	.set = set_calls,
	.get = get_calls,
};
module_param_cb(user_returns, &calls_ops, NULL, 0444);
MODULE_PARM_DESC(user_returns, "calls of the driver's own user-return notifier (read only)");

static void unregister(struct notifier *n)
{
	n->registered = false;
	user_return_notifier_unregister(&n->urn);
}

static void on_user_return(struct user_return_notifier *urn)
{
	struct notifier *n = container_of(urn, struct notifier, urn);

	unregister(n);
	n->calls++;
}

/* Interrupts are off; RCU may not be watching. */
void vtl_notifier_enter(void)
{
	struct notifier *n = this_cpu_ptr(&notifiers);

	if (n->registered)
		return;
	n->urn.on_user_return = on_user_return;
	user_return_notifier_register(&n->urn);
	n->registered = true;
}

/* Runs on a CPU that goes offline. The task may return to user space on another. */
void vtl_notifier_offline(void)
{
	struct notifier *n = this_cpu_ptr(&notifiers);
	unsigned long flags;

	local_irq_save(flags);
	if (n->registered)
		unregister(n);
	local_irq_restore(flags);
}

#else

void vtl_notifier_enter(void)
{
}

void vtl_notifier_offline(void)
{
}

#endif /* CONFIG_USER_RETURN_NOTIFIER */
