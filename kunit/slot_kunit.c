// SPDX-License-Identifier: GPL-2.0
/*
 * Test publishing and reading a slot: alone, in every possible interleaving, and on
 * two CPUs at once.
 *
 * slot.h is compiled here with a hook before each load and each store. On x86
 * smp_load_acquire() and smp_store_release() are READ_ONCE() and WRITE_ONCE()
 * with a compiler barrier, so the hooks see them too.
 */
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/sched.h>
#include <linux/sched/task.h>

/* Loads and stores of a slot so far. Each hook is passed the number before its own. */
static unsigned int loads, stores;
static void (*load_hook)(unsigned int nr);
static void (*store_hook)(unsigned int nr);

static void before_load(void)
{
	unsigned int nr = loads;

	if (load_hook)
		load_hook(nr);
	WRITE_ONCE(loads, nr + 1);
}

static void before_store(void)
{
	unsigned int nr = stores++;

	if (store_hook)
		store_hook(nr);
}

#pragma push_macro("READ_ONCE")
#pragma push_macro("WRITE_ONCE")
#undef READ_ONCE
#undef WRITE_ONCE
#define READ_ONCE(x)							\
({									\
	before_load();							\
	__READ_ONCE(x);							\
})
#define WRITE_ONCE(x, val)						\
do {									\
	before_store();							\
	__WRITE_ONCE(x, val);						\
} while (0)

#include "slot.h"

#pragma pop_macro("READ_ONCE")
#pragma pop_macro("WRITE_ONCE")

/* Number of loads in a read that meets no publish, and of stores in a publish. */
#define LOADS		10
#define STORES		10

/* Stops a reader that does not give up by itself. */
#define TOO_MANY	(2 * LOADS * TDX_DRCACHE_READ_RETRIES)

/* Fill a snapshot; @n determines each member. */
static void fill(struct tdx_drcache_slot *snap, u64 n)
{
	*snap = (struct tdx_drcache_slot) {
		.flags = TDX_DRCACHE_VALID | (n & 1 ? TDX_DRCACHE_L1_HWBP : 0),
		.exit_rax = n,
		.db = { n + 1, n + 2, n + 3, n + 4 },
		.dr6 = n + 5,
		.tsc = n + 6,
	};
}

static void publish(struct tdx_drcache_slot *slot, u64 n)
{
	struct tdx_drcache_slot snap;
	struct drcache_sample regs;

	fill(&snap, n);
	regs = (struct drcache_sample) {
		.db0 = snap.db[0], .db1 = snap.db[1], .db2 = snap.db[2],
		.db3 = snap.db[3], .dr6 = snap.dr6, .tsc = snap.tsc,
	};
	drcache_slot_publish(slot, snap.flags, snap.exit_rax, &regs);
}

static bool is_of(const struct tdx_drcache_slot *snap, u64 n)
{
	struct tdx_drcache_slot want;

	fill(&want, n);
	want.seq = snap->seq;
	return !memcmp(snap, &want, sizeof(want));
}

/* The @nr-th store of drcache_slot_publish(), to stop a publish midway. */
static void store(struct tdx_drcache_slot *slot, const struct tdx_drcache_slot *snap,
		  unsigned int nr)
{
	switch (nr) {
	case 0:
	case STORES - 1:
		slot->seq++;
		break;
	case 1:
		slot->flags = snap->flags;
		break;
	case 2:
		slot->exit_rax = snap->exit_rax;
		break;
	case 3 ... 6:
		slot->db[nr - 3] = snap->db[nr - 3];
		break;
	case 7:
		slot->dr6 = snap->dr6;
		break;
	case 8:
		slot->tsc = snap->tsc;
		break;
	}
}

/* Read with @hook before each load. */
static int hooked_read(const struct tdx_drcache_slot *slot, struct tdx_drcache_slot *snap,
		       void (*hook)(unsigned int nr))
{
	int ret;

	loads = 0;
	load_hook = hook;
	ret = drcache_slot_read(slot, 0, snap);
	load_hook = NULL;
	return ret;
}

static struct tdx_drcache_slot stepped;	/* the hooks write here */

static int slot_init(struct kunit *test)
{
	loads = 0;
	stores = 0;
	fill(&stepped, 100);
	return 0;
}

static void publish_read_test(struct kunit *test)
{
	struct tdx_drcache_slot slot = {}, snap;

	publish(&slot, 100);
	KUNIT_EXPECT_EQ(test, slot.seq, 2);
	KUNIT_EXPECT_EQ(test, drcache_slot_read(&slot, 0, &snap), 0);
	KUNIT_EXPECT_TRUE(test, is_of(&snap, 100));

	publish(&slot, 201);
	KUNIT_EXPECT_EQ(test, slot.seq, 4);
	KUNIT_EXPECT_EQ(test, drcache_slot_read(&slot, 0, &snap), 0);
	KUNIT_EXPECT_TRUE(test, is_of(&snap, 201));
}

