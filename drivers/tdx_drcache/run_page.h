/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _DRCACHE_RUN_PAGE_H
#define _DRCACHE_RUN_PAGE_H

#include <linux/types.h>

struct page;

struct page *drcache_run_page_pin(u64 addr);
void drcache_run_page_unpin(struct page *page);

#endif /* _DRCACHE_RUN_PAGE_H */
