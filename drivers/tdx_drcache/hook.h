/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _DRCACHE_HOOK_H
#define _DRCACHE_HOOK_H

#include <linux/types.h>

/**
 * struct drcache_hook - a way to learn of exits
 * @id: TDX_DRCACHE_HOOK_*
 * @name: for the hook= parameter
 * @wants: what it looks for in the kernel, for the log
 * @available: can it be placed now?
 * @place: from now on have drcache_vcpu_exit() called at each exit; -ENODEV if
 *	there is nothing to hook
 * @remove: when it returns no CPU is in drcache_vcpu_exit() by this hook, or
 *	will be
 *
 * Context: All may sleep, and are called with drcache_bind_lock held, but for
 * @available.
 */
struct drcache_hook {
	u32 id;
	const char *name;
	const char *wants;
	bool (*available)(void);
	int (*place)(void);
	void (*remove)(void);
};

extern const struct drcache_hook drcache_hook_callout;

int drcache_hook_init(void);
u32 drcache_hook_which(void);
int drcache_hook_get(void);
void drcache_hook_put(void);

#endif /* _DRCACHE_HOOK_H */
