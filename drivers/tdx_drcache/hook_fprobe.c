// SPDX-License-Identifier: GPL-2.0
/*
 * The fprobe hook: an fprobe on the return of the host driver's function that
 * enters the L2. Interrupts are still off there, and nothing has touched a debug
 * register since the exit, so the capture is exact.
 *
 * The kernel may silently skip the handler for two reasons. If it skips the handler
 * for the second of two exits in one ioctl that have the same RAX, the first exit's
 * snapshot would pass for the second's.
 *
 *   - kernel.ftrace_enabled is 0. To prevent that, a permanent ftrace_ops is registered
 *     while the hook is in place, and the sysctl returns EBUSY. It traces a function
 *     that is never called, so that it does not slow down the probed one.
 *   - RCU is not watching: some kernels then skip the handler, see compat.h. The host
 *     driver enters the L2 that way in its idle modes, which the VMM selects in the run
 *     page. On these kernels every exit in an idle mode is a miss.
 */
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/smp.h>
#include <uapi/linux/tdx_drcache.h>

#include "capture.h"
#include "compat.h"
#include "hook.h"
#include "run_page.h"

#ifdef DRCACHE_FPROBE

#define HOOKED	"mshv_vtl_return_tdx"

/* Never called, only traced. */
static noinline void anchor(void)
{
	barrier();
}

static void notrace on_anchor(unsigned long ip, unsigned long parent_ip,
			      struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
}

#define ANCHOR_OPS { .func = on_anchor, .flags = FTRACE_OPS_FL_PERMANENT }

/* Registered while the hook is placed. */
static struct ftrace_ops anchor_ops = ANCHOR_OPS;

/* Used only by fprobe_available(), under its lock. */
static struct ftrace_ops trial_anchor_ops = ANCHOR_OPS;
static struct ftrace_ops trial_ops = { .func = on_anchor };

/* Keep kernel.ftrace_enabled at 1; -EBUSY if it is 0. */
static int anchor_register(struct ftrace_ops *ops)
{
	int ret = ftrace_set_filter_ip(ops, (unsigned long)anchor, 0, 1);

	return ret ?: register_ftrace_function(ops);
}

/* Return true if the kernel may have skipped the handler in this enter mode. */
static __always_inline bool may_be_blind(const struct mshv_vtl_run *run)
{
	return DRCACHE_FPROBE_NEEDS_RCU &&
	       (READ_ONCE(run->enter_mode) & MSHV_ENTER_MASK) != MSHV_ENTER_FAST;
}

static void notrace fprobe_exit(DRCACHE_FPROBE_EXIT_ARGS)
{
	const struct mshv_vtl_run *run = drcache_run_page();

	if (!run)
		return;
	if (may_be_blind(run))
		drcache_capture_lost();
	else
		drcache_capture_exit(READ_ONCE(run->exit_info.rax),
				     READ_ONCE(run->entry_rcx));
}
NOKPROBE_SYMBOL(fprobe_exit);

static struct fprobe probe;

static int fprobe_place(void)
{
	const char *syms[] = { HOOKED };
	int ret = anchor_register(&anchor_ops);

	if (ret)
		return ret == -ENOMEM ? ret : -ENOENT;
	probe = (struct fprobe) { .exit_handler = fprobe_exit };
	ret = register_fprobe_syms(&probe, syms, ARRAY_SIZE(syms));
	if (!ret)
		return 0;
	unregister_ftrace_function(&anchor_ops);
	/* The errno for a missing or untraceable function varies. */
	return ret == -ENOMEM ? ret : -ENOENT;
}

static void wait_one_cpu(void *unused)
{
}

static void fprobe_remove(void)
{
	unregister_fprobe(&probe);
	/*
	 * A handler may still be running. synchronize_rcu() waits for one that
	 * RCU watches, but not for one in an idle mode. That one has interrupts
	 * off, so a CPU that handles the IPI has left it.
	 */
	synchronize_rcu();
	on_each_cpu(wait_one_cpu, NULL, 1);
	unregister_ftrace_function(&anchor_ops);
}

/* Check that the function exists, that it is traceable, and that tracing is enabled. */
static bool fprobe_available(void)
{
	static DEFINE_MUTEX(lock);
	unsigned char name[] = HOOKED;
	bool there;

	mutex_lock(&lock);
	/* ftrace rejects a filter that matches nothing. */
	there = !ftrace_set_filter(&trial_ops, name, sizeof(name) - 1, 1) &&
		!anchor_register(&trial_anchor_ops);
	if (there)
		unregister_ftrace_function(&trial_anchor_ops);
	mutex_unlock(&lock);
	return there;
}

static void fprobe_fini(void)
{
	ftrace_free_filter(&anchor_ops);
	ftrace_free_filter(&trial_anchor_ops);
	ftrace_free_filter(&trial_ops);
}

#endif /* DRCACHE_FPROBE */

const struct drcache_hook drcache_hook_fprobe = {
	.id		= TDX_DRCACHE_HOOK_FPROBE,
	.name		= "fprobe",
	.wants		= "traceable mshv_vtl_return_tdx(), with kernel.ftrace_enabled = 1",
	.needs_run_page	= true,
#ifdef DRCACHE_FPROBE
	.available	= fprobe_available,
	.place		= fprobe_place,
	.remove		= fprobe_remove,
	.fini		= fprobe_fini,
#endif
};
