// SPDX-License-Identifier: GPL-2.0
/*
 * A mock host driver, which makes exits on a test's request.
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

/* Make mshv_vtl_set_exit_hook() fail with @err; 0: stop failing. */
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

/* Make an exit on @cpu. -ENODEV if no hook is set, -ENXIO if @cpu is offline. */
int mock_host_exit(unsigned int cpu, u64 exit_rax, u64 entry_rcx)
{
	struct mock_exit e = { exit_rax, entry_rcx };

	if (!hook)
		return -ENODEV;
	return smp_call_function_single(cpu, exit_ipi, &e, true);
}
