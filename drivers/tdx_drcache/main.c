// SPDX-License-Identifier: GPL-2.0
/*
 * tdx_drcache: capture an L2 VM's debug registers when it exits to this L1 kernel, for
 * the user-space VMM. The data flows one way:
 *
 *   host driver -> hook      notices the exit
 *               -> capture   the exit path, which uses
 *                  l2_exit   to decide whether to capture
 *                  regs      to read the CPU
 *                  slot      to publish under a sequence count
 *               -> dev       lets the VMM read, by mmap or ioctl
 *
 * vcpu.c keeps track of the files bound to each vCPU, and arms the CPUs. The module never
 * requests anything from the hypervisor and never writes a debug register.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cc_platform.h>
#include <linux/module.h>
#include <asm/cpufeature.h>

#include "compat.h"
#include "dev.h"
#include "hook.h"
#include "host.h"
#include "vcpu.h"

/* OpenHCL's SNP kernels do not set CC_ATTR_GUEST_SEV_SNP, only Hyper-V's own flag. */
static bool __init is_snp_guest(void)
{
	bool (*isolation_is_snp)(void);
	bool snp;

	if (cc_platform_has(CC_ATTR_GUEST_SEV_SNP))
		return true;
	isolation_is_snp = symbol_get(hv_isolation_type_snp);
	if (!isolation_is_snp)
		return false;
	snp = isolation_is_snp();
	symbol_put(hv_isolation_type_snp);
	return snp;
}

static int __init drcache_init(void)
{
	const struct drcache_host_facts facts = {
		.tdx_guest = boot_cpu_has(X86_FEATURE_TDX_GUEST),
		.tdx_host = drcache_is_tdx_host(),
		.snp_guest = is_snp_guest(),
	};
	const char *refusal = drcache_host_refusal(&facts);
	int ret;

	if (refusal) {
		pr_err("not loaded: %s\n", refusal);
		return -EPERM;
	}
	ret = drcache_hook_init();
	if (ret)
		return ret;
	ret = drcache_vcpu_init();
	if (ret)
		goto err_hook;
	ret = drcache_dev_register();
	if (ret)
		goto err_vcpu;
	return 0;
err_vcpu:
	drcache_vcpu_fini();
err_hook:
	drcache_hook_fini();
	return ret;
}

static void __exit drcache_exit(void)
{
	drcache_dev_unregister();
	drcache_vcpu_fini();
	drcache_hook_fini();
}

module_init(drcache_init);
module_exit(drcache_exit);

MODULE_DESCRIPTION("Capture the debug registers of a TDX L2 VM at its exits");
MODULE_AUTHOR("The tdx-drcache maintainers");
MODULE_LICENSE("GPL");
