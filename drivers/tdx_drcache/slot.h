/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Publish and read a slot. Pure: only memory and barriers.
 *
 * There is one writer, the CPU that the slot belongs to, with interrupts off. There may
 * be any number of readers, in the kernel and in user space.
 *
 *   writer                            reader
 *   ------                            ------
 *   A: seq = odd                      D: load seq, acquire
 *      smp_wmb()                         load members
 *   B: store members                     smp_rmb()
 *      smp_store_release()            E: load seq
 *   C: seq = even
 *
 * The release at C pairs with the acquire at D: a reader that sees C's even seq sees
 * all of B. The smp_wmb() pairs with the smp_rmb(): a reader that saw any store of B
 * sees A's odd seq, or a later one, at E, and retries.
 *
 * This is not a seqcount_t because the layout is ABI and user space reads it.
 */
#ifndef _DRCACHE_SLOT_H
#define _DRCACHE_SLOT_H

#include <linux/errno.h>
#include <linux/types.h>
#include <asm/barrier.h>
#include <asm/processor.h>
#include <uapi/linux/tdx_drcache.h>

/*
 * The part of a snapshot that is read from the hardware. The members are scalars, not an
 * array, so that they stay in CPU registers on the way to the slot.
 */
struct drcache_sample {
	u64 db0, db1, db2, db3, dr6, tsc;
};

static __always_inline void
drcache_slot_publish(struct tdx_drcache_slot *slot, u32 flags, u64 exit_rax,
		     const struct drcache_sample *sample)
{
	/* Nobody else writes seq. Reading it twice is cheaper than keeping it. */
	WRITE_ONCE(slot->seq, slot->seq + 1);
	smp_wmb();	/* pairs with smp_rmb() in drcache_slot_read() */
	WRITE_ONCE(slot->flags, flags);
	WRITE_ONCE(slot->exit_rax, exit_rax);
	WRITE_ONCE(slot->db[0], sample->db0);
	WRITE_ONCE(slot->db[1], sample->db1);
	WRITE_ONCE(slot->db[2], sample->db2);
	WRITE_ONCE(slot->db[3], sample->db3);
	WRITE_ONCE(slot->dr6, sample->dr6);
	WRITE_ONCE(slot->tsc, sample->tsc);
	/* pairs with smp_load_acquire() in drcache_slot_read() */
	smp_store_release(&slot->seq, slot->seq + 1);
}

/*
 * Clear VALID. No other member changes, so a reader gets either the old snapshot or
 * none, and seq need not change.
 */
static __always_inline void drcache_slot_invalidate(struct tdx_drcache_slot *slot)
{
	WRITE_ONCE(slot->flags, 0);
}

/**
 * drcache_slot_read() - read a slot by the reader's contract
 * @slot: the slot
 * @min_tsc: the lowest acceptable tsc; 0 accepts any
 * @snap: output, valid only on success
 *
 * Return: 0; -ENODATA if there is no valid snapshot; -ESTALE if it is older than
 * @min_tsc; -EAGAIN if the slot was being written on each of
 * TDX_DRCACHE_READ_RETRIES attempts.
 */
static inline int drcache_slot_read(const struct tdx_drcache_slot *slot,
				    u64 min_tsc, struct tdx_drcache_slot *snap)
{
	unsigned int i;

	for (i = 0; i < TDX_DRCACHE_READ_RETRIES; i++) {
		/* pairs with smp_store_release() in drcache_slot_publish() */
		snap->seq = smp_load_acquire(&slot->seq);
		if (snap->seq & 1) {
			cpu_relax();
			continue;
		}
		snap->flags = READ_ONCE(slot->flags);
		snap->exit_rax = READ_ONCE(slot->exit_rax);
		snap->db[0] = READ_ONCE(slot->db[0]);
		snap->db[1] = READ_ONCE(slot->db[1]);
		snap->db[2] = READ_ONCE(slot->db[2]);
		snap->db[3] = READ_ONCE(slot->db[3]);
		snap->dr6 = READ_ONCE(slot->dr6);
		snap->tsc = READ_ONCE(slot->tsc);
		smp_rmb();	/* pairs with smp_wmb() in drcache_slot_publish() */
		if (READ_ONCE(slot->seq) != snap->seq)
			continue;
		if (!(snap->flags & TDX_DRCACHE_VALID))
			return -ENODATA;
		return snap->tsc < min_tsc ? -ESTALE : 0;
	}
	return -EAGAIN;
}

#endif /* _DRCACHE_SLOT_H */
