// SPDX-License-Identifier: GPL-2.0
/*
 * Exits as fast as possible, to find torn snapshots. At each exit DR0-DR3 and DR6 have
 * values derived from the exit's number. Writing N to the parameter "exits" makes N exits
 * on the writer's CPU; selftests/torn.c reads on others.
 */
#include <linux/irqflags.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <tdx/tdg_vp.h>

#include "mock_host.h"
#include "stress.h"

#define BATCH		1000

#define write_dr(reg, val)	asm volatile("mov %0, %%db" #reg : : "r" (val))

static void one_exit(u64 n)
{
	write_dr(0, stress_db(n, 0));
	write_dr(1, stress_db(n, 1));
	write_dr(2, stress_db(n, 2));
	write_dr(3, stress_db(n, 3));
	write_dr(6, stress_dr6(n));
	mock_host_exit_here(stress_rax(n), 1ULL << TDX_ENTRY_VM_SHIFT);
}

static int exits_set(const char *val, const struct kernel_param *kp)
{
	static u64 n;
	unsigned long flags;
	bool hooked;
	u64 end;
	int i, ret = kstrtou64(val, 0, &end);

	if (ret)
		return ret;
	end += n;
	while (n < end) {
		local_irq_save(flags);
		hooked = mock_host_hooked();
		for (i = 0; hooked && i < BATCH && n < end; i++)
			one_exit(n++);
		write_dr(6, STRESS_DR6_REST);
		local_irq_restore(flags);
		if (!hooked)
			return -ENOTCONN;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

static const struct kernel_param_ops exits_ops = {
	.set = exits_set,
};
module_param_cb(exits, &exits_ops, NULL, 0200);
MODULE_PARM_DESC(exits, "write N to make N exits on this CPU");
