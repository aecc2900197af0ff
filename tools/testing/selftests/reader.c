// SPDX-License-Identifier: MIT
/*
 * Test the reader library on slots in memory: its result for any contents, and that it
 * returns no torn snapshot when a writer comes between any two of its loads or
 * instructions, or runs in parallel. Also test opening, on a fake device. Built as C
 * and as C++, because the header serves both.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <linux/tdx_drcache.h>

/* Loads of a slot so far. The hook is passed the number before its own. */
static unsigned int loads;
static void (*load_hook)(unsigned int nr);

static void before_load(void)
{
	unsigned int nr = loads;

	if (load_hook)
		load_hook(nr);
	__atomic_store_n(&loads, nr + 1, __ATOMIC_RELEASE);
}

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* A fake device, in place of the real one while @on. */
static struct {
	bool on;
	int opened, mapped;
	uint32_t known;			/* known flags of BIND */
	int error, exclusive_error;	/* errno of BIND; with BIND_EXCLUSIVE, if not 0 */
	uint32_t tried[4];		/* flags of each BIND */
	unsigned int binds;
	struct tdx_drcache_header *page;
} fake;

/* A descriptor that the kernel would not return. */
#define FAKE_FD		1000

static int test_open(const char *path, int flags)
{
	if (!fake.on)
		return open(path, flags);
	fake.opened++;
	return FAKE_FD;
}

static int test_close(int fd)
{
	if (!fake.on)
		return close(fd);
	fake.opened--;
	return 0;
}

static int fake_bind(const struct tdx_drcache_bind *bind)
{
	if (bind->size != sizeof(*bind) || fake.binds == ARRAY_SIZE(fake.tried))
		abort();
	fake.tried[fake.binds++] = bind->flags;
	/* A module that does not know a flag rejects it. */
	if (bind->flags & ~fake.known)
		return -EINVAL;
	if (bind->flags & TDX_DRCACHE_BIND_EXCLUSIVE) {
		if (bind->flags & TDX_DRCACHE_BIND_OBSERVE)
			return -EINVAL;
		if (fake.exclusive_error)
			return -fake.exclusive_error;
	}
	return -fake.error;
}

static int test_ioctl(int fd, unsigned long nr, void *arg)
{
	int err = 0;

	if (!fake.on)
		return ioctl(fd, nr, arg);
	if (nr == TDX_DRCACHE_BIND)
		err = fake_bind((struct tdx_drcache_bind *)arg);
	else if (nr == TDX_DRCACHE_GET_INFO)
		((struct tdx_drcache_info *)arg)->map_size = 4096;
	else
		abort();
	errno = -err;
	return err ? -1 : 0;
}

static void *test_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
	if (!fake.on)
		return mmap(addr, length, prot, flags, fd, offset);
	fake.mapped++;
	return fake.page;
}

static int test_munmap(void *addr, size_t length)
{
	if (!fake.on)
		return munmap(addr, length);
	fake.mapped--;
	return 0;
}

#define __atomic_load_n(p, order) (before_load(), __atomic_load_n(p, order))
#define open	test_open
#define close	test_close
#define ioctl	test_ioctl
#define mmap	test_mmap
#define munmap	test_munmap
#include <tdx_drcache_read.h>
#undef __atomic_load_n
#undef open
#undef close
#undef ioctl
#undef mmap
#undef munmap

#define RAX	0x110000000001ull

/* Number of loads in a read that meets no publish, and of stores in a publish. */
#define LOADS	10u
#define STORES	10u
/* The same in a read of DR6 alone. If it fails, a full read follows. */
#define DR6_LOADS	6u

/* Stops a reader that does not give up by itself. */
#define TOO_MANY	(2 * LOADS * TDX_DRCACHE_READ_RETRIES)

/* Publishes in parallel with a reader; a read meets each one. */
#define PUBLISHES	1000

static int bad;

static void want(const char *what, long is, long wanted)
{
	if (is == wanted)
		return;
	printf("%s: %ld, want %ld\n", what, is, wanted);
	bad = 1;
}

/* RAX of the exits that are published. */
static uint64_t published_rax = RAX;

