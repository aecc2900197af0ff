// SPDX-License-Identifier: GPL-2.0
/*
 * The VMM's run page, for the hooks that read RAX and the entry RCX from it.
 */
#include <linux/err.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/sched/mm.h>

#include "run_page.h"

/**
 * struct run_page - the run page of a CPU's owner
 * @run: address of the page while the CPU is armed. The contents are untrusted: user space
 *	may write them at any time. The pointer is written by this CPU with interrupts off.
 * @page: the pinned page; NULL if there is none. Protected by drcache_bind_lock.
 * @mm: the owner's mm, set while @page is. Only compared; the reference keeps another mm
 *	from reusing its address.
 */
struct run_page {
	const struct mshv_vtl_run *run;
	struct page *page;
	struct mm_struct *mm;
};

static DEFINE_PER_CPU(struct run_page, run_page);

/**
 * drcache_run_page_pin() - pin the caller's run page
 * @addr: page-aligned user address; 0 for none
 *
 * The caller controls how long the fault takes, for example with userfaultfd. So call
 * this without any lock that another process needs.
 *
 * Context: May sleep; a fatal signal ends the wait. Must run in the caller's process.
 * Return: the page, for drcache_run_page_unpin(); NULL if @addr is 0; ERR_PTR(-EFAULT)
 * if there is no writable memory; ERR_PTR(-ENOMEM).
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
 * drcache_run_page_unpin() - unpin a page
 * @page: the page; NULL is ignored
 */
void drcache_run_page_unpin(struct page *page)
{
	if (page)
		unpin_user_page(page);
}

/**
 * drcache_run_page_give() - give a CPU its owner's run page
 * @cpu: the CPU, not armed and without a run page
 * @page: the pinned page; drcache_run_page_take() unpins it
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
 * drcache_run_page_take() - take away a CPU's run page and unpin it
 * @cpu: the CPU, not armed; no-op if it has no run page
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

/* Arm this CPU. Interrupts are off. */
void drcache_run_page_start(void)
{
	struct run_page *r = this_cpu_ptr(&run_page);

	WRITE_ONCE(r->run, r->page ? page_address(r->page) : NULL);
}

/* Disarm this CPU. Interrupts are off. */
void drcache_run_page_stop(void)
{
	this_cpu_write(run_page.run, NULL);
}

/**
 * drcache_run_page() - get the run page of this CPU's owner
 *
 * Context: Interrupts off. The page may be read only while they stay off.
 * Return: the run page; NULL if the CPU is not armed.
 */
notrace const struct mshv_vtl_run *drcache_run_page(void)
{
	return this_cpu_read(run_page.run);
}
NOKPROBE_SYMBOL(drcache_run_page);

/* Return true if the current task belongs to the owner's process. Interrupts are off. */
bool notrace drcache_run_page_is_mine(void)
{
	return current->mm == this_cpu_read(run_page.mm);
}
NOKPROBE_SYMBOL(drcache_run_page_is_mine);
