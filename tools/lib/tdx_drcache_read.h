/* SPDX-License-Identifier: MIT */
/*
 * Read an L2's debug registers from tdx_drcache: a header-only implementation of the
 * reader's contract in <linux/tdx_drcache.h>, for C11 and C++ (GCC or Clang). With
 * -std=c11, define _POSIX_C_SOURCE=200809L. The crate in rust is the Rust version.
 *
 *	struct tdx_drcache_reader r;
 *	struct tdx_drcache_slot s;
 *
 *	err = tdx_drcache_open(&r, cpu, 0, run_page, TDX_DRCACHE_OPEN_TRY_EXCLUSIVE);
 *	for (;;) {
 *		t = tdx_drcache_tsc();
 *		ioctl(vtl_fd, MSHV_VTL_RETURN_TO_LOWER_VTL);
 *		if (the exit is HW_INTERRUPT) {
 *			if (tdx_drcache_read(&r, t, exit_rax, &s) != TDX_DRCACHE_HIT)
 *				read the registers with the host driver's ioctls;
 *		}
 *	}
 *	tdx_drcache_close(&r);
 *
 * At most exits a debugger only needs to know that DR6 reports no breakpoint. Read DR6
 * alone with tdx_drcache_read_dr6(), and the rest only if it has any of B0-B3.
 *
 * The owner's thread must stay on the CPU that it is bound to, as for the host driver's
 * run page. An observer does not know which exit the owner is at. It may run on any CPU
 * and reads with tdx_drcache_observe().
 */
#ifndef TDX_DRCACHE_READ_H
#define TDX_DRCACHE_READ_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/tdx_drcache.h>

#define TDX_DRCACHE_DEV "/dev/tdx_drcache"

/*
 * Flag of tdx_drcache_open(), never passed to the kernel: try to bind with
 * TDX_DRCACHE_BIND_EXCLUSIVE, and without it if that fails.
 */
#define TDX_DRCACHE_OPEN_TRY_EXCLUSIVE	(1u << 31)

/**
 * struct tdx_drcache_reader - a bound vCPU
 * @fd: the device's file descriptor; -1 when closed
 * @page: the mapped page
 * @map_size: length of the mapping, in bytes
 * @slot: the slot in @page
 * @exclusive: bound with TDX_DRCACHE_BIND_EXCLUSIVE
 */
struct tdx_drcache_reader {
	int fd;
	void *page;
	size_t map_size;
	const volatile struct tdx_drcache_slot *slot;
	bool exclusive;
};

/**
 * enum tdx_drcache_result - a hit, or the reason for a miss
 * @TDX_DRCACHE_HIT: the registers are what the CPU held at this exit, which the L2 ran
 *	with. If @flags has TDX_DRCACHE_L1_HWBP, do not assume that the guest wrote @db,
 *	or that B0-B3 in @dr6 report a guest breakpoint: either may be L1's. The host
 *	driver's ioctls are no better.
 * @TDX_DRCACHE_MISS_INVALID: the last exit that the kernel saw was not captured
 * @TDX_DRCACHE_MISS_STALE: the snapshot is older than @min_tsc
 * @TDX_DRCACHE_MISS_OTHER_EXIT: the snapshot's RAX differs from the run page's
 * @TDX_DRCACHE_MISS_BUSY: the slot was being written on each attempt
 */
enum tdx_drcache_result {
	TDX_DRCACHE_HIT,
	TDX_DRCACHE_MISS_INVALID,
	TDX_DRCACHE_MISS_STALE,
	TDX_DRCACHE_MISS_OTHER_EXIT,
	TDX_DRCACHE_MISS_BUSY,
};

/* Read the time stamp counter, for @min_tsc of tdx_drcache_read(). */
static inline uint64_t tdx_drcache_tsc(void)
{
	return __builtin_ia32_rdtsc();
}