/* The @nr-th store of the kernel's drcache_slot_publish(); @n sets each register. */
static void store(struct tdx_drcache_slot *slot, uint64_t n, unsigned int nr)
{
	switch (nr) {
	case 0:
		__atomic_store_n(&slot->seq, slot->seq + 1, __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_RELEASE);
		break;
	case 1:
		__atomic_store_n(&slot->flags, TDX_DRCACHE_VALID, __ATOMIC_RELAXED);
		break;
	case 2:
		__atomic_store_n(&slot->exit_rax, published_rax, __ATOMIC_RELAXED);
		break;
	case 3:
	case 4:
	case 5:
	case 6:
		__atomic_store_n(&slot->db[nr - 3], n + nr, __ATOMIC_RELAXED);
		break;
	case 7:
		__atomic_store_n(&slot->dr6, n + nr, __ATOMIC_RELAXED);
		break;
	case 8:
		__atomic_store_n(&slot->tsc, n, __ATOMIC_RELAXED);
		break;
	case 9:
		__atomic_store_n(&slot->seq, slot->seq + 1, __ATOMIC_RELEASE);
		break;
	}
}

static void publish(struct tdx_drcache_slot *slot, uint64_t n)
{
	unsigned int nr;

	for (nr = 0; nr < STORES; nr++)
		store(slot, n, nr);
}

static int is_whole(const struct tdx_drcache_slot *s)
{
	return s->exit_rax == RAX && s->db[0] == s->tsc + 3 && s->db[1] == s->tsc + 4 &&
	       s->db[2] == s->tsc + 5 && s->db[3] == s->tsc + 6 && s->dr6 == s->tsc + 7;
}

static struct tdx_drcache_slot hooked_slot;

/* Read with @hook before each load. */
static enum tdx_drcache_result hooked_read(struct tdx_drcache_slot *s,
					   void (*hook)(unsigned int nr))
{
	struct tdx_drcache_reader r;
	enum tdx_drcache_result res;

	memset(&r, 0, sizeof(r));
	memset(s, 0, sizeof(*s));
	r.fd = -1;
	r.slot = &hooked_slot;
	loads = 0;
	load_hook = hook;
	res = tdx_drcache_read(&r, 0, RAX, s);
	load_hook = NULL;
	return res;
}

/* Read DR6 alone with @hook before each load. */
static enum tdx_drcache_result hooked_read_dr6(uint64_t min_tsc, uint64_t rax, uint64_t *dr6,
					       void (*hook)(unsigned int nr))
{
	struct tdx_drcache_reader r;
	enum tdx_drcache_result res;

	memset(&r, 0, sizeof(r));
	r.fd = -1;
	r.slot = &hooked_slot;
	*dr6 = 1;
	loads = 0;
	load_hook = hook;
	res = tdx_drcache_read_dr6(&r, min_tsc, rax, dr6);
	load_hook = NULL;
	return res;
}

/* Store n of a publish is done before load @before[n] of a read. */
static unsigned char before[STORES];
static unsigned int done;

static void mix_stores(unsigned int nr)
{
	while (done < STORES && before[done] <= nr)
		store(&hooked_slot, 2000, done++);
}

/* Advance to the next order of @nr_loads loads and the stores; 0 after the last. */
static int mix_next(unsigned int nr_loads)
{
	unsigned int i = STORES;

	do {
		if (!i)
			return 0;
	} while (before[--i] == nr_loads);
	memset(&before[i], before[i] + 1, STORES - i);
	return 1;
}

/* A publish and a read, in every order of their ten stores and ten loads. */
static void interleaved(void)
{
	unsigned int orders = 0;

	memset(before, 0, sizeof(before));
	do {
		struct tdx_drcache_slot s;

		publish(&hooked_slot, 1000);
		done = 0;
		want("interleaved", hooked_read(&s, mix_stores), TDX_DRCACHE_HIT);
		want("interleaved: torn", !is_whole(&s), 0);
		/* A publish before the read gives the new snapshot, one after it the old. */
		if (!before[STORES - 1])
			want("interleaved: before", s.tsc, 2000);
		else if (before[0] == LOADS)
			want("interleaved: after", s.tsc, 1000);
		while (done < STORES)
			store(&hooked_slot, 2000, done++);
		orders++;
	} while (!bad && mix_next(LOADS));
	want("interleaved: orders", orders, 184756);	/* 20 over 10 */
}

/*
 * A publish and a read of DR6, in every order of their ten stores and six loads. DR6 alone
 * does not show that a snapshot is torn, so the read accepts only one of the two snapshots:
 * by its time stamp, its RAX or VALID. It must have that one's DR6, or be a miss.
 */
