/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _DRCACHE_CAPTURE_H
#define _DRCACHE_CAPTURE_H

#include <linux/types.h>

struct tdx_drcache_slot;

/* Same order as in struct tdx_drcache_stats. */
enum drcache_count {
	DRCACHE_PUBLISHED,
	DRCACHE_FILTERED,
	DRCACHE_REFUSED,
	DRCACHE_LATE,
	DRCACHE_L1_HWBP,
	DRCACHE_LOST,
	DRCACHE_NR_COUNTS
};

void drcache_capture_setup(unsigned int cpu, u64 exit_reasons, u32 flags, bool exclusive);
void drcache_capture_start(struct tdx_drcache_slot *slot);
void drcache_capture_stop(void);
void drcache_capture_counts(unsigned int cpu, u64 counts[DRCACHE_NR_COUNTS]);

void drcache_capture_exit(u64 exit_rax, u64 entry_rcx);
void drcache_capture_exit_late(u64 exit_rax, u64 entry_rcx);
void drcache_capture_lost(void);

#endif /* _DRCACHE_CAPTURE_H */
