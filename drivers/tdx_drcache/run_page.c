// SPDX-License-Identifier: GPL-2.0
/*
 * The VMM's run page, for the hooks that learn from it what an exit was.
 */
#include <linux/err.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/sched/mm.h>

#include "run_page.h"

/**
 * struct run_page - the run page of a CPU's owner
 * @run: the page, while the CPU is armed. Not trusted: user space writes it at any
 *	time. Written by this CPU with interrupts off, or while it is offline.
 * @page: the page, pinned; NULL if there is none. Under drcache_bind_lock.
 * @mm: the owner's, held so that no other has its address; compared only. There while
 *	@page is.
 */
struct run_page {
	const struct mshv_vtl_run *run;
	struct page *page;
	struct mm_struct *mm;
};

static DEFINE_PER_CPU(struct run_page, run_page);

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

/**
 * drcache_run_page_give() - give a CPU its owner's run page
 * @cpu: the CPU, which is not armed and has none
 * @page: the page, pinned: drcache_run_page_take() unpins it
 *
 * Context: In the owner's process, with drcache_bind_lock held.
 */
void drcache_run_page_give(unsigned int cpu, struct page *page)
{
	struct run_page *r = per_cpu_ptr(&run_page, cpu);

	r->page = page;
	r->mm = current->mm;
	mmgrab(r->mm);
}

/**
 * drcache_run_page_take() - take a CPU's run page away and unpin it
 * @cpu: the CPU, which is not armed; nothing happens if it has none
 *
 * Context: May sleep, with drcache_bind_lock held.
 */
void drcache_run_page_take(unsigned int cpu)
{
	struct run_page *r = per_cpu_ptr(&run_page, cpu);

	if (!r->page)
		return;
	drcache_run_page_unpin(r->page);
	mmdrop(r->mm);
	r->page = NULL;
	r->mm = NULL;
}

/* This CPU is armed. Interrupts are off. */
void drcache_run_page_start(void)
{
	struct run_page *r = this_cpu_ptr(&run_page);

	WRITE_ONCE(r->run, r->page ? page_address(r->page) : NULL);
}

/* This CPU is not armed any more. Interrupts are off. */
void drcache_run_page_stop(void)
{
	this_cpu_write(run_page.run, NULL);
}

/**
 * drcache_run_page() - the run page of this CPU's owner
 *
 * Context: Interrupts off, and it may be read as long as they are.
 * Return: the run page; NULL if the CPU is not armed.
 */
notrace const struct mshv_vtl_run *drcache_run_page(void)
{
	return this_cpu_read(run_page.run);
}
NOKPROBE_SYMBOL(drcache_run_page);

/* Is the current task of the owner's process? The CPU is armed, and interrupts off. */
bool notrace drcache_run_page_is_mine(void)
{
	return current->mm == this_cpu_read(run_page.mm);
}
NOKPROBE_SYMBOL(drcache_run_page_is_mine);