static void interleaved_dr6(void)
{
	static const struct {
		const char *what;
		uint64_t old_rax, min_tsc, rax, dr6;
		enum tdx_drcache_result miss;
		bool old_invalid, accepts_old;
	} cases[] = {
		{ "DR6 of a new tsc", RAX, 2000, RAX, 2007, TDX_DRCACHE_MISS_STALE,
		  false, false },
		{ "DR6 of a new RAX", RAX + 1, 0, RAX, 2007, TDX_DRCACHE_MISS_OTHER_EXIT,
		  false, false },
		{ "DR6 of an old RAX", RAX + 1, 0, RAX + 1, 1007, TDX_DRCACHE_MISS_OTHER_EXIT,
		  false, true },
		{ "DR6 of the one that is valid", RAX, 0, RAX, 2007, TDX_DRCACHE_MISS_INVALID,
		  true, false },
	};
	unsigned int i, orders = 0;

	memset(before, 0, sizeof(before));
	do {
		for (i = 0; i < ARRAY_SIZE(cases); i++) {
			/* The publish comes before the read, or after it. */
			const bool apart[] = { !before[STORES - 1], before[0] == DR6_LOADS };
			enum tdx_drcache_result res;
			uint64_t dr6;

			published_rax = cases[i].old_rax;
			publish(&hooked_slot, 1000);
			if (cases[i].old_invalid)
				hooked_slot.flags = 0;
			published_rax = RAX;
			done = 0;
			res = hooked_read_dr6(cases[i].min_tsc, cases[i].rax, &dr6, mix_stores);
			while (done < STORES)
				store(&hooked_slot, 2000, done++);
			if (res == TDX_DRCACHE_HIT)
				want(cases[i].what, dr6, cases[i].dr6);
			else
				want(cases[i].what, res, cases[i].miss);
			if (apart[cases[i].accepts_old])
				want(cases[i].what, res, TDX_DRCACHE_HIT);
			else if (cases[i].accepts_old && apart[0])
				want(cases[i].what, res, cases[i].miss);
		}
		orders++;
	} while (!bad && mix_next(DR6_LOADS));
	want("interleaved DR6: orders", orders, 8008);	/* 16 over 6 */
}

/* Publish before load @again_at of each of the first @again_tries tries. */
static unsigned int again_at, again_tries;
static uint64_t again_n;

static void publish_again(unsigned int nr)
{
	if (nr % LOADS == again_at && nr / LOADS < again_tries)
		publish(&hooked_slot, ++again_n);
}

static void publish_always(unsigned int nr)
{
	if (nr < TOO_MANY)
		publish(&hooked_slot, nr);
}

static void end_odd(unsigned int nr)
{
	if (nr == TOO_MANY)
		hooked_slot.seq++;
}

/* A reader stops retrying, but not too early. */
static void retries(void)
{
	struct tdx_drcache_slot s;

	publish(&hooked_slot, 1000);
	want("undisturbed", hooked_read(&s, NULL), TDX_DRCACHE_HIT);
	want("undisturbed: loads", loads, LOADS);
	for (again_at = 1; again_at < LOADS; again_at++) {
		for (again_tries = 1; again_tries < TDX_DRCACHE_READ_RETRIES; again_tries++) {
			want("retries", hooked_read(&s, publish_again), TDX_DRCACHE_HIT);
			want("retries: whole", is_whole(&s) && s.tsc == again_n, 1);
			want("retries: loads", loads, (again_tries + 1) * LOADS);
		}
		again_tries = TOO_MANY / LOADS;
		want("too many retries", hooked_read(&s, publish_again), TDX_DRCACHE_MISS_BUSY);
		want("too many retries: loads", loads, TDX_DRCACHE_READ_RETRIES * LOADS);
	}
	want("at each load", hooked_read(&s, publish_always), TDX_DRCACHE_MISS_BUSY);
	want("at each load: loads", loads, TDX_DRCACHE_READ_RETRIES * LOADS);
	hooked_slot.seq = 7;
	want("odd", hooked_read(&s, end_odd), TDX_DRCACHE_MISS_BUSY);
	want("odd: loads", loads, TDX_DRCACHE_READ_RETRIES);
	hooked_slot.seq = 8;
}

