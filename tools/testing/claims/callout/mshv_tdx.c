// SPDX-License-Identifier: GPL-2.0
/*
 * Like OHCL's drivers/hv/mshv_tdx.S, but returns at once instead of entering an L2.
 * Before that it overwrites the run page, as user space can, which has it mapped.
 */
#include <linux/compiler.h>
#include <linux/container_of.h>

#include "mshv_vtl.h"

u64 __tdg_vp_enter(u64 rcx, u64 rdx, struct tdx_tdg_vp_enter_exit_info *tdg_exit_info)
{
	struct tdx_vp_context *context =
		container_of(tdg_exit_info, struct tdx_vp_context, exit_info);

	WRITE_ONCE(tdg_exit_info->rax, TEST_EXIT_RAX);
	WRITE_ONCE(tdg_exit_info->rcx, rdx);

	WRITE_ONCE(tdg_exit_info->rax, 0);
	WRITE_ONCE(context->entry_rcx, ~rcx);
	return TEST_EXIT_RAX;
}
