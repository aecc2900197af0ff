// SPDX-License-Identifier: GPL-2.0
/*
 * Tell the hosts apart. Pure: facts go in, their meaning comes out.
 */
#include <linux/stddef.h>
#include <uapi/linux/tdx_drcache.h>

#include "host.h"

/**
 * drcache_host_refusal() - why the module must not load here
 * @facts: what this kernel is
 *
 * Return: the reason, for the log; NULL if there is none.
 */
const char *drcache_host_refusal(const struct drcache_host_facts *facts)
{
	if (facts->snp_guest)
		return "an SEV-SNP guest has its L2's debug registers in the VMSA, not in the CPU";
	if (facts->tdx_host && !facts->tdx_guest)
		return "this is the TDX host (L0), which never sees a TD's registers; load it in the L1";
	return NULL;
}

/**
 * drcache_host_has_driver() - is there a driver that enters L2s?
 * @emulated: there is one whose L2s are emulated
 * @tdx_guest: this kernel runs in a TDX trust domain
 * @device: there is a device of the name that OpenHCL's driver has. Drivers of other
 *	hosts have it too, so it counts only in a trust domain.
 *
 * Return: whether there is.
 */
bool drcache_host_has_driver(bool emulated, bool tdx_guest, bool device)
{
	return emulated || (tdx_guest && device);
}

/**
 * drcache_host_kind() - TDX_DRCACHE_HOST_*
 * @emulated: there is a host driver whose L2s are emulated
 * @tdx_guest: this kernel runs in a TDX trust domain
 * @hooked: a hook is in place or can be had
 *
 * Return: what runs the L2s here.
 */
u32 drcache_host_kind(bool emulated, bool tdx_guest, bool hooked)
{
	if (!hooked)
		return TDX_DRCACHE_HOST_NONE;
	if (emulated)
		return TDX_DRCACHE_HOST_EMULATED;
	return tdx_guest ? TDX_DRCACHE_HOST_MSHV_VTL : TDX_DRCACHE_HOST_NONE;
}