/* A read of DR6 that meets a publish ends as a full read does. */
static void retries_dr6(void)
{
	uint64_t dr6;

	publish(&hooked_slot, 1000);
	want("DR6, undisturbed", hooked_read_dr6(1000, RAX, &dr6, NULL), TDX_DRCACHE_HIT);
	want("DR6, undisturbed: loads", loads, DR6_LOADS);
	want("DR6, undisturbed: value", dr6, 1007);
	/* LOADS exceeds DR6_LOADS, so publish_again() publishes once. */
	again_tries = 1;
	for (again_at = 0; again_at < DR6_LOADS; again_at++) {
		want("DR6, retries", hooked_read_dr6(0, RAX, &dr6, publish_again),
		     TDX_DRCACHE_HIT);
		want("DR6, retries: value", dr6, again_n + 7);
		want("DR6, retries: loads", loads, DR6_LOADS + (again_at ? LOADS : 0));
	}
	want("DR6, at each load", hooked_read_dr6(0, RAX, &dr6, publish_always),
	     TDX_DRCACHE_MISS_BUSY);
	want("DR6, at each load: loads", loads, DR6_LOADS + TDX_DRCACHE_READ_RETRIES * LOADS);
	want("DR6, at each load: value", dr6, 0);
	hooked_slot.seq = 7;
	want("DR6, odd", hooked_read_dr6(0, RAX, &dr6, end_odd), TDX_DRCACHE_MISS_BUSY);
	want("DR6, odd: loads", loads, DR6_LOADS + TDX_DRCACHE_READ_RETRIES);
	hooked_slot.seq = 8;
}

static unsigned int invalidate_at;

static void invalidate(unsigned int nr)
{
	if (nr == invalidate_at)
		__atomic_store_n(&hooked_slot.flags, 0, __ATOMIC_RELAXED);
}

/* Invalidating before flags is loaded gives no snapshot, later the whole one. */
static void invalidated(void)
{
	for (invalidate_at = 0; invalidate_at < LOADS; invalidate_at++) {
		struct tdx_drcache_slot s;
		int none = invalidate_at < 2;

		publish(&hooked_slot, 1000);
		want("invalidated", hooked_read(&s, invalidate),
		     none ? TDX_DRCACHE_MISS_INVALID : TDX_DRCACHE_HIT);
		want("invalidated: loads", loads, LOADS);
		if (!none)
			want("invalidated: whole", is_whole(&s) && s.tsc == 1000, 1);
	}
	for (invalidate_at = 0; invalidate_at < DR6_LOADS; invalidate_at++) {
		int none = invalidate_at < 2;
		uint64_t dr6;

		publish(&hooked_slot, 1000);
		want("DR6, invalidated", hooked_read_dr6(0, RAX, &dr6, invalidate),
		     none ? TDX_DRCACHE_MISS_INVALID : TDX_DRCACHE_HIT);
		want("DR6, invalidated: loads", loads, DR6_LOADS + (none ? LOADS : 0));
		want("DR6, invalidated: value", dr6, none ? 0 : 1007);
	}
}

#define TRAP_FLAG "0x100"

/* Each instruction from set_trap() to clear_trap() raises SIGTRAP. */
static void set_trap(void)
{
	/* Below the red zone. */
	__asm__ volatile("sub $128, %%rsp; pushfq; orq $" TRAP_FLAG ", (%%rsp); popfq; "
			 "lea 128(%%rsp), %%rsp" ::: "memory", "cc");
}

static void clear_trap(void)
{
	__asm__ volatile("sub $128, %%rsp; pushfq; andq $~" TRAP_FLAG ", (%%rsp); popfq; "
			 "lea 128(%%rsp), %%rsp" ::: "memory", "cc");
}

static struct tdx_drcache_slot stepped_slot;
static unsigned int steps, publish_at;

static void on_trap(int sig)
{
	(void)sig;
	if (steps++ == publish_at)
		publish(&stepped_slot, 2000);
}

/* Publish after the first instruction, then after the second, and so on to the last. */
static void stepped(void)
{
	struct tdx_drcache_reader r;
	unsigned int before = 0, after = 0;
	struct sigaction sa;

	memset(&r, 0, sizeof(r));
	r.fd = -1;
	r.slot = &stepped_slot;
	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_trap;
	sigaction(SIGTRAP, &sa, NULL);
	for (steps = 0, publish_at = 0; publish_at <= steps; publish_at++) {
		enum tdx_drcache_result res;
		struct tdx_drcache_slot s;

		publish(&stepped_slot, 1000);
		memset(&s, 0, sizeof(s));
		steps = 0;
		set_trap();
		res = tdx_drcache_read(&r, 0, RAX, &s);
		clear_trap();
		want("stepped", res, TDX_DRCACHE_HIT);
		want("stepped: torn", !is_whole(&s), 0);
		before += s.tsc == 1000;
		after += s.tsc == 2000;
	}
	/* Publishes must have come both before and after the snapshot was taken. */
	want("stepped: few", before < 5 || after < 10, 0);
}

