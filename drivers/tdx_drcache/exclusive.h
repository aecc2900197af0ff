/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _DRCACHE_EXCLUSIVE_H
#define _DRCACHE_EXCLUSIVE_H

#include <linux/types.h>

bool drcache_exclusive_possible(void);
int drcache_exclusive_reserve(unsigned int cpu);
void drcache_exclusive_release(unsigned int cpu);

#endif /* _DRCACHE_EXCLUSIVE_H */
