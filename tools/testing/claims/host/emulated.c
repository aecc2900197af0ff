// SPDX-License-Identifier: GPL-2.0
/*
 * Marks a host driver whose L2s are emulated; see linux/tdx_drcache_host.h. In a file of
 * its own, because genksyms can run out of memory on one with as many headers as shim.c.
 */
#include <linux/export.h>
#include <linux/tdx_drcache_host.h>

const u8 mshv_vtl_emulated = 1;
EXPORT_SYMBOL_GPL(mshv_vtl_emulated);
