// SPDX-License-Identifier: GPL-2.0
/*
 * Publish and read a slot, alone and against each other.
 */
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/kthread.h>
#include <linux/sched.h>
#include <linux/sched/task.h>

#include "slot.h"

/* A snapshot of which each member is told by @n. */
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
	struct drcache_regs regs;

	fill(&snap, n);
	regs = (struct drcache_regs) {
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

	/* And it can be published into again. */
	publish(&slot, 300);
	KUNIT_EXPECT_EQ(test, drcache_slot_read(&slot, 0, &snap), 0);
	KUNIT_EXPECT_TRUE(test, is_of(&snap, 300));
}

/* As if the writer were for ever in the middle of it. */
static void odd_sequence_test(struct kunit *test)
{
	struct tdx_drcache_slot slot, snap;

	fill(&slot, 100);
	slot.seq = 7;
	KUNIT_EXPECT_EQ(test, drcache_slot_read(&slot, 0, &snap), -EAGAIN);
	slot.seq = 8;
	KUNIT_EXPECT_EQ(test, drcache_slot_read(&slot, 0, &snap), 0);
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
	/* Not valid comes before old. */
	drcache_slot_invalidate(&slot);
	KUNIT_EXPECT_EQ(test, drcache_slot_read(&slot, U64_MAX, &snap), -ENODATA);
}

#define PUBLISHES	200000

struct race {
	struct tdx_drcache_slot slot;
	struct completion go;
	bool done;
};

static int race_writer(void *arg)
{
	struct race *race = arg;
	u64 n;

	wait_for_completion(&race->go);
	for (n = 1; n <= PUBLISHES; n++) {
		publish(&race->slot, n * 16);
		if (n % 1024 == 0)
			cond_resched();
	}
	WRITE_ONCE(race->done, true);
	return 0;
}

/* One CPU publishes, this one reads: never a torn snapshot, never an older one. */
static void race_test(struct kunit *test)
{
	struct race *race = kunit_kzalloc(test, sizeof(*race), GFP_KERNEL);
	unsigned long hits = 0, torn = 0, older = 0, other = 0;
	struct tdx_drcache_slot snap;
	struct task_struct *writer;
	u64 last = 0;
	int ret;

	KUNIT_ASSERT_NOT_NULL(test, race);
	if (num_online_cpus() < 2)
		kunit_skip(test, "needs two CPUs");
	init_completion(&race->go);
	writer = kthread_create(race_writer, race, "drcache_writer");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, writer);
	get_task_struct(writer);
	wake_up_process(writer);
	complete(&race->go);
	while (!READ_ONCE(race->done)) {
		ret = drcache_slot_read(&race->slot, 0, &snap);
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
		cond_resched();
	}
	kthread_stop_put(writer);
	kunit_info(test, "%u publishes, %lu reads\n", PUBLISHES, hits);
	KUNIT_EXPECT_EQ(test, torn, 0);
	KUNIT_EXPECT_EQ(test, older, 0);
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
	KUNIT_CASE(race_test),
	{}
};

static struct kunit_suite slot_suite = {
	.name = "tdx_drcache_slot",
	.test_cases = slot_cases,
};

kunit_test_suite(slot_suite);
