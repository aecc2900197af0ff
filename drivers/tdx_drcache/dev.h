/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _DRCACHE_DEV_H
#define _DRCACHE_DEV_H

int drcache_dev_register(void);
void drcache_dev_unregister(void);

#endif /* _DRCACHE_DEV_H */
