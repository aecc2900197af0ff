/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _DRCACHE_HOST_H
#define _DRCACHE_HOST_H

#include <linux/types.h>

/* Facts that decide whether this kernel can be an L1. */
struct drcache_host_facts {
	bool tdx_guest;		/* runs in a TDX trust domain */
	bool tdx_host;		/* is itself a TDX host */
	bool snp_guest;		/* runs in an SEV-SNP guest */
};

const char *drcache_host_refusal(const struct drcache_host_facts *facts);
bool drcache_host_has_driver(bool emulated, bool tdx_guest, bool device);
u32 drcache_host_kind(bool emulated, bool tdx_guest, bool hooked);

#endif /* _DRCACHE_HOST_H */
