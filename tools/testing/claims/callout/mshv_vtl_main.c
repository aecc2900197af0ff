// SPDX-License-Identifier: GPL-2.0
/*
 * A copy of the shape of OHCL's drivers/hv/mshv_vtl_main.c where it enters an L2, to
 * apply callout.cocci to. The exports are for callout_test.
 */
#include <linux/module.h>
#include <linux/io.h>
#include <linux/percpu.h>
#include <linux/user-return-notifier.h>
#include <asm/fpu/api.h>
#include <asm/special_insns.h>
#include "mshv_vtl.h"

MODULE_DESCRIPTION("The shape of a host driver");
MODULE_AUTHOR("The tdx-drcache maintainers");
MODULE_LICENSE("GPL");

static struct mshv_vtl_run run_page = {
	.tdx_context.entry_rcx = TEST_ENTRY_RCX,
};

struct mshv_vtl_run *mshv_vtl_this_run(void)
{
	return &run_page;
}
EXPORT_SYMBOL_GPL(mshv_vtl_this_run);

#ifdef CONFIG_X86_64
void mshv_vtl_return_tdx(void)
{
	struct tdx_tdg_vp_enter_exit_info *tdx_exit_info;
	struct mshv_vtl_run *vtl_run;
	unsigned long cr2;

	vtl_run = mshv_vtl_this_run();
	tdx_exit_info = &vtl_run->tdx_context.exit_info;

	kernel_fpu_begin();
	cr2 = native_read_cr2();

	__tdg_vp_enter(vtl_run->tdx_context.entry_rcx,
		       virt_to_phys(&vtl_run->tdx_context.l2_enter_guest_state),
		       tdx_exit_info);

	native_write_cr2(cr2);
	kernel_fpu_end();
}
EXPORT_SYMBOL_GPL(mshv_vtl_return_tdx);
#else
noinline void mshv_vtl_return_tdx(void) { }
#endif
