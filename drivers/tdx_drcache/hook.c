// SPDX-License-Identifier: GPL-2.0
/*
 * Choose the hook, and keep it in place while anybody owns a vCPU.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/module.h>
#include <linux/string.h>
#include <uapi/linux/tdx_drcache.h>

#include "hook.h"

/* In the order of preference. */
static const struct drcache_hook *const hooks[] = {
	&drcache_hook_callout,
	&drcache_hook_fprobe,
	&drcache_hook_return,
};

static char *hook = "auto";
module_param(hook, charp, 0444);
MODULE_PARM_DESC(hook, "how to learn of exits: auto (default), callout, fprobe or return");

#define WANTS_ANY "mshv_vtl_set_exit_hook(), traceable mshv_vtl_return_tdx(), or /dev/mshv in a TDX guest"

/* The one that hook= names; NULL for auto. Set at load. */
static const struct drcache_hook *forced;

/* The one in place, and how many owners need it. Under drcache_bind_lock. */
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

/* The module unloads, or could not be loaded. */
void drcache_hook_fini(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(hooks); i++) {
		if (hooks[i]->fini)
			hooks[i]->fini();
	}
}

/* May the hook be used: this kernel can have it, and hook= does not say otherwise. */
static bool is_allowed(const struct drcache_hook *h)
{
	return h->place && (!forced || h == forced);
}

/* TDX_DRCACHE_HOOK_*: the hook in place, or the one that would be. */
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
 * Another owner needs the hook. The hook, or an ERR_PTR(): -ENODEV if there is
 * nothing to hook.
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
		/* Only if there is nothing for it to hook is it the next one's turn. */
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

/* An owner less needs it. */
void drcache_hook_put(void)
{
	if (--users)
		return;
	if (placed->remove)
		placed->remove();
	WRITE_ONCE(placed, NULL);
}

/* This CPU is armed, with interrupts off. */
void drcache_hook_arm(bool exclusive)
{
	if (placed->arm)
		placed->arm(exclusive);
}

/* This CPU is not armed any more; interrupts are off. */
void drcache_hook_disarm(void)
{
	if (placed->disarm)
		placed->disarm();
}
