// SPDX-License-Identifier: GPL-2.0
/*
 * Find the host driver, which enters the L2, and its kind. The return hook needs the
 * search because it attaches to none of the driver's functions.
 */
#include <linux/device.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/tdx_drcache_host.h>
#include <uapi/linux/tdx_drcache.h>
#include <asm/cpufeature.h>

#include "host.h"
#include "host_driver.h"

/* The name of OpenHCL's misc device: OHCL-Linux-Kernel, drivers/hv/mshv_vtl_main.c. */
#define HOST_DRIVER_DEV	"mshv"

/* This module's misc device, used to find the class of all misc devices. */
static const struct miscdevice *own_misc;

/**
 * drcache_host_driver_init() - set the misc device whose class is searched
 * @misc: must be registered before drcache_host_driver_present() is called
 */
void __init drcache_host_driver_init(const struct miscdevice *misc)
{
	own_misc = misc;
}

/* Return true if there is a misc device with OpenHCL's name. */
static bool has_device(void)
{
	struct device *dev = class_find_device_by_name(own_misc->this_device->class,
						       HOST_DRIVER_DEV);

	put_device(dev);
	return dev;
}

/* Return true if there is a host driver whose L2s are emulated. */
static bool emulated(void)
{
	if (!symbol_get(mshv_vtl_emulated))
		return false;
	symbol_put(mshv_vtl_emulated);
	return true;
}

/**
 * drcache_host_driver_present() - check for any host driver
 *
 * A trust domain alone is not evidence: most have no L2.
 *
 * Context: May sleep.
 * Return: true if there is one.
 */
bool drcache_host_driver_present(void)
{
	return drcache_host_has_driver(emulated(),
				       boot_cpu_has(X86_FEATURE_TDX_GUEST), has_device());
}

/**
 * drcache_host_driver_kind() - determine the kind of host
 * @hook: TDX_DRCACHE_HOOK_* of the hook in place, or of the one that would be placed
 *
 * Context: May sleep.
 * Return: TDX_DRCACHE_HOST_*.
 */
u32 drcache_host_driver_kind(u32 hook)
{
	return drcache_host_kind(emulated(), boot_cpu_has(X86_FEATURE_TDX_GUEST),
				 hook != TDX_DRCACHE_HOOK_NONE);
}
