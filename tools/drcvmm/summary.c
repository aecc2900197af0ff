// SPDX-License-Identifier: GPL-2.0
/*
 * The summary of a vCPU.
 */
#include <inttypes.h>
#include <stdio.h>

#include "drcvmm.h"

/* The cost of reading the clock itself. */
static uint64_t clock_cost(void)
{
	uint64_t start, ticks, least = UINT64_MAX;

	for (unsigned int i = 0; i < 1000; i++) {
		start = tdx_drcache_tsc();
		ticks = tdx_drcache_tsc() - start;
		least = ticks < least ? ticks : least;
	}
	return least;
}

static void print_stats(struct vcpu *v)
{
	struct tdx_drcache_stats s = { .size = sizeof(s) };
	bool exclusive;

	if (ioctl(v->reader.fd, TDX_DRCACHE_GET_STATS, &s))
		die("TDX_DRCACHE_GET_STATS: %s", strerror(errno));
	printf("  kernel: %" PRIu64 " published, %" PRIu64 " filtered, %" PRIu64
	       " refused, %" PRIu64 " late, %" PRIu64 " with L1 breakpoints, %" PRIu64
	       " lost%s\n", (uint64_t)s.published, (uint64_t)s.filtered,
	       (uint64_t)s.refused, (uint64_t)s.late, (uint64_t)s.l1_hwbp,
	       (uint64_t)s.lost, !opt.exclusive ? "" :
	       v->reader.exclusive ? "; exclusive" : "; not exclusive");
	exclusive = s.flags & TDX_DRCACHE_STATS_EXCLUSIVE;
	if (exclusive != v->reader.exclusive)
		fail(v, "the kernel says that the vCPU is %sexclusive", exclusive ? "" : "not ");
	if (exclusive && s.l1_hwbp)
		fail(v, "L1 had breakpoints while the vCPU was exclusive");
	/* The return hook can count a refused entry as lost, if it is not sure. */
	if (opt.verify && s.refused + s.lost < v->refused)
		fail(v, "the kernel counts %" PRIu64 " refused entries and %" PRIu64
		     " lost, the VMM %" PRIu64 " refused", (uint64_t)s.refused,
		     (uint64_t)s.lost, v->refused);
}

/* Print a cost, less that of reading the clock. */
static void print_cost(const char *what, const struct cost *c)
{
	uint64_t clock = clock_cost();

	if (c->n)
		printf("  ticks of %s: least %" PRIu64 ", mean %" PRIu64 "\n", what,
		       c->least - clock, c->sum / c->n - clock);
}

static void print_verdict(const struct vcpu *v)
{
	const struct verdict *r = &v->verdict;

	printf("  %" PRIu64 " compared with the five ioctls, %" PRIu64
	       " with what the guest wrote: %" PRIu64 " mismatches\n",
	       opt.guest_only ? 0 : v->interrupts, v->judged, v->mismatches);
	printf("  registers: %" PRIu64 " compared, %" PRIu64 " wrong, %" PRIu64
	       " wrong with L1_HWBP, %" PRIu64 " unwritten and unlike, %" PRIu64
	       " of them DR6\n", r->compared, r->wrong, r->wrong_hwbp, r->unwritten,
	       r->unwritten_dr6);
	if (not_compared())
		printf("  not compared with what the guest wrote: %s\n", not_compared());
}

/* Print the summary of a vCPU. Returns the number of failures. */
uint64_t summarize(struct vcpu *v)
{
	uint64_t hits = v->results[TDX_DRCACHE_HIT], misses = v->interrupts - hits;

	judge_reentered(v);
	printf("vCPU %u on CPU %u, %s, by %s: %" PRIu64 " HW_INTERRUPT exits, %" PRIu64
	       " %s, %" PRIu64 " missed", v->index, v->cpu, guest_names[opt.guest],
	       method_names[opt.method], v->interrupts, hits,
	       opt.method < READ_MSHV ? "captured" : "read", misses);
	for (unsigned int i = 1; i < NR_RESULTS; i++)
		if (v->results[i])
			printf(" (%" PRIu64 " %s)", v->results[i], result_names[i]);
	if (v->hwbp)
		printf("; %" PRIu64 " with L1_HWBP", v->hwbp);
	printf("\n  %" PRIu64 " other exits, %" PRIu64 " refused entries, %" PRIu64
	       " cancelled, %" PRIu64 " with a breakpoint in DR6, %" PRIu64 " moved\n",
	       v->other_exits, v->refused, v->cancelled, v->breakpoints, v->moved);
	if (opt.method == READ_DR6)
		printf("  %" PRIu64 " read by DR6 alone, %" PRIu64 " by all registers\n",
		       v->dr6_alone, hits - v->dr6_alone);
	if (opt.signal_hz)
		printf("  %" PRIu64 " exits returned to a signal handler\n", v->signalled);
	if (opt.cost) {
		print_cost("a read", &v->read);
		print_cost("one of the host driver's ioctls", &v->one);
		print_cost("handling an exit", &v->handling);
	}
	if (opt.verify)
		print_verdict(v);
	if (use_drcache)
		print_stats(v);
	if (misses < opt.min_misses)
		fail(v, "%" PRIu64 " misses, at least %" PRIu64 " wanted", misses,
		     opt.min_misses);
	if (misses > opt.max_misses)
		fail(v, "%" PRIu64 " misses, at most %" PRIu64 " wanted", misses,
		     opt.max_misses);
	if (opt.verify && opt.guest < GUEST_EXITS && v->in_loop < v->interrupts / 2)
		fail(v, "only %" PRIu64 " exits were in the guest's loop", v->in_loop);
	/* If L1 left its own address in DR0, there is no breakpoint to hit. */
	if (opt.verify && opt.guest == GUEST_BREAKPOINT && !v->verdict.unwritten &&
	    (!v->breakpoints || v->breakpoints == v->interrupts))
		fail(v, "the breakpoint was never hit, or always");
	if (opt.guest == GUEST_EXITS)
		for (unsigned int i = 1; i < GUEST_STEPS; i++)
			if (i != GUEST_STEP_SPIN && !v->steps[i])
				fail(v, "step %u did not exit", i);
	return v->failures;
}
