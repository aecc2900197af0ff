// SPDX-License-Identifier: GPL-2.0
/*
 * Choose a hook, and keep it in place while any vCPU has an owner.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/module.h>
#include <linux/string.h>
#include <uapi/linux/tdx_drcache.h>

#include "hook.h"

/* In order of preference. */
static const struct drcache_hook *const hooks[] = {
	&drcache_hook_callout,
	&drcache_hook_fprobe,
	&drcache_hook_return,
};

static char *hook = "auto";
module_param(hook, charp, 0444);
MODULE_PARM_DESC(hook, "how to detect exits: auto (default), callout, fprobe or return");

#define WANTS_ANY "mshv_vtl_set_exit_hook(), traceable mshv_vtl_return_tdx(), or /dev/mshv in a TDX guest"

/* The hook named by hook=; NULL for auto. Set at load. */
static const struct drcache_hook *forced;

/* The hook in place, and its number of owners. Protected by drcache_bind_lock. */
static const struct drcache_hook *placed;
static unsigned int users;

int __init drcache_hook_init(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(hooks); i++) {
		if (!strcmp(hook, hooks[i]->name))
			forced = hooks[i];
	}
	if (!forced && strcmp(hook, "auto")) {
		pr_err("hook=%s is not known\n", hook);
		return -EINVAL;
	}
	for (i = 0; i < ARRAY_SIZE(hooks); i++) {
		if (hooks[i]->init)
			hooks[i]->init();
	}
	return 0;
}

/* Called when the module unloads or fails to load. */
void drcache_hook_fini(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(hooks); i++) {
		if (hooks[i]->fini)
			hooks[i]->fini();
	}
}

/* Built in, and not excluded by hook=. */
static bool is_allowed(const struct drcache_hook *h)
{
	return h->place && (!forced || h == forced);
}

/* Return TDX_DRCACHE_HOOK_* of the hook in place, or else of the first available one. */
u32 drcache_hook_which(void)
{
	const struct drcache_hook *h = READ_ONCE(placed);
	unsigned int i;

	if (h)
		return h->id;
	for (i = 0; i < ARRAY_SIZE(hooks); i++) {
		if (is_allowed(hooks[i]) && hooks[i]->available())
			return hooks[i]->id;
	}
	return TDX_DRCACHE_HOOK_NONE;
}

/*
 * Add an owner; place the hook for the first. Return the hook or an ERR_PTR(), -ENODEV
 * if there is nothing to hook.
 */
const struct drcache_hook *drcache_hook_get(void)
{
	const struct drcache_hook *h;
	int ret = -ENOENT;
	unsigned int i;

	if (users) {
		users++;
		return placed;
	}
	for (i = 0; i < ARRAY_SIZE(hooks); i++) {
		h = hooks[i];
		if (is_allowed(h))
			ret = h->place();
		/* Try the next hook only if this one found nothing to hook. */
		if (ret != -ENOENT)
			break;
	}
	if (ret == -ENOENT) {
		pr_notice_ratelimited("no host driver to hook: found no %s\n",
				      forced ? forced->wants : WANTS_ANY);
		return ERR_PTR(-ENODEV);
	}
	if (ret) {
		pr_notice_ratelimited("the %s hook could not be placed: %d\n",
				      h->name, ret);
		return ERR_PTR(ret);
	}
	WRITE_ONCE(placed, h);
	users = 1;
	return h;
}

/* Drop one owner's reference; remove the hook with the last. */
void drcache_hook_put(void)
{
	if (--users)
		return;
	if (placed->remove)
		placed->remove();
	WRITE_ONCE(placed, NULL);
}

/* Arm the hook on this CPU. Interrupts are off. */
void drcache_hook_arm(bool exclusive)
{
	if (placed->arm)
		placed->arm(exclusive);
}

/* Disarm the hook on this CPU. Interrupts are off. */
void drcache_hook_disarm(void)
{
	if (placed->disarm)
		placed->disarm();
}
