/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _DRCACHE_HOOK_H
#define _DRCACHE_HOOK_H

#include <linux/types.h>

/**
 * struct drcache_hook - a way to learn of exits
 * @id: TDX_DRCACHE_HOOK_*
 * @name: for the hook= parameter
 * @wants: what it looks for in the kernel, for the log
 * @needs_run_page: it reads the exit from the owner's run page
 * @native_only: it cannot see the system calls of 32-bit and x32 tasks
 * @untold: exit reasons that it cannot tell from no exit; BIND does not take them
 * @available: could it be placed now? It changes nothing that an owner would notice.
 * @place: from now on have the exits of armed CPUs reported to capture.c; -ENOENT
 *	if there is nothing to hook. NULL if this kernel is built without what the
 *	hook needs; the others are NULL then, too.
 * @remove: when it returns no CPU is in capture.c by this hook, or will be; NULL if
 *	it is so once all are disarmed
 * @arm: this CPU is armed, and its debug registers are the L2's alone if @exclusive;
 *	may be NULL
 * @disarm: this CPU is not armed any more; may be NULL
 * @init: the module loads; may be NULL
 * @fini: the module unloads: undo @init, free what @available and @place have left;
 *	may be NULL
 *
 * Context: @available, @place and @remove may sleep; the latter two are called
 * with drcache_bind_lock held. @arm and @disarm are called on the CPU with
 * interrupts off.
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
