// SPDX-License-Identifier: GPL-2.0
/*
 * The host driver's side of include/linux/tdx_drcache_host.h: the hook, and the
 * function that sets it. A file of its own, because genksyms runs out of memory
 * on mshv_vtl_main.c if that has an EXPORT_SYMBOL().
 */
#include <linux/errno.h>
#include <linux/export.h>
#include <linux/mutex.h>
#include <linux/smp.h>

#include "mshv_vtl_exit_hook.h"

DEFINE_STATIC_CALL_NULL(mshv_vtl_exit_hook, mshv_vtl_exit_hook_fn);

/* Protects exit_hook_set: whether the static call has a target. */
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
		 * The hook runs with interrupts off, so a CPU that answers has
		 * left it. A grace period could end before that: RCU may not
		 * be watching where the hook runs.
		 */
		if (!fn)
			on_each_cpu(exit_hook_sync, NULL, 1);
	}
	mutex_unlock(&exit_hook_lock);
	return ret;
}
EXPORT_SYMBOL_GPL(mshv_vtl_set_exit_hook);
