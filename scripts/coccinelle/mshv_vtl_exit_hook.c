// SPDX-License-Identifier: GPL-2.0
/*
 * The host driver's side of include/linux/tdx_drcache_host.h: the hook, and the
 * function that sets it. This is a separate file because genksyms runs out of memory
 * on mshv_vtl_main.c if that has an EXPORT_SYMBOL().
 */
#include <linux/errno.h>
#include <linux/export.h>
#include <linux/mutex.h>
#include <linux/smp.h>

#include "mshv_vtl_exit_hook.h"

DEFINE_STATIC_CALL_NULL(mshv_vtl_exit_hook, mshv_vtl_exit_hook_fn);

/* Protects exit_hook_set, which is true while the static call has a target. */
static DEFINE_MUTEX(exit_hook_lock);
static bool exit_hook_set;

static void exit_hook_sync(void *unused)
{
}

int mshv_vtl_set_exit_hook(void (*fn)(u64 exit_rax, u64 entry_rcx))
{
	int ret = 0;

	mutex_lock(&exit_hook_lock);
	if (fn && exit_hook_set) {
		ret = -EBUSY;
	} else {
		static_call_update(mshv_vtl_exit_hook, fn);
		exit_hook_set = fn;
		/*
		 * The hook runs with interrupts off, so a CPU that takes the
		 * IPI has left it. Waiting for RCU is not enough: RCU may not
		 * be watching in the hook.
		 */
		if (!fn)
			on_each_cpu(exit_hook_sync, NULL, 1);
	}
	mutex_unlock(&exit_hook_lock);
	return ret;
}
EXPORT_SYMBOL_GPL(mshv_vtl_set_exit_hook);
