// SPDX-License-Identifier: GPL-2.0
/*
 * Decide whether to load, and which host this is. Pure: works only on its arguments.
 */
#include <linux/stddef.h>
#include <uapi/linux/tdx_drcache.h>

#include "host.h"

/**
 * drcache_host_refusal() - check whether the module may load here
 * @facts: facts about this kernel
 *
 * Return: NULL if it may; otherwise the reason, for the log.
 */
const char *drcache_host_refusal(const struct drcache_host_facts *facts)
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
bool drcache_host_has_driver(bool emulated, bool tdx_guest, bool device)
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
u32 drcache_host_kind(bool emulated, bool tdx_guest, bool hooked)
{
	if (!hooked)
		return TDX_DRCACHE_HOST_NONE;
	if (emulated)
		return TDX_DRCACHE_HOST_EMULATED;
	return tdx_guest ? TDX_DRCACHE_HOST_MSHV_VTL : TDX_DRCACHE_HOST_NONE;
}
