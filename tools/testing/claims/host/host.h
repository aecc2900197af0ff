/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What shim.c does for the host driver. It has types of this project and the driver has
 * those of its own kernel tree, so neither sees the other's.
 */
#ifndef _CLAIMS_HOST_H
#define _CLAIMS_HOST_H

#include <linux/types.h>

struct cpumask;
struct file;
struct tdx_module_args;
struct tdx_tdg_vp_enter_exit_info;

typedef long (*host_ioctl_fn)(struct file *file, unsigned int cmd, unsigned long arg);

extern u32 host_apicids[];

int host_init(void);
long host_ioctl(struct file *file, unsigned int cmd, unsigned long arg,
		host_ioctl_fn driver_ioctl);
void host_release(struct file *file);
bool host_reenter(void);
u64 host_tdcall(u64 leaf, struct tdx_module_args *args);
void host_halt(void);
void host_idle(void);
void host_set_idle(void (*idle)(void));
int host_handle_work(void);
void host_reschedule(const struct cpumask *cpus);
int host_get_set_dr(u32 name, u64 *val, bool set);

#endif /* _CLAIMS_HOST_H */
