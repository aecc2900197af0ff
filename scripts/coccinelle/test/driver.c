// SPDX-License-Identifier: GPL-2.0
/*
 * The shape of a host driver, for callout.cocci to be applied to: it enters no L2.
 */
#include <linux/module.h>
#include <linux/io.h>
#include <linux/mutex.h>
#include <linux/smp.h>

struct exit_info {
	u64 rax;
};

struct context {
	u64 entry_rcx;
	u64 guest_state;
	struct exit_info exit_info;
};

static struct context context;

void mshv_vtl_return_tdx(void);

static noinline u64 __tdg_vp_enter(u64 rcx, u64 rdx, struct exit_info *info)
{
	info->rax = 0;
	return 0;
}

void mshv_vtl_return_tdx(void)
{
	struct exit_info *info = &context.exit_info;

	__tdg_vp_enter(context.entry_rcx, virt_to_phys(&context.guest_state), info);
	barrier();
}

MODULE_DESCRIPTION("The shape of a host driver");
MODULE_AUTHOR("The tdx-drcache maintainers");
MODULE_LICENSE("GPL");
