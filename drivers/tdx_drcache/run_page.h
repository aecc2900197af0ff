/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _DRCACHE_RUN_PAGE_H
#define _DRCACHE_RUN_PAGE_H

#include <linux/types.h>
#include <mshv/mshv_vtl.h>

struct page;

struct page *drcache_run_page_pin(u64 addr);
void drcache_run_page_unpin(struct page *page);

void drcache_run_page_give(unsigned int cpu, struct page *page);
void drcache_run_page_take(unsigned int cpu);
void drcache_run_page_start(void);
void drcache_run_page_stop(void);

const struct mshv_vtl_run *drcache_run_page(void);
bool drcache_run_page_is_mine(void);

#endif /* _DRCACHE_RUN_PAGE_H */