static void invalid_test(struct kunit *test)
{
	struct tdx_drcache_slot slot = {}, snap;

	KUNIT_EXPECT_EQ(test, drcache_slot_read(&slot, 0, &snap), -ENODATA);

	publish(&slot, 100);
	drcache_slot_invalidate(&slot);
	KUNIT_EXPECT_EQ(test, drcache_slot_read(&slot, 0, &snap), -ENODATA);
	drcache_slot_invalidate(&slot);
	KUNIT_EXPECT_EQ(test, drcache_slot_read(&slot, 0, &snap), -ENODATA);

	/* The slot can be published to again. */
	publish(&slot, 300);
	KUNIT_EXPECT_EQ(test, drcache_slot_read(&slot, 0, &snap), 0);
	KUNIT_EXPECT_TRUE(test, is_of(&snap, 300));
}

static void end_odd(unsigned int nr)
{
	if (nr == TOO_MANY)
		stepped.seq++;
}

/* The writer never ends. */
static void odd_sequence_test(struct kunit *test)
{
	struct tdx_drcache_slot snap;

	stepped.seq = 7;
	KUNIT_EXPECT_EQ(test, hooked_read(&stepped, &snap, end_odd), -EAGAIN);
	KUNIT_EXPECT_EQ(test, loads, TDX_DRCACHE_READ_RETRIES);
	stepped.seq = 8;
	KUNIT_EXPECT_EQ(test, hooked_read(&stepped, &snap, NULL), 0);
	KUNIT_EXPECT_TRUE(test, is_of(&snap, 100));
}

static void wraparound_test(struct kunit *test)
{
	struct tdx_drcache_slot slot = { .seq = U32_MAX - 1 }, snap;

	publish(&slot, 100);
	KUNIT_EXPECT_EQ(test, slot.seq, 0);
	KUNIT_EXPECT_EQ(test, drcache_slot_read(&slot, 0, &snap), 0);
	KUNIT_EXPECT_TRUE(test, is_of(&snap, 100));
}

static void freshness_test(struct kunit *test)
{
	struct tdx_drcache_slot slot = {}, snap;

	publish(&slot, 100);
	KUNIT_EXPECT_EQ(test, drcache_slot_read(&slot, 105, &snap), 0);
	KUNIT_EXPECT_EQ(test, drcache_slot_read(&slot, 106, &snap), 0);
	KUNIT_EXPECT_EQ(test, drcache_slot_read(&slot, 107, &snap), -ESTALE);
	KUNIT_EXPECT_EQ(test, drcache_slot_read(&slot, U64_MAX, &snap), -ESTALE);
	/* A slot that is both reports invalid, not stale. */
	drcache_slot_invalidate(&slot);
	KUNIT_EXPECT_EQ(test, drcache_slot_read(&slot, U64_MAX, &snap), -ENODATA);
}

/* A read loads each member once and seq twice, so the hook sees every load. */
static void loads_test(struct kunit *test)
{
	struct tdx_drcache_slot snap;

	KUNIT_EXPECT_EQ(test, hooked_read(&stepped, &snap, NULL), 0);
	KUNIT_EXPECT_EQ(test, loads, LOADS);
}

static struct {
	struct tdx_drcache_slot want, next;
	unsigned int bad;
} steps;

static void read_between_stores(unsigned int nr)
{
	struct tdx_drcache_slot snap;
	int ret = hooked_read(&stepped, &snap, end_odd);

	if (memcmp(&stepped, &steps.want, sizeof(stepped)))
		steps.bad++;
	if (nr ? ret != -EAGAIN : ret || !is_of(&snap, 100))
		steps.bad++;
	store(&steps.want, &steps.next, nr);
}

/* A publish stores in store()'s order, and readers retry between any two stores. */
static void publish_steps_test(struct kunit *test)
{
	steps.want = stepped;
	fill(&steps.next, 201);
	steps.bad = 0;
	store_hook = read_between_stores;
	publish(&stepped, 201);
	store_hook = NULL;
	KUNIT_EXPECT_EQ(test, stores, STORES);
	KUNIT_EXPECT_EQ(test, steps.bad, 0);
	KUNIT_EXPECT_MEMEQ(test, &stepped, &steps.want, sizeof(stepped));
}

