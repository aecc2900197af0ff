// SPDX-License-Identifier: MIT
/*
 * The reader library on slots in memory: what it makes of whatever is in one, and
 * that it takes no torn snapshot from a writer that comes between any two of its
 * instructions, or never rests. Built as C and as C++, for the header is for both.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <tdx_drcache_read.h>

#define RAX	0x110000000001ull
#define READS	200000

static int bad;

static void want(const char *what, unsigned int is, unsigned int wanted)
{
	if (is == wanted)
		return;
	printf("%s: %u, want %u\n", what, is, wanted);
	bad = 1;
}

/* The kernel's drcache_slot_publish(); each register is @n. */
static void publish(struct tdx_drcache_slot *slot, uint64_t n)
{
	unsigned int i;

	__atomic_store_n(&slot->seq, slot->seq + 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	__atomic_store_n(&slot->flags, TDX_DRCACHE_VALID, __ATOMIC_RELAXED);
	__atomic_store_n(&slot->exit_rax, RAX, __ATOMIC_RELAXED);
	for (i = 0; i < 4; i++)
		__atomic_store_n(&slot->db[i], n, __ATOMIC_RELAXED);
	__atomic_store_n(&slot->dr6, n, __ATOMIC_RELAXED);
	__atomic_store_n(&slot->tsc, n, __ATOMIC_RELAXED);
	__atomic_store_n(&slot->seq, slot->seq + 1, __ATOMIC_RELEASE);
}

#define TRAP_FLAG "0x100"

/* After each instruction from set_trap() to clear_trap() a SIGTRAP comes. */
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

/* Publish after the first instruction, the second, and so on until there are no more. */
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
		want("stepped: torn", s.db[0] != s.db[1] || s.db[1] != s.db[2] ||
		     s.db[2] != s.db[3] || s.db[3] != s.dr6 || s.dr6 != s.tsc, 0);
		before += s.tsc == 1000;
		after += s.tsc == 2000;
	}
	/* There are more instructions than loads; both must have come. */
	want("stepped: few", before < 5 || after < 10, 0);
}

static struct tdx_drcache_slot busy_slot;
static int stop;

static void *writer(void *arg)
{
	uint64_t n;

	(void)arg;
	for (n = 1; !__atomic_load_n(&stop, __ATOMIC_RELAXED); n++)
		publish(&busy_slot, n);
	return NULL;
}

static void one_slot(void)
{
	struct tdx_drcache_reader r;
	struct tdx_drcache_slot slot, s;

	memset(&r, 0, sizeof(r));
	memset(&slot, 0, sizeof(slot));
	r.fd = -1;
	r.slot = &slot;
	want("nothing published", tdx_drcache_read(&r, 0, 0, &s), TDX_DRCACHE_MISS_INVALID);

	publish(&slot, 1000);
	want("hit", tdx_drcache_read(&r, 1000, RAX, &s), TDX_DRCACHE_HIT);
	want("copy", memcmp(&s, &slot, sizeof(s)), 0);
	want("older", tdx_drcache_read(&r, 1001, RAX, &s), TDX_DRCACHE_MISS_STALE);
	want("another exit", tdx_drcache_read(&r, 1000, RAX + 1, &s),
	     TDX_DRCACHE_MISS_OTHER_EXIT);
	want("observed", tdx_drcache_observe(&r, 1000, &s), TDX_DRCACHE_HIT);
	want("observed, older", tdx_drcache_observe(&r, 1001, &s), TDX_DRCACHE_MISS_STALE);

	slot.flags = TDX_DRCACHE_LATE;
	want("not valid", tdx_drcache_read(&r, 0, RAX, &s), TDX_DRCACHE_MISS_INVALID);
	slot.flags |= TDX_DRCACHE_VALID;
	want("late", tdx_drcache_read(&r, 0, RAX, &s), TDX_DRCACHE_HIT);
	slot.seq++;
	want("being written", tdx_drcache_read(&r, 0, RAX, &s), TDX_DRCACHE_MISS_BUSY);
}

static void busy(void)
{
	struct tdx_drcache_reader r;
	struct tdx_drcache_slot s;
	unsigned int hits = 0, i;
	pthread_t thread;
	uint64_t last = 0;

	memset(&r, 0, sizeof(r));
	r.fd = -1;
	r.slot = &busy_slot;
	if (pthread_create(&thread, NULL, writer, NULL))
		exit(EXIT_FAILURE);
	while (hits < READS) {
		enum tdx_drcache_result res = tdx_drcache_read(&r, last, RAX, &s);

		if (res == TDX_DRCACHE_MISS_BUSY || (res == TDX_DRCACHE_MISS_INVALID && !hits))
			continue;
		hits++;
		want("beside a writer", res, TDX_DRCACHE_HIT);
		for (i = 0; i < 4; i++)
			want("torn", s.db[i] != s.tsc, 0);
		want("torn", s.dr6 != s.tsc || s.seq != 2 * s.tsc % (1ull << 32), 0);
		if (bad)
			break;
		last = s.tsc;
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
}

int main(void)
{
	struct tdx_drcache_reader r;

	one_slot();
	stepped();
	busy();
	/* Where there is a device this may be bound; it must not be for a bad CPU. */
	want("open", tdx_drcache_open(&r, UINT32_MAX, 0, NULL, TDX_DRCACHE_BIND_OBSERVE) < 0, 1);
	tdx_drcache_close(&r);
	return bad ? EXIT_FAILURE : EXIT_SUCCESS;
}