/* Unmap and close. The vCPU can then have another owner. */
static inline void tdx_drcache_close(struct tdx_drcache_reader *r)
{
	if (r->page)
		munmap(r->page, r->map_size);
	if (r->fd >= 0)
		close(r->fd);
	r->page = NULL;
	r->slot = NULL;
	r->exclusive = false;
	r->fd = -1;
}

/*
 * Return true if BIND may succeed without TDX_DRCACHE_BIND_EXCLUSIVE after this errno.
 * EBUSY, EOPNOTSUPP and EINVAL also have other causes, with which the second BIND fails
 * with the same errno.
 */
static inline bool tdx_drcache_not_exclusive(int err)
{
	return err == ENOSPC ||		/* L1 has a breakpoint */
	       err == EBUSY ||		/* a debugger is connected to kgdb */
	       err == EOPNOTSUPP ||	/* the kernel does not support the flag */
	       err == EINVAL;		/* the module predates the flag */
}

/* BIND with the flags of tdx_drcache_open(). Return 0, or -1 with errno set. */
static inline int tdx_drcache_do_bind(struct tdx_drcache_reader *r,
				      struct tdx_drcache_bind *bind, uint32_t flags)
{
	bind->flags = flags;
	if (flags & TDX_DRCACHE_OPEN_TRY_EXCLUSIVE) {
		flags &= ~(TDX_DRCACHE_OPEN_TRY_EXCLUSIVE | TDX_DRCACHE_BIND_EXCLUSIVE);
		bind->flags = flags | TDX_DRCACHE_BIND_EXCLUSIVE;
	}
	if (ioctl(r->fd, TDX_DRCACHE_BIND, bind)) {
		if (bind->flags == flags || flags & TDX_DRCACHE_BIND_OBSERVE ||
		    !tdx_drcache_not_exclusive(errno))
			return -1;
		bind->flags = flags;
		if (ioctl(r->fd, TDX_DRCACHE_BIND, bind))
			return -1;
	}
	r->exclusive = bind->flags & TDX_DRCACHE_BIND_EXCLUSIVE;
	return 0;
}

/**
 * tdx_drcache_open() - open the device, bind to a vCPU and map its slot
 * @r: the reader to initialize
 * @cpu: the CPU
 * @exit_reasons: as in struct tdx_drcache_bind; 0 for HW_INTERRUPT alone
 * @run_page: the caller's mapping of that CPU's run page; NULL for an observer
 * @flags: 0, or one of
 *	TDX_DRCACHE_BIND_OBSERVE;
 *	TDX_DRCACHE_BIND_EXCLUSIVE, which fails with -ENOSPC while L1 has a breakpoint
 *	that may run on the CPU;
 *	TDX_DRCACHE_OPEN_TRY_EXCLUSIVE, which falls back to binding without it and sets
 *	@r->exclusive accordingly
 *
 * Return: 0; a negative errno from open(), the ioctls or mmap(); or -EPROTO if this
 * header does not know the layout of the page.
 */
static inline int tdx_drcache_open(struct tdx_drcache_reader *r, uint32_t cpu,
				   uint64_t exit_reasons, const void *run_page,
				   uint32_t flags)
{
	struct tdx_drcache_info info;
	struct tdx_drcache_bind bind;
	const struct tdx_drcache_header *header;
	int err;

	memset(r, 0, sizeof(*r));
	memset(&info, 0, sizeof(info));
	memset(&bind, 0, sizeof(bind));
	info.size = sizeof(info);
	bind.size = sizeof(bind);
	bind.cpu = cpu;
	bind.exit_reasons = exit_reasons;
	bind.run_page = (uint64_t)(uintptr_t)run_page;

	r->fd = open(TDX_DRCACHE_DEV, O_RDONLY | O_CLOEXEC);
	if (r->fd < 0)
		return -errno;
	/* BIND first: once the hook is in place, GET_INFO need not search for one. */
	if (tdx_drcache_do_bind(r, &bind, flags) ||
	    ioctl(r->fd, TDX_DRCACHE_GET_INFO, &info))
		goto err;
	r->map_size = info.map_size;
	r->page = mmap(NULL, r->map_size, PROT_READ, MAP_SHARED, r->fd, 0);
	if (r->page == MAP_FAILED) {
		r->page = NULL;
		goto err;
	}
	header = (const struct tdx_drcache_header *)r->page;
	if (header->magic != TDX_DRCACHE_MAGIC ||
	    header->slot_size < sizeof(struct tdx_drcache_slot) ||
	    header->slot_offset % sizeof(struct tdx_drcache_slot) ||
	    header->slot_offset > r->map_size - sizeof(struct tdx_drcache_slot)) {
		errno = EPROTO;
		goto err;
	}
	r->slot = (const volatile struct tdx_drcache_slot *)
		  ((const char *)r->page + header->slot_offset);
	return 0;
err:
	err = -errno;
	tdx_drcache_close(r);
	return err;
}

