// SPDX-License-Identifier: GPL-2.0
/*
 * Is there a host driver, the driver that enters the L2? A hook that finds one of
 * its functions knows. This is for a hook that finds none.
 */
#include <linux/device.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/tdx_drcache_host.h>
#include <uapi/linux/tdx_drcache.h>
#include <asm/cpufeature.h>

#include "host.h"
#include "host_driver.h"

/* The name of its misc device: OHCL-Linux-Kernel, drivers/hv/mshv_vtl_main.c. */
#define HOST_DRIVER_DEV	"mshv"

/* A misc device of our own, for the class that all of them are in. */
static const struct miscdevice *own_misc;

/**
 * drcache_host_driver_init() - say where misc devices are found
 * @misc: a device that is registered before drcache_host_driver_present() is called
 */
void __init drcache_host_driver_init(const struct miscdevice *misc)
{
	own_misc = misc;
}

/* Does it have a misc device? */
static bool has_device(void)
{
	struct device *dev = class_find_device_by_name(own_misc->this_device->class,
						       HOST_DRIVER_DEV);

	put_device(dev);
	return dev;
}

/* Is there one whose L2s are emulated? */
static bool emulated(void)
{
	if (!symbol_get(mshv_vtl_emulated))
		return false;
	symbol_put(mshv_vtl_emulated);
	return true;
}

/**
 * drcache_host_driver_present() - look for any host driver
 *
 * A trust domain alone is not evidence: most have no L2.
 *
 * Context: May sleep.
 * Return: whether there is one.
 */
bool drcache_host_driver_present(void)
{
	return drcache_host_has_driver(emulated(),
				       boot_cpu_has(X86_FEATURE_TDX_GUEST), has_device());
}

/**
 * drcache_host_driver_kind() - find out what runs the L2s here
 * @hook: TDX_DRCACHE_HOOK_*: the hook in place, or the one that could be
 *
 * Context: May sleep.
 * Return: TDX_DRCACHE_HOST_*.
 */
u32 drcache_host_driver_kind(u32 hook)
{
	return drcache_host_kind(emulated(), boot_cpu_has(X86_FEATURE_TDX_GUEST),
				 hook != TDX_DRCACHE_HOOK_NONE);
}