/* The same for DR6 alone, accepting only what was published meanwhile. */
static void stepped_dr6(void)
{
	struct tdx_drcache_reader r;
	unsigned int stale = 0, hits = 0;

	memset(&r, 0, sizeof(r));
	r.fd = -1;
	r.slot = &stepped_slot;
	for (steps = 0, publish_at = 0; publish_at <= steps; publish_at++) {
		enum tdx_drcache_result res;
		uint64_t dr6 = 1;

		publish(&stepped_slot, 1000);
		steps = 0;
		set_trap();
		res = tdx_drcache_read_dr6(&r, 2000, RAX, &dr6);
		clear_trap();
		stale += res == TDX_DRCACHE_MISS_STALE;
		hits += res == TDX_DRCACHE_HIT;
		want("stepped DR6", dr6, res == TDX_DRCACHE_HIT ? 2007 : 0);
	}
	want("stepped DR6: few", stale < 5 || hits < 10 || stale + hits != publish_at, 0);
}

static struct tdx_drcache_slot busy_slot;
static int stop;

/* Let the other thread run. On a busy core sched_yield() waits for every other task. */
static void rest(void)
{
	struct timespec ts = { 0, 1000 };

	nanosleep(&ts, NULL);
}

/* Wait until the reader has done at least @n more loads. */
static void wait_for_loads(unsigned int n)
{
	unsigned int from;

	/* The reader's next loads see all stores before this. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	from = __atomic_load_n(&loads, __ATOMIC_ACQUIRE);
	while (__atomic_load_n(&loads, __ATOMIC_ACQUIRE) - from <= n)
		rest();
}

/* Stop each publish before one of its stores until there was a load. */
static void *writer(void *arg)
{
	unsigned int n, nr;

	(void)arg;
	for (n = 1; n <= PUBLISHES; n++) {
		/* Let the read that met the last publish end, and another begin. */
		wait_for_loads(2 * LOADS + n % LOADS);
		for (nr = 0; nr < STORES; nr++) {
			if (nr == 1 + n % (STORES - 1))
				wait_for_loads(1);
			store(&busy_slot, n, nr);
		}
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	return NULL;
}

static void one_slot(void)
{
	struct tdx_drcache_reader r;
	struct tdx_drcache_slot slot, s;
	uint64_t dr6 = 1;

	memset(&r, 0, sizeof(r));
	memset(&slot, 0, sizeof(slot));
	r.fd = -1;
	r.slot = &slot;
	want("nothing published", tdx_drcache_read(&r, 0, 0, &s), TDX_DRCACHE_MISS_INVALID);
	want("DR6, nothing published", tdx_drcache_read_dr6(&r, 0, 0, &dr6),
	     TDX_DRCACHE_MISS_INVALID);

	publish(&slot, 1000);
	want("hit", tdx_drcache_read(&r, 1000, RAX, &s), TDX_DRCACHE_HIT);
	want("copy", memcmp(&s, &slot, sizeof(s)), 0);
	want("older", tdx_drcache_read(&r, 1001, RAX, &s), TDX_DRCACHE_MISS_STALE);
	want("another exit", tdx_drcache_read(&r, 1000, RAX + 1, &s),
	     TDX_DRCACHE_MISS_OTHER_EXIT);
	want("DR6", tdx_drcache_read_dr6(&r, 1000, RAX, &dr6), TDX_DRCACHE_HIT);
	want("DR6: value", dr6, 1007);
	want("DR6, older", tdx_drcache_read_dr6(&r, 1001, RAX, &dr6), TDX_DRCACHE_MISS_STALE);
	want("DR6, older: value", dr6, 0);
	want("DR6, another exit", tdx_drcache_read_dr6(&r, 1000, RAX + 1, &dr6),
	     TDX_DRCACHE_MISS_OTHER_EXIT);
	want("DR6, another exit: value", dr6, 0);
	want("observed", tdx_drcache_observe(&r, 1000, &s), TDX_DRCACHE_HIT);
	want("observed, older", tdx_drcache_observe(&r, 1001, &s), TDX_DRCACHE_MISS_STALE);

	slot.flags = TDX_DRCACHE_LATE;
	want("not valid", tdx_drcache_read(&r, 0, RAX, &s), TDX_DRCACHE_MISS_INVALID);
	want("DR6, not valid", tdx_drcache_read_dr6(&r, 0, RAX, &dr6), TDX_DRCACHE_MISS_INVALID);
	want("DR6, not valid: value", dr6, 0);
	slot.flags |= TDX_DRCACHE_VALID;
	want("late", tdx_drcache_read(&r, 0, RAX, &s), TDX_DRCACHE_HIT);
	want("DR6, late", tdx_drcache_read_dr6(&r, 0, RAX, &dr6), TDX_DRCACHE_HIT);
	want("DR6, late: value", dr6, 1007);
}

/* A full read beside the writer, of @last or later. Returns true if it met a publish. */
static bool busy_read(const struct tdx_drcache_reader *r, uint64_t *last, unsigned int *hits)
{
	struct tdx_drcache_slot s;
	unsigned int from = loads;
	enum tdx_drcache_result res = tdx_drcache_read(r, *last, RAX, &s);
	bool met = loads - from != LOADS;

	if (res != TDX_DRCACHE_HIT || s.tsc == *last)
		rest();
	if (res == TDX_DRCACHE_MISS_BUSY || (res == TDX_DRCACHE_MISS_INVALID && !*hits))
		return met;
	++*hits;
	want("beside a writer", res, TDX_DRCACHE_HIT);
	want("beside a writer: torn", !is_whole(&s) || s.seq != 2 * s.tsc, 0);
	*last = s.tsc;
	return met;
}

/*
 * The same for DR6 alone, of a later publish than @last: a torn one would have an earlier
 * DR6. Until there is one, the full read that follows a failed attempt is a miss too.
 */
static bool busy_read_dr6(const struct tdx_drcache_reader *r, uint64_t *last,
			  unsigned int *hits)
{
	unsigned int from = loads, undisturbed = DR6_LOADS + LOADS;
	uint64_t dr6;
	enum tdx_drcache_result res = tdx_drcache_read_dr6(r, *last + 1, RAX, &dr6);

	if (res == TDX_DRCACHE_HIT) {
		undisturbed = DR6_LOADS;
		++*hits;
		want("DR6 beside a writer: torn", dr6 - 7 <= *last, 0);
		*last = dr6 - 7;
	} else {
		rest();
		if (res != TDX_DRCACHE_MISS_BUSY && (res != TDX_DRCACHE_MISS_INVALID || *hits))
			want("DR6 beside a writer", res, TDX_DRCACHE_MISS_STALE);
	}
	return loads - from != undisturbed;
}

/* Two threads: a read meets each publish, whatever the machine's load. */
static void busy(const char *what, bool (*read)(const struct tdx_drcache_reader *r,
						uint64_t *last, unsigned int *hits))
{
	struct tdx_drcache_reader r;
	unsigned int hits = 0, met = 0;
	pthread_t thread;
	uint64_t last = 0;

	memset(&busy_slot, 0, sizeof(busy_slot));
	stop = 0;
	memset(&r, 0, sizeof(r));
	r.fd = -1;
	r.slot = &busy_slot;
	if (pthread_create(&thread, NULL, writer, NULL))
		exit(EXIT_FAILURE);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		met += read(&r, &last, &hits);
	pthread_join(thread, NULL);
	printf("%s beside a writer: %u publishes, %u hits, %u reads met a publish\n", what,
	       PUBLISHES, hits, met);
	want("beside a writer: few", met < PUBLISHES, 0);
}

#define OBSERVE		TDX_DRCACHE_BIND_OBSERVE
#define EXCLUSIVE	TDX_DRCACHE_BIND_EXCLUSIVE
#define TRY_EXCLUSIVE	TDX_DRCACHE_OPEN_TRY_EXCLUSIVE

/* Make BIND fail with @error, or with @exclusive_error if it has EXCLUSIVE. */
static void set_errors(int error, int exclusive_error)
{
	fake.error = error;
	fake.exclusive_error = exclusive_error;
}

/* Open with @flags must return @err, after BINDs with @first and with @second. */
static void opened(const char *what, uint32_t flags, int err, unsigned int binds,
		   uint32_t first, uint32_t second)
{
	struct tdx_drcache_reader r;
	uint32_t last = binds > 1 ? second : first;

	fake.binds = 0;
	want(what, tdx_drcache_open(&r, 0, 0, NULL, flags), err);
	want(what, fake.binds, binds);
	want(what, fake.tried[0], first);
	if (binds > 1)
		want(what, fake.tried[1], second);
	want(what, r.exclusive, !err && last & EXCLUSIVE);
	want(what, r.fd, err ? -1 : FAKE_FD);
	want(what, fake.opened, !err);
	want(what, fake.mapped, !err);
	tdx_drcache_close(&r);
	want(what, r.exclusive, 0);
	want(what, fake.opened, 0);
	want(what, fake.mapped, 0);
}

static void exclusive(void)
{
	static const int without[] = { ENOSPC, EBUSY, EOPNOTSUPP, EINVAL };
	unsigned int i;

	set_errors(0, 0);
	opened("owner", 0, 0, 1, 0, 0);
	opened("observer", OBSERVE, 0, 1, OBSERVE, 0);
	opened("exclusive", EXCLUSIVE, 0, 1, EXCLUSIVE, 0);
	opened("try", TRY_EXCLUSIVE, 0, 1, EXCLUSIVE, 0);
	/* An observer can't be exclusive, and must not fall back silently. */
	opened("try, observer", TRY_EXCLUSIVE | OBSERVE, -EINVAL, 1, EXCLUSIVE | OBSERVE, 0);
	for (i = 0; i < ARRAY_SIZE(without); i++) {
		set_errors(0, without[i]);
		opened("strict", EXCLUSIVE, -without[i], 1, EXCLUSIVE, 0);
		opened("fall back", TRY_EXCLUSIVE, 0, 2, EXCLUSIVE, 0);
		opened("fall back, with both", TRY_EXCLUSIVE | EXCLUSIVE, 0, 2, EXCLUSIVE, 0);
		/* EXCLUSIVE was not the cause; the second BIND returns the errno. */
		set_errors(without[i], 0);
		opened("not exclusive's", TRY_EXCLUSIVE, -without[i], 2, EXCLUSIVE, 0);
		set_errors(ENXIO, without[i]);
		opened("another", TRY_EXCLUSIVE, -ENXIO, 2, EXCLUSIVE, 0);
	}
	set_errors(ENXIO, 0);
	opened("no CPU", TRY_EXCLUSIVE, -ENXIO, 1, EXCLUSIVE, 0);
	set_errors(0, ENOMEM);
	opened("no memory", TRY_EXCLUSIVE, -ENOMEM, 1, EXCLUSIVE, 0);

	set_errors(0, 0);
	fake.known = OBSERVE;
	opened("older module, strict", EXCLUSIVE, -EINVAL, 1, EXCLUSIVE, 0);
	opened("older module", TRY_EXCLUSIVE, 0, 2, EXCLUSIVE, 0);
}

static void on_fake_device(void)
{
	struct tdx_drcache_header *page;

	page = (struct tdx_drcache_header *)calloc(1, 4096);
	if (!page)
		exit(EXIT_FAILURE);
	page->magic = TDX_DRCACHE_MAGIC;
	page->slot_size = sizeof(struct tdx_drcache_slot);
	page->slot_offset = 64;
	fake.page = page;
	fake.known = OBSERVE | EXCLUSIVE;
	fake.on = true;
	exclusive();
	page->magic = 0;
	opened("another page", OBSERVE, -EPROTO, 1, OBSERVE, 0);
	fake.on = false;
	free(page);
}

int main(void)
{
	struct tdx_drcache_reader r;

	on_fake_device();
	one_slot();
	interleaved();
	interleaved_dr6();
	retries();
	retries_dr6();
	invalidated();
	stepped();
	stepped_dr6();
	if (!bad)
		busy("reads", busy_read);
	if (!bad)
		busy("reads of DR6", busy_read_dr6);
	/* A real device may exist here, but BIND must fail for a bad CPU. */
	want("open", tdx_drcache_open(&r, UINT32_MAX, 0, NULL, TDX_DRCACHE_BIND_OBSERVE) < 0, 1);
	tdx_drcache_close(&r);
	return bad ? EXIT_FAILURE : EXIT_SUCCESS;
}