/* Load a member of the slot once, as a whole. */
#define TDX_DRCACHE_LOAD(p) __atomic_load_n(p, __ATOMIC_RELAXED)

/**
 * tdx_drcache_observe() - read the last captured exit, whichever it was
 * @r: a vCPU, bound as an observer or as its owner
 * @min_tsc: the lowest acceptable tsc; 0 accepts any
 * @s: output, meaningless with TDX_DRCACHE_MISS_BUSY
 *
 * For observers, which do not know which exit the owner is at: the snapshot need not be
 * of that exit. An owner uses tdx_drcache_read() instead. Makes no system call.
 *
 * Return: any enum tdx_drcache_result except TDX_DRCACHE_MISS_OTHER_EXIT.
 */
static inline enum tdx_drcache_result
tdx_drcache_observe(const struct tdx_drcache_reader *r, uint64_t min_tsc,
		    struct tdx_drcache_slot *s)
{
	const volatile struct tdx_drcache_slot *slot = r->slot;
	unsigned int i;

	for (i = 0; i < TDX_DRCACHE_READ_RETRIES; i++) {
		/* pairs with the kernel's release store of an even seq */
		s->seq = __atomic_load_n(&slot->seq, __ATOMIC_ACQUIRE);
		if (s->seq & 1) {
			__builtin_ia32_pause();
			continue;
		}
		s->flags = TDX_DRCACHE_LOAD(&slot->flags);
		s->exit_rax = TDX_DRCACHE_LOAD(&slot->exit_rax);
		s->db[0] = TDX_DRCACHE_LOAD(&slot->db[0]);
		s->db[1] = TDX_DRCACHE_LOAD(&slot->db[1]);
		s->db[2] = TDX_DRCACHE_LOAD(&slot->db[2]);
		s->db[3] = TDX_DRCACHE_LOAD(&slot->db[3]);
		s->dr6 = TDX_DRCACHE_LOAD(&slot->dr6);
		s->tsc = TDX_DRCACHE_LOAD(&slot->tsc);
		/* pairs with the kernel's write barrier after an odd seq */
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (TDX_DRCACHE_LOAD(&slot->seq) != s->seq)
			continue;
		if (!(s->flags & TDX_DRCACHE_VALID))
			return TDX_DRCACHE_MISS_INVALID;
		return s->tsc < min_tsc ? TDX_DRCACHE_MISS_STALE : TDX_DRCACHE_HIT;
	}
	return TDX_DRCACHE_MISS_BUSY;
}

/**
 * tdx_drcache_read() - read the L2's registers at the exit that just happened
 * @r: a vCPU, bound as its owner
 * @min_tsc: tdx_drcache_tsc() from before the entry
 * @exit_rax: RAX of the exit, from the run page
 * @s: output, valid only with TDX_DRCACHE_HIT
 *
 * Makes no system call.
 *
 * Return: TDX_DRCACHE_HIT. Any other value is a miss: use the host driver's ioctls,
 * never a hypercall.
 */
