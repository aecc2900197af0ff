// SPDX-License-Identifier: GPL-2.0
/*
 * A host driver that has exits when a test says so.
 */
#include <linux/errno.h>
#include <linux/module.h>
#include <linux/smp.h>
#include <linux/tdx_drcache_host.h>

#include "mock_host.h"

const u8 mshv_vtl_emulated = 1;
EXPORT_SYMBOL_GPL(mshv_vtl_emulated);

static void (*hook)(u64 exit_rax, u64 entry_rcx);
static int fail_with;

int mshv_vtl_set_exit_hook(void (*fn)(u64 exit_rax, u64 entry_rcx))
{
	if (fn && fail_with)
		return fail_with;
	if (fn && hook)
		return -EBUSY;
	hook = fn;
	return 0;
}
EXPORT_SYMBOL_GPL(mshv_vtl_set_exit_hook);

/* Have the next mshv_vtl_set_exit_hook() fail; 0: no more. */
void mock_host_fail(int err)
{
	fail_with = err;
}

bool mock_host_hooked(void)
{
	return hook;
}

struct mock_exit {
	u64 rax, rcx;
};

static void exit_ipi(void *info)
{
	const struct mock_exit *e = info;

	hook(e->rax, e->rcx);
}

/* An exit on @cpu. -ENODEV if nobody listens, -ENXIO if it is offline. */
int mock_host_exit(unsigned int cpu, u64 exit_rax, u64 entry_rcx)
{
	struct mock_exit e = { exit_rax, entry_rcx };

	if (!hook)
		return -ENODEV;
	return smp_call_function_single(cpu, exit_ipi, &e, true);
}
