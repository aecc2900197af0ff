/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The interface of tdx_emul.ko to the stand-in for the host driver.
 */
#ifndef _LINUX_TDX_EMUL_H
#define _LINUX_TDX_EMUL_H

#include <linux/types.h>
#include <tdx/tdg_vp.h>

struct page;

/* The L2's memory is at most this long: eight page tables. */
#define TDX_EMUL_PAGES_MAX	(8 * 512)

int tdx_emul_set_memory(struct page **pages, unsigned long nr_pages);
void tdx_emul_tdcall(struct tdx_vp_enter_regs *regs);

#endif /* _LINUX_TDX_EMUL_H */
