/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _DRCACHE_HOOK_H
#define _DRCACHE_HOOK_H

#include <linux/types.h>

/**
 * struct drcache_hook - a way to detect exits
 * @id: TDX_DRCACHE_HOOK_*
 * @name: value of the hook= parameter
 * @wants: requirements on the kernel, for the log
 * @needs_run_page: the hook reads the exit from the owner's run page
 * @native_only: the hook cannot recognize system calls of 32-bit and x32 tasks
 * @untold: exit reasons that the hook cannot tell from no exit; BIND rejects them
 * @available: return true if the hook could be placed now, without any effect on owners
 * @place: start reporting the exits of armed CPUs to capture.c; return -ENOENT if there
 *	is nothing to hook. NULL if the kernel configuration lacks what the hook needs;
 *	all other operations are then NULL too.
 * @remove: stop reporting; on return, no CPU runs capture.c on behalf of this hook. NULL
 *	if disarming all CPUs achieves that.
 * @arm: arm this CPU; if @exclusive, L1 has no breakpoints on it. May be NULL.
 * @disarm: disarm this CPU; may be NULL
 * @init: called when the module loads; may be NULL
 * @fini: called when the module unloads; undo @init and free what @available and @place
 *	left behind. May be NULL.
 *
 * Context: @available, @place and @remove may sleep; the latter two are called with
 * drcache_bind_lock held. @arm and @disarm run on the CPU with interrupts off.
 */
struct drcache_hook {
	u32 id;
	const char *name;
	const char *wants;
	bool needs_run_page;
	bool native_only;
	u64 untold;
	bool (*available)(void);
	int (*place)(void);
	void (*remove)(void);
	void (*arm)(bool exclusive);
	void (*disarm)(void);
	void (*init)(void);
	void (*fini)(void);
};

extern const struct drcache_hook drcache_hook_callout;
extern const struct drcache_hook drcache_hook_fprobe;
extern const struct drcache_hook drcache_hook_return;

int drcache_hook_init(void);
void drcache_hook_fini(void);
u32 drcache_hook_which(void);
const struct drcache_hook *drcache_hook_get(void);
void drcache_hook_put(void);
void drcache_hook_arm(bool exclusive);
void drcache_hook_disarm(void);

#endif /* _DRCACHE_HOOK_H */
