/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Between the host driver and shim.c: the driver has its own kernel tree's types, shim.c
 * has this project's, and neither sees the other's.
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
/* The driver's __tdg_vp_enter() by another name. tdx_emul serves its TDCALL at the #UD. */
u64 host_driver_vp_enter(u64 rcx, u64 rdx, struct tdx_tdg_vp_enter_exit_info *info);
u64 __tdg_vp_enter(u64 rcx, u64 rdx, struct tdx_tdg_vp_enter_exit_info *info);
u64 host_tdcall(u64 leaf, struct tdx_module_args *args);
void host_halt(void);
void host_idle(void);
void host_set_idle(void (*idle)(void));
int host_handle_work(void);
void host_reschedule(const struct cpumask *cpus);
int host_get_set_dr(u32 name, u64 *val, bool set);

#endif /* _CLAIMS_HOST_H */
