// SPDX-License-Identifier: GPL-2.0
/*
 * The VMM's run page, for the hooks that read the exit from it.
 */
#include <linux/err.h>
#include <linux/mm.h>

#include "run_page.h"

/**
 * drcache_run_page_pin() - pin the page that the caller says is its run page
 * @addr: its address in the caller's memory, page-aligned; 0 for none
 *
 * The fault may take as long as the caller likes: it may have a userfaultfd on the
 * range. So no lock that anybody else needs may be held.
 *
 * Context: May sleep; a fatal signal ends the wait. In the caller's process.
 * Return: the page, for drcache_run_page_unpin(); NULL if @addr is 0; -EFAULT if
 * nothing writable is there; -ENOMEM.
 */
struct page *drcache_run_page_pin(u64 addr)
{
	struct page *page;
	int ret;

	if (!addr)
		return NULL;
	ret = pin_user_pages_fast(addr, 1, FOLL_WRITE | FOLL_LONGTERM, &page);
	if (ret == 1)
		return page;
	return ERR_PTR(ret == -ENOMEM ? ret : -EFAULT);
}

/**
 * drcache_run_page_unpin() - let go of a pinned page
 * @page: the page; NULL is ignored
 */
void drcache_run_page_unpin(struct page *page)
{
	if (page)
		unpin_user_page(page);
}
