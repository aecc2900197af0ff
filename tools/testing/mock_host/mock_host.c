// SPDX-License-Identifier: GPL-2.0
/*
 * drcache_mock_host: a host driver without an L2, whose exits are calls of the hook. The
 * KUnit suites make them one at a time, count.c and stress.c in loops. It replaces
 * mshv_vtl_emul.ko: a machine has one host driver.
 */
#include <linux/errno.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/smp.h>
#include <linux/static_call.h>
#include <linux/tdx_drcache_host.h>

#include "mock_host.h"

const u8 mshv_vtl_emulated = 1;
EXPORT_SYMBOL_GPL(mshv_vtl_emulated);

typedef void (exit_hook_fn)(u64 exit_rax, u64 entry_rcx);
DEFINE_STATIC_CALL_NULL(mock_host_hook, exit_hook_fn);

static int fail_with;

int mshv_vtl_set_exit_hook(void (*fn)(u64 exit_rax, u64 entry_rcx))
{
	if (fn && fail_with)
		return fail_with;
	if (fn && mock_host_hooked())
		return -EBUSY;
	static_call_update(mock_host_hook, fn);
	/* The hook runs with interrupts off while RCU is watching, so RCU waits for it. */
	if (!fn)
		synchronize_rcu();
	return 0;
}
EXPORT_SYMBOL_GPL(mshv_vtl_set_exit_hook);

/**
 * mock_host_fail() - make mshv_vtl_set_exit_hook() refuse hooks
 * @err: the errno it returns; 0 to accept hooks again
 */
void mock_host_fail(int err)
{
	fail_with = err;
}
EXPORT_SYMBOL_GPL(mock_host_fail);

/* Return true if a hook is set. */
bool mock_host_hooked(void)
{
	return static_call_query(mock_host_hook);
}
EXPORT_SYMBOL_GPL(mock_host_hooked);

/**
 * mock_host_exit_here() - make an exit on this CPU
 * @exit_rax: RAX after TDG.VP.ENTER
 * @entry_rcx: RCX before it
 *
 * Calls the hook as a host driver does. count.c measures this function, so it has nothing
 * else.
 *
 * Context: Interrupts are off.
 */
void mock_host_exit_here(u64 exit_rax, u64 entry_rcx)
{
	static_call_cond(mock_host_hook)(exit_rax, entry_rcx);
}

struct mock_exit {
	u64 rax, rcx;
};

static void exit_ipi(void *info)
{
	const struct mock_exit *e = info;

	mock_host_exit_here(e->rax, e->rcx);
}

/**
 * mock_host_exit() - make an exit on any CPU
 * @cpu: the CPU
 * @exit_rax: RAX after TDG.VP.ENTER
 * @entry_rcx: RCX before it
 *
 * Return: 0; -ENODEV if no hook is set, -ENXIO if @cpu is offline.
 */
int mock_host_exit(unsigned int cpu, u64 exit_rax, u64 entry_rcx)
{
	struct mock_exit e = { exit_rax, entry_rcx };

	if (!mock_host_hooked())
		return -ENODEV;
	return smp_call_function_single(cpu, exit_ipi, &e, true);
}
EXPORT_SYMBOL_GPL(mock_host_exit);

MODULE_DESCRIPTION("Mock host driver, to test and measure tdx_drcache");
MODULE_AUTHOR("The tdx-drcache maintainers");
MODULE_LICENSE("GPL");