/* Store n of a publish is done before load @before[n] of a read. */
static struct {
	struct tdx_drcache_slot next;
	unsigned char before[STORES];
	unsigned int done;
} mix;

static void mix_stores(unsigned int nr)
{
	while (mix.done < STORES && mix.before[mix.done] <= nr)
		store(&stepped, &mix.next, mix.done++);
}

/* Advance to the next order of loads and stores; false after the last. */
static bool mix_next(void)
{
	unsigned int i = STORES;

	do {
		if (!i)
			return false;
	} while (mix.before[--i] == LOADS);
	memset(&mix.before[i], mix.before[i] + 1, STORES - i);
	return true;
}

/* A publish and a read, in every order of their ten stores and ten loads. */
static void interleaved_test(struct kunit *test)
{
	unsigned int orders = 0, met = 0, failed = 0, torn = 0, wrong = 0;
	struct tdx_drcache_slot old, snap;

	fill(&old, 100);
	fill(&mix.next, 201);
	memset(mix.before, 0, sizeof(mix.before));
	do {
		bool is_old, is_new;

		stepped = old;
		mix.done = 0;
		failed += !!hooked_read(&stepped, &snap, mix_stores);
		is_old = is_of(&snap, 100);
		is_new = is_of(&snap, 201);
		torn += !is_old && !is_new;
		/* A publish before the read gives the new snapshot, one after it the old. */
		wrong += is_old ? !mix.before[STORES - 1] : mix.before[0] == LOADS;
		met += loads != LOADS;
		orders++;
		cond_resched();
	} while (!failed && !torn && !wrong && mix_next());
	kunit_info(test, "%u orders, %u reads met the publish\n", orders, met);
	KUNIT_EXPECT_EQ(test, failed, 0);
	KUNIT_EXPECT_EQ(test, torn, 0);
	KUNIT_EXPECT_EQ(test, wrong, 0);
	KUNIT_EXPECT_EQ(test, orders, 184756);	/* 20 over 10 */
}

/* Publish before load @at of each of the first @tries tries. */
static struct {
	unsigned int at, tries;
	u64 n;
} again;

static void publish_again(unsigned int nr)
{
	if (nr % LOADS == again.at && nr / LOADS < again.tries)
		publish(&stepped, ++again.n);
}

/* A reader stops retrying, but not too early. */
static void retries_test(struct kunit *test)
{
	struct tdx_drcache_slot snap;
	unsigned int i;

	for (again.at = 0; again.at < LOADS; again.at++) {
		for (i = 1; i < TDX_DRCACHE_READ_RETRIES; i++) {
			again.tries = i;
			KUNIT_ASSERT_EQ(test, hooked_read(&stepped, &snap, publish_again), 0);
			KUNIT_ASSERT_TRUE(test, is_of(&snap, again.n));
			/* A publish before the first load causes no retry. */
			KUNIT_ASSERT_EQ(test, loads, again.at ? (i + 1) * LOADS : LOADS);
		}
	}
	again.tries = TOO_MANY / LOADS;
	for (again.at = 1; again.at < LOADS; again.at++) {
		KUNIT_ASSERT_EQ(test, hooked_read(&stepped, &snap, publish_again), -EAGAIN);
		KUNIT_ASSERT_EQ(test, loads, TDX_DRCACHE_READ_RETRIES * LOADS);
	}
}

static void publish_always(unsigned int nr)
{
	if (nr < TOO_MANY)
		publish(&stepped, nr);
}

static void publish_at_each_load_test(struct kunit *test)
{
	struct tdx_drcache_slot snap;

	KUNIT_ASSERT_EQ(test, hooked_read(&stepped, &snap, publish_always), -EAGAIN);
	KUNIT_ASSERT_EQ(test, loads, TDX_DRCACHE_READ_RETRIES * LOADS);
}

static unsigned int invalidate_at;

static void invalidate(unsigned int nr)
{
	if (nr == invalidate_at)
		drcache_slot_invalidate(&stepped);
}

/* Invalidating before flags is loaded gives no snapshot, later the whole one. */
static void invalidate_at_each_load_test(struct kunit *test)
{
	struct tdx_drcache_slot snap;

	for (invalidate_at = 0; invalidate_at < LOADS; invalidate_at++) {
		int want = invalidate_at < 2 ? -ENODATA : 0;

		fill(&stepped, 100);
		KUNIT_ASSERT_EQ(test, hooked_read(&stepped, &snap, invalidate), want);
		KUNIT_ASSERT_EQ(test, loads, LOADS);
		if (!want)
			KUNIT_ASSERT_TRUE(test, is_of(&snap, 100));
	}
}

