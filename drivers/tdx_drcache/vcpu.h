/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _DRCACHE_VCPU_H
#define _DRCACHE_VCPU_H

#include <linux/mm.h>
#include <linux/types.h>
#include <uapi/linux/tdx_drcache.h>

#define DRCACHE_SLOT_OFFSET	64

static inline struct tdx_drcache_slot *drcache_page_slot(struct page *page)
{
	return page_address(page) + DRCACHE_SLOT_OFFSET;
}

u64 drcache_vcpu_features(void);
struct page *drcache_vcpu_bind(const struct tdx_drcache_bind *bind, unsigned int cpu);
void drcache_vcpu_unbind(unsigned int cpu, bool owner);
void drcache_vcpu_stats(unsigned int cpu, struct tdx_drcache_stats *stats);

int drcache_vcpu_init(void);
void drcache_vcpu_fini(void);

#endif /* _DRCACHE_VCPU_H */
