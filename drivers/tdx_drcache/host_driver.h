/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _DRCACHE_HOST_DRIVER_H
#define _DRCACHE_HOST_DRIVER_H

#include <linux/types.h>

struct miscdevice;

void drcache_host_driver_init(const struct miscdevice *misc);
bool drcache_host_driver_present(void);
u32 drcache_host_driver_kind(u32 hook);

#endif /* _DRCACHE_HOST_DRIVER_H */
