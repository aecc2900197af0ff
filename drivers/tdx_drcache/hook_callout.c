// SPDX-License-Identifier: GPL-2.0
/*
 * The callout hook: the host driver calls the module right after TDG.VP.ENTER. See
 * include/linux/tdx_drcache_host.h for the contract.
 */
#include <linux/module.h>
#include <linux/tdx_drcache_host.h>
#include <uapi/linux/tdx_drcache.h>

#include "capture.h"
#include "hook.h"

/* The host driver's function. The reference is held while the hook is in place. */
static typeof(&mshv_vtl_set_exit_hook) set_exit_hook;

static bool callout_available(void)
{
	if (!symbol_get(mshv_vtl_set_exit_hook))
		return false;
	symbol_put(mshv_vtl_set_exit_hook);
	return true;
}

static int callout_place(void)
{
	int ret;

	set_exit_hook = symbol_get(mshv_vtl_set_exit_hook);
	if (!set_exit_hook)
		return -ENOENT;
	ret = set_exit_hook(drcache_capture_exit);
	if (ret)
		symbol_put(mshv_vtl_set_exit_hook);
	return ret;
}

static void callout_remove(void)
{
	set_exit_hook(NULL);
	symbol_put(mshv_vtl_set_exit_hook);
}

const struct drcache_hook drcache_hook_callout = {
	.id		= TDX_DRCACHE_HOOK_CALLOUT,
	.name		= "callout",
	.wants		= "mshv_vtl_set_exit_hook()",
	.available	= callout_available,
	.place		= callout_place,
	.remove		= callout_remove,
};
