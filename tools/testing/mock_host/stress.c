// SPDX-License-Identifier: GPL-2.0
/*
 * drcache_stress: exits as fast as possible, to find torn snapshots. A mock host
 * driver that loads DR0-DR3 and DR6 with values derived from a number, makes an
 * exit, and goes on to the next number. Writing N to the parameter "exits" does
 * that N times on the writer's CPU; selftests/torn.c reads on others.
 */
#include <linux/irqflags.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/tdx_drcache_host.h>
#include <tdx/tdg_vp.h>

#include "stress.h"

#define BATCH		1000

static void (*hook)(u64 exit_rax, u64 entry_rcx);

const u8 mshv_vtl_emulated = 1;
EXPORT_SYMBOL_GPL(mshv_vtl_emulated);

/* The hook runs with interrupts off, so RCU waits for it. */
int mshv_vtl_set_exit_hook(void (*fn)(u64 exit_rax, u64 entry_rcx))
{
	if (fn && hook)
		return -EBUSY;
	WRITE_ONCE(hook, fn);
	if (!fn)
		synchronize_rcu();
	return 0;
}
EXPORT_SYMBOL_GPL(mshv_vtl_set_exit_hook);

#define write_dr(reg, val)	asm volatile("mov %0, %%db" #reg : : "r" (val))

static void one_exit(void (*fn)(u64 exit_rax, u64 entry_rcx), u64 n)
{
	write_dr(0, stress_db(n, 0));
	write_dr(1, stress_db(n, 1));
	write_dr(2, stress_db(n, 2));
	write_dr(3, stress_db(n, 3));
	write_dr(6, stress_dr6(n));
	fn(stress_rax(n), 1ULL << TDX_ENTRY_VM_SHIFT);
}

static int exits_set(const char *val, const struct kernel_param *kp)
{
	void (*fn)(u64 exit_rax, u64 entry_rcx);
	static u64 n;
	unsigned long flags;
	u64 end;
	int i, ret = kstrtou64(val, 0, &end);

	if (ret)
		return ret;
	end += n;
	while (n < end) {
		local_irq_save(flags);
		fn = READ_ONCE(hook);
		for (i = 0; fn && i < BATCH && n < end; i++)
			one_exit(fn, n++);
		write_dr(6, STRESS_DR6_REST);
		local_irq_restore(flags);
		if (!fn)
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

MODULE_DESCRIPTION("Exits as fast as possible, to test tdx_drcache");
MODULE_AUTHOR("The tdx-drcache maintainers");
MODULE_LICENSE("GPL");
