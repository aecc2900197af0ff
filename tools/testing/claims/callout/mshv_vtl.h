/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The part of OHCL's drivers/hv/mshv_vtl.h that the entry of an L2 uses (microsoft/
 * OHCL-Linux-Kernel 00d95ddb): the same names and types, without the layout.
 */
#ifndef _MSHV_VTL_H
#define _MSHV_VTL_H

#include <linux/bits.h>
#include <linux/types.h>

struct tdx_tdg_vp_enter_exit_info {
	u64 rax;
	u64 rcx;
};

struct tdx_vp_context {
	struct tdx_tdg_vp_enter_exit_info exit_info;
	u64 entry_rcx;
	u64 l2_enter_guest_state;
};

struct mshv_vtl_run {
	struct tdx_vp_context tdx_context;
};

struct mshv_vtl_run *mshv_vtl_this_run(void);
noinline void mshv_vtl_return_tdx(void);
u64 __tdg_vp_enter(u64 rcx, u64 rdx, struct tdx_tdg_vp_enter_exit_info *tdg_exit_info);

/* Values of the test: the run page's entry RCX, and the RAX of each exit. */
#define TEST_ENTRY_RCX	BIT_ULL(52)
#define TEST_EXIT_RAX	(0x1100ULL << 32 | 1)

#endif /* _MSHV_VTL_H */
