/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The interface between tdx_emul.ko and the stand-in for the host driver.
 */
#ifndef _LINUX_TDX_EMUL_H
#define _LINUX_TDX_EMUL_H

#include <linux/types.h>
#include <tdx/tdg_vp.h>

struct page;

/* The maximum size of the L2's memory, which takes eight page tables. */
#define TDX_EMUL_PAGES_MAX	(8 * 512)

int tdx_emul_set_memory(struct page **pages, unsigned long nr_pages);
void tdx_emul_tdcall(struct tdx_vp_enter_regs *regs);

#endif /* _LINUX_TDX_EMUL_H */