static inline enum tdx_drcache_result
tdx_drcache_read(const struct tdx_drcache_reader *r, uint64_t min_tsc,
		 uint64_t exit_rax, struct tdx_drcache_slot *s)
{
	enum tdx_drcache_result res = tdx_drcache_observe(r, min_tsc, s);

	if (res == TDX_DRCACHE_HIT && s->exit_rax != exit_rax)
		return TDX_DRCACHE_MISS_OTHER_EXIT;
	return res;
}

/* DR6 and the result of a read; returned in two CPU registers. */
struct tdx_drcache_dr6 {
	uint64_t dr6;
	enum tdx_drcache_result result;
};

/* Read DR6 by a full read, after the attempt in tdx_drcache_read_dr6() failed. */
static __attribute__((cold, noinline, unused)) struct tdx_drcache_dr6
tdx_drcache_reread_dr6(const struct tdx_drcache_reader *r, uint64_t min_tsc,
		       uint64_t exit_rax)
{
	struct tdx_drcache_slot s;
	struct tdx_drcache_dr6 d;

	d.result = tdx_drcache_read(r, min_tsc, exit_rax, &s);
	d.dr6 = d.result == TDX_DRCACHE_HIT ? s.dr6 : 0;
	return d;
}

/**
 * tdx_drcache_read_dr6() - read only the L2's DR6 at the exit that just happened
 * @r: a vCPU, bound as its owner
 * @min_tsc: tdx_drcache_tsc() from before the entry
 * @exit_rax: RAX of the exit, from the run page
 * @dr6: output, 0 unless the result is TDX_DRCACHE_HIT
 *
 * Returns what tdx_drcache_read() would, and that snapshot's DR6. If DR6 has any of
 * B0-B3, call tdx_drcache_read() for the address, and for TDX_DRCACHE_L1_HWBP. If it has
 * none, that flag does not matter: either way the guest's debugger has nothing to report.
 *
 * Makes no system call. A hit takes 16 instructions (gcc 12, -O2, inlined) and touches
 * one cache line besides @r. It is one attempt at a read, of the members that decide
 * whether the snapshot is accepted and of DR6; if that fails for any reason, a full read
 * decides.
 *
 * Return: as tdx_drcache_read().
 */
static inline enum tdx_drcache_result
tdx_drcache_read_dr6(const struct tdx_drcache_reader *r, uint64_t min_tsc,
		     uint64_t exit_rax, uint64_t *dr6)
{
	const volatile struct tdx_drcache_slot *slot = r->slot;
	struct tdx_drcache_dr6 d;
	uint32_t seq, flags;
	uint64_t rax, tsc;

	/*
	 * Pairs with the kernel's release store of an even seq. seq only grows, so if this
	 * one is odd, the second can't be the even number below it.
	 */
	seq = __atomic_load_n(&slot->seq, __ATOMIC_ACQUIRE) & ~1u;
	__asm__("" : "+r" (seq));	/* gcc would keep both numbers, in two registers */
	flags = TDX_DRCACHE_LOAD(&slot->flags);
	rax = TDX_DRCACHE_LOAD(&slot->exit_rax);
	d.dr6 = TDX_DRCACHE_LOAD(&slot->dr6);
	tsc = TDX_DRCACHE_LOAD(&slot->tsc);
	/* pairs with the kernel's write barrier after an odd seq */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	d.result = TDX_DRCACHE_HIT;
	if (__builtin_expect(TDX_DRCACHE_LOAD(&slot->seq) != seq ||
			     !(flags & TDX_DRCACHE_VALID) || tsc < min_tsc ||
			     rax != exit_rax, 0))
		d = tdx_drcache_reread_dr6(r, min_tsc, exit_rax);
	*dr6 = d.dr6;
	return d.result;
}

#undef TDX_DRCACHE_LOAD

#endif /* TDX_DRCACHE_READ_H */
