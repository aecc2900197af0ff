// SPDX-License-Identifier: GPL-2.0
/*
 * The fprobe hook: an fprobe on the return of the host driver's function that
 * enters the L2. Interrupts are still off there, and nothing after the exit has
 * touched a debug register, so the capture is exact.
 *
 * Its blind spot: while RCU is not watching, ftrace skips the handler and says
 * so to nobody. The host driver enters the L2 that way in its idle modes, which
 * the VMM asks for in the run page. A single ioctl may then have one exit that is
 * seen and a later one that is not, with the same RAX: the snapshot of the first
 * would pass for the second's. So with an idle mode asked for nothing is
 * published, and each exit that is seen is a miss.
 */
#include <linux/kprobes.h>
#include <linux/module.h>
#include <uapi/linux/tdx_drcache.h>

#include "compat.h"
#include "hook.h"
#include "vcpu.h"

#ifdef DRCACHE_FPROBE

#define HOOKED	"mshv_vtl_return_tdx"

static void notrace fprobe_exit(DRCACHE_FPROBE_EXIT_ARGS)
{
	const struct mshv_vtl_run *run = drcache_vcpu_run();

	if (!run)
		return;
	if (READ_ONCE(run->enter_mode))
		drcache_vcpu_missed();
	else
		drcache_vcpu_exit(READ_ONCE(run->exit_info.rax),
				  READ_ONCE(run->entry_rcx));
}
NOKPROBE_SYMBOL(fprobe_exit);

static struct fprobe probe = { .exit_handler = fprobe_exit };

static int fprobe_place(void)
{
	const char *syms[] = { HOOKED };
	int ret;

	probe = (struct fprobe) { .exit_handler = fprobe_exit };
	ret = register_fprobe_syms(&probe, syms, ARRAY_SIZE(syms));
	/* What is said of a function that is not there, or not traceable, differs. */
	return ret && ret != -ENOMEM ? -ENOENT : ret;
}

static void fprobe_remove(void)
{
	unregister_fprobe(&probe);
	/* A handler may still be running; it does where RCU is watching. */
	synchronize_rcu();
}

/* There is no other way to learn whether a function is there and traceable. */
static bool fprobe_available(void)
{
	static DEFINE_MUTEX(lock);
	static struct fprobe trial;
	const char *syms[] = { HOOKED };
	bool there;

	mutex_lock(&lock);
	trial = (struct fprobe) { .exit_handler = fprobe_exit };
	there = !register_fprobe_syms(&trial, syms, ARRAY_SIZE(syms));
	if (there) {
		unregister_fprobe(&trial);
		synchronize_rcu();
	}
	mutex_unlock(&lock);
	return there;
}

#endif /* DRCACHE_FPROBE */

const struct drcache_hook drcache_hook_fprobe = {
	.id		= TDX_DRCACHE_HOOK_FPROBE,
	.name		= "fprobe",
	.wants		= "traceable mshv_vtl_return_tdx()",
	.needs_run_page	= true,
#ifdef DRCACHE_FPROBE
	.available	= fprobe_available,
	.place		= fprobe_place,
	.remove		= fprobe_remove,
#endif
};
