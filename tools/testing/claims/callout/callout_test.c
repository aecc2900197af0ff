// SPDX-License-Identifier: GPL-2.0
/*
 * Test a host driver against the contract of linux/tdx_drcache_host.h. Loads only if
 * the driver keeps the contract.
 */
#include <linux/irqflags.h>
#include <linux/module.h>
#include <linux/tdx_drcache_host.h>

#include "mshv_vtl.h"

static u64 seen_rax, seen_rcx;
static unsigned int calls, calls_irqs_on;

static void hook(u64 exit_rax, u64 entry_rcx)
{
	seen_rax = exit_rax;
	seen_rcx = entry_rcx;
	calls++;
	calls_irqs_on += !irqs_disabled();
}

static void enter(void)
{
	WRITE_ONCE(mshv_vtl_this_run()->tdx_context.entry_rcx, TEST_ENTRY_RCX);
	local_irq_disable();
	mshv_vtl_return_tdx();
	local_irq_enable();
}

static int check(bool good, const char *what)
{
	if (!good)
		pr_err("callout_test: failed: %s\n", what);
	return good ? 0 : -EINVAL;
}

static int __init callout_test_init(void)
{
	int ret;

	enter();
	ret = check(!calls, "no hook is set, and none is called");
	ret = check(!mshv_vtl_set_exit_hook(hook), "a hook can be set") ?: ret;
	ret = check(mshv_vtl_set_exit_hook(hook) == -EBUSY, "a second hook is refused") ?: ret;
	enter();
	ret = check(calls == 1, "the hook is called once at each exit") ?: ret;
	ret = check(!calls_irqs_on, "the hook runs with interrupts off") ?: ret;
	ret = check(seen_rax == TEST_EXIT_RAX, "the hook gets the entry's RAX") ?: ret;
	ret = check(seen_rcx == TEST_ENTRY_RCX, "the hook gets the RCX of the entry") ?: ret;
	ret = check(!mshv_vtl_set_exit_hook(NULL), "the hook can be cleared") ?: ret;
	enter();
	ret = check(calls == 1, "a cleared hook is not called") ?: ret;
	ret = check(!mshv_vtl_set_exit_hook(hook), "a hook can be set again") ?: ret;
	mshv_vtl_set_exit_hook(NULL);
	return ret;
}
module_init(callout_test_init);

static void __exit callout_test_exit(void)
{
}
module_exit(callout_test_exit);

MODULE_DESCRIPTION("Test of a host driver's callout");
MODULE_AUTHOR("The tdx-drcache maintainers");
MODULE_LICENSE("GPL");
