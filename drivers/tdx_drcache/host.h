/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Decide whether to load, and which host this is. Pure: works only on its arguments.
 */
#ifndef _DRCACHE_HOST_H
#define _DRCACHE_HOST_H

#include <linux/stddef.h>
#include <linux/types.h>
#include <uapi/linux/tdx_drcache.h>

/* Facts that decide whether this kernel can be an L1. */
struct drcache_host_facts {
	bool tdx_guest;		/* runs in a TDX trust domain */
	bool tdx_host;		/* is itself a TDX host */
	bool snp_guest;		/* runs in an SEV-SNP guest */
};

/**
 * drcache_host_refusal() - check whether the module may load here
 * @facts: facts about this kernel
 *
 * Return: NULL if it may; otherwise the reason, for the log.
 */
static inline const char *drcache_host_refusal(const struct drcache_host_facts *facts)
{
	if (facts->snp_guest)
		return "an SEV-SNP guest's L2 has its debug registers in the VMSA, not the CPU";
	if (facts->tdx_host && !facts->tdx_guest)
		return "a TDX host (L0) never sees a TD's debug registers; load it in the L1 VMM";
	return NULL;
}

/**
 * drcache_host_has_driver() - check for a driver that enters L2s
 * @emulated: there is a host driver whose L2s are emulated
 * @tdx_guest: this kernel runs in a TDX trust domain
 * @device: a device with the name that OpenHCL's driver uses exists. Drivers on other
 *	hosts use it too, so it counts only in a trust domain.
 *
 * Return: true if there is one.
 */
static inline bool drcache_host_has_driver(bool emulated, bool tdx_guest, bool device)
{
	return emulated || (tdx_guest && device);
}

/**
 * drcache_host_kind() - determine the kind of host
 * @emulated: there is a host driver whose L2s are emulated
 * @tdx_guest: this kernel runs in a TDX trust domain
 * @hooked: a hook is in place or available
 *
 * Return: TDX_DRCACHE_HOST_*.
 */
static inline u32 drcache_host_kind(bool emulated, bool tdx_guest, bool hooked)
{
	if (!hooked)
		return TDX_DRCACHE_HOST_NONE;
	if (emulated)
		return TDX_DRCACHE_HOST_EMULATED;
	return tdx_guest ? TDX_DRCACHE_HOST_MSHV_VTL : TDX_DRCACHE_HOST_NONE;
}

#endif /* _DRCACHE_HOST_H */