#define PUBLISHES	500

struct race {
	struct tdx_drcache_slot slot;
	struct completion go;
};

static bool race_done;	/* after the last publish, or a failure */

/* Wait until the reader has done at least @n more loads. */
static void race_wait(unsigned int n)
{
	unsigned int from;

	smp_mb();	/* the reader's next loads see all stores before */
	from = READ_ONCE(loads);
	/* Sleep: the host may run both CPUs on one core. */
	while (!READ_ONCE(race_done) && READ_ONCE(loads) - from <= n)
		usleep_range(1, 10);
}

/* Stop each publish before one of its stores until there was a load. */
static void race_store(unsigned int nr)
{
	if (nr % STORES == 1 + nr / STORES % (STORES - 1))
		race_wait(1);
}

static int race_writer(void *arg)
{
	struct race *race = arg;
	u64 n;

	wait_for_completion(&race->go);
	for (n = 1; n <= PUBLISHES && !READ_ONCE(race_done); n++) {
		/* Let the read that met the last publish end, and another begin. */
		race_wait(2 * LOADS + n % LOADS);
		publish(&race->slot, n * 16);
	}
	WRITE_ONCE(race_done, true);
	return 0;
}

/*
 * One CPU publishes while another reads: no snapshot may be torn, or older than the one
 * before. The writer waits for the reader in the middle of each publish, so scheduling
 * does not affect the number of reads that meet one.
 */
static void race_test(struct kunit *test)
{
	struct race *race = kunit_kzalloc(test, sizeof(*race), GFP_KERNEL);
	unsigned long hits = 0, met = 0, torn = 0, older = 0, other = 0;
	struct tdx_drcache_slot snap;
	struct task_struct *writer;
	unsigned int from;
	u64 last = 0;
	int ret;

	KUNIT_ASSERT_NOT_NULL(test, race);
	if (num_online_cpus() < 2)
		kunit_skip(test, "needs two CPUs");
	/* Check first that a reader gives up. Otherwise it would hang this test. */
	stepped.seq = 7;
	KUNIT_ASSERT_EQ(test, hooked_read(&stepped, &snap, end_odd), -EAGAIN);
	init_completion(&race->go);
	race_done = false;
	writer = kthread_create(race_writer, race, "drcache_writer");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, writer);
	get_task_struct(writer);
	store_hook = race_store;
	wake_up_process(writer);
	complete(&race->go);
	while (!READ_ONCE(race_done)) {
		from = loads;
		ret = drcache_slot_read(&race->slot, 0, &snap);
		met += loads - from != LOADS;
		if (ret || snap.exit_rax == last)
			usleep_range(1, 10);	/* as in race_wait() */
		if (!ret) {
			hits++;
			if (!is_of(&snap, snap.exit_rax))
				torn++;
			if (snap.exit_rax < last)
				older++;
			last = snap.exit_rax;
		} else if (ret != -EAGAIN && ret != -ENODATA) {
			other++;
		}
		if (torn || older)
			break;
		cond_resched();
	}
	WRITE_ONCE(race_done, true);
	kthread_stop_put(writer);
	store_hook = NULL;
	kunit_info(test, "%u publishes, %lu reads, %lu met a publish\n",
		   PUBLISHES, hits, met);
	KUNIT_EXPECT_EQ(test, torn, 0);
	KUNIT_EXPECT_EQ(test, older, 0);
	KUNIT_EXPECT_GE(test, met, PUBLISHES);
	KUNIT_EXPECT_EQ(test, other, 0);
	KUNIT_EXPECT_EQ(test, drcache_slot_read(&race->slot, 0, &snap), 0);
	KUNIT_EXPECT_TRUE(test, is_of(&snap, PUBLISHES * 16));
}

static struct kunit_case slot_cases[] = {
	KUNIT_CASE(publish_read_test),
	KUNIT_CASE(invalid_test),
	KUNIT_CASE(odd_sequence_test),
	KUNIT_CASE(wraparound_test),
	KUNIT_CASE(freshness_test),
	KUNIT_CASE(loads_test),
	KUNIT_CASE(publish_steps_test),
	KUNIT_CASE_SLOW(interleaved_test),
	KUNIT_CASE(retries_test),
	KUNIT_CASE(publish_at_each_load_test),
	KUNIT_CASE(invalidate_at_each_load_test),
	KUNIT_CASE_SLOW(race_test),
	{}
};

static struct kunit_suite slot_suite = {
	.name = "tdx_drcache_slot",
	.init = slot_init,
	.test_cases = slot_cases,
};

kunit_test_suite(slot_suite);
