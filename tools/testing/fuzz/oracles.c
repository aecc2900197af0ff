// SPDX-License-Identifier: GPL-2.0
/*
 * The oracles: conditions that hold whatever the arguments are.
 */
#include <inttypes.h>
#include <sched.h>
#include <string.h>
#include <tdx/tdg_vp.h>
#include <tdx_drcache_read.h>

#include "fuzz.h"

void check_snapshot(const struct tdx_drcache_slot *s, uint64_t now)
{
	const uint32_t known = TDX_DRCACHE_VALID | TDX_DRCACHE_LATE | TDX_DRCACHE_L1_HWBP |
			       TDX_DRCACHE_EMULATED | TDX_DRCACHE_VM_MASK;
	uint64_t class = s->exit_rax >> TDX_CLASS_SHIFT;

	if (s->seq & 1)
		bad("snapshot with an odd seq");
	if (!(s->flags & TDX_DRCACHE_VALID) || !(s->flags & TDX_DRCACHE_EMULATED) ||
	    !(s->flags & TDX_DRCACHE_VM_MASK) || s->flags & ~known)
		bad("snapshot with flags %#x", s->flags);
	if (!!(s->flags & TDX_DRCACHE_LATE) != (machine.hook == TDX_DRCACHE_HOOK_RETURN))
		bad("snapshot with flags %#x from hook %u", s->flags, machine.hook);
	if ((class != TDX_CLASS_SUCCESS && class != TDX_CLASS_L2_EXIT_HOST_ROUTED_ASYNC &&
	     class != TDX_CLASS_L2_EXIT_PENDING_INTERRUPT) ||
	    s->exit_rax & TDX_ENTRY_FAILURE || (s->exit_rax & TDX_BASIC_REASON_MASK) > 63)
		bad("snapshot with RAX %#" PRIx64, (uint64_t)s->exit_rax);
	if (s->dr6 >> 32)
		bad("snapshot with DR6 %#" PRIx64, (uint64_t)s->dr6);
	if (s->tsc > now)
		bad("snapshot from the future");
	if (!machine.has_host)
		bad("snapshot without a host driver");
}

/* A copy of a mapped page, and the reader's result. */
struct look {
	const uint8_t *from;
	uint8_t page[PAGE] __attribute__((aligned(8)));
	struct tdx_drcache_reader reader;
	enum tdx_drcache_result res;
	struct tdx_drcache_slot slot;
};

static void look_at(void *data)
{
	struct look *l = data;

	for (unsigned int i = 0; i < PAGE; i += 8)
		*(uint64_t *)(l->page + i) = *(const volatile uint64_t *)(l->from + i);
	/* No exit has this RAX, so the reader can only find other exits. */
	for (unsigned int i = 0; i < 1000; i++) {
		l->res = tdx_drcache_read(&l->reader, 0, UINT64_MAX, &l->slot);
		if (l->res != TDX_DRCACHE_MISS_BUSY)
			break;
		sched_yield();
	}
}

void check_map(struct map *m)
{
	struct tdx_drcache_header want = {
		.magic = TDX_DRCACHE_MAGIC, .header_size = 24, .slot_size = 64,
		.slot_offset = 64, .cpu = m->desc->cpu, .features = machine.features,
	};
	struct look l = {
		.from = m->p,
		.reader = { .fd = -1, .slot = (void *)(m->p + sizeof(want)) },
	};
	const struct tdx_drcache_header *h = (void *)l.page;

	if (!guarded(look_at, &l)) {
		if (!m->fragile && !racing)
			bad("the mapping is unreadable");
		return;
	}
	if (m->desc->foreign || racing)
		want.cpu = h->cpu;
	if (memcmp(h, &want, sizeof(want)))
		bad("the mapped header has changed");
	for (unsigned int i = sizeof(*h) + sizeof(l.slot); i < PAGE; i++)
		if (l.page[i])
			bad("byte %u of the mapped page is not zero", i);
	switch (l.res) {
	case TDX_DRCACHE_MISS_BUSY:
		bad("the slot's seq stays odd");
		break;
	case TDX_DRCACHE_MISS_OTHER_EXIT:
		check_snapshot(&l.slot, tdx_drcache_tsc());
		break;
	case TDX_DRCACHE_MISS_INVALID:
		break;
	default:
		bad("the reader returns %d", l.res);
	}
}

/* The call may change only the first @out bytes of the struct. */
void check_memory(const struct arg *arg, unsigned long out)
{
	unsigned long offset = ARENA, i;

	if (!memcmp(arena->rw, arena->before, ARENA))
		return;
	if (arg->ours && arg->p >= arena->rw && arg->p < arena->rw + ARENA)
		offset = arg->p - arena->rw;
	for (i = 0; i < ARENA; i++)
		if (arena->rw[i] != arena->before[i] && (i < offset || i >= offset + out)) {
			bad("the call changed byte %ld of the struct, whose size is %u",
			    (long)(i - offset), arg->size);
			return;
		}
}

/* @ret must be in @may. */
void check_result(long ret, errset may)
{
	errset got = ret >= 0 ? OK : -ret < ERRNOS ? E(-ret) : 0;

	/* With fprobe an injected fault may look like a missing function. */
	if (failing)
		may |= E(ENOMEM) | E(EFAULT) |
		       (machine.hook == TDX_DRCACHE_HOOK_FPROBE ? E(ENODEV) : 0);
	/* The other thread may have closed the file or replaced it. */
	if (racing)
		may |= E(EBADF) | E(ENOTTY);
	if (!(got & may))
		bad("returns %s", ret >= 0 ? "success" : strerrorname_np(-ret));
}
