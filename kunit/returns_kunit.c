// SPDX-License-Identifier: GPL-2.0
/*
 * Try every order of the events of a few tasks on a CPU whose breakpoint registers are
 * reserved: whenever the return hook calls the debug registers intact, DR6 must be what
 * the last exit left. Only DR6 can differ, so the model has no other register.
 */
#include <kunit/test.h>
#include <linux/string.h>

#include "returns.h"

#define RESET	0xffff0ff0ULL	/* DR6 after a #DB */
#define OTHER	0xffff0ff4ULL
#define DEPTH	8

/* Two tasks that enter the L2, and one that does not. */
enum { VMM, VMM2, BYSTANDER, TASKS };

struct model {
	struct drcache_returns returns;
	u64 dr6, left;		/* DR6 now, and after the last exit */
	int user;		/* the task in user mode, or -1 */
	bool in_ioctl[TASKS], exited[TASKS];
	bool dead;		/* VMM is dead, and BYSTANDER has its address */
};

struct counts {
	unsigned long intact, missed, wrong;
};

static u64 dr6_now;

static u64 read_model_dr6(void)
{
	return dr6_now;
}

static const struct task_struct *address(const struct model *m, int task)
{
	/* Never dereferenced. */
	return (void *)(uintptr_t)(m->dead && task == BYSTANDER ? VMM + 1 : task + 1);
}

static bool is_alive(const struct model *m, int task)
{
	return task != VMM || !m->dead;
}

/* Apply an event of a task. False if it can't happen now. */
typedef bool event_fn(struct model *m, int task, struct counts *n);

/* The task returns to user space from anything but an ioctl that entered the L2. */
static bool returns(struct model *m, int task, struct counts *n)
{
	if (m->in_ioctl[task])
		return false;
	dr6_now = m->dr6;
	drcache_returns_any(&m->returns, address(m, task), read_model_dr6);
	m->user = task;
	return true;
}

static bool has_db(struct model *m, int task, struct counts *n)
{
	if (m->user != task || m->dr6 == RESET)
		return false;
	m->dr6 = RESET;
	return true;
}

static bool enters(struct model *m, int task, struct counts *n)
{
	if (m->user != task || task == BYSTANDER)
		return false;
	m->in_ioctl[task] = true;
	m->exited[task] = false;
	m->user = -1;
	return true;
}

/* The task migrates here from another CPU, inside the ioctl. */
static bool moves_in(struct model *m, int task, struct counts *n)
{
	if (m->in_ioctl[task] || m->user == task || task == BYSTANDER)
		return false;
	m->in_ioctl[task] = true;
	m->exited[task] = false;
	m->user = -1;
	return true;
}

static bool exits(struct model *m, int task, u64 dr6)
{
	if (!m->in_ioctl[task])
		return false;
	m->exited[task] = true;
	m->dr6 = dr6;
	m->left = dr6;
	m->user = -1;
	return true;
}

static bool exits_with_reset(struct model *m, int task, struct counts *n)
{
	return exits(m, task, RESET);
}

static bool exits_with_other(struct model *m, int task, struct counts *n)
{
	return exits(m, task, OTHER);
}

static bool returns_from_l2(struct model *m, int task, struct counts *n)
{
	if (!m->exited[task])
		return false;
	m->in_ioctl[task] = false;
	m->exited[task] = false;
	m->user = task;
	if (!drcache_returns_exit(&m->returns, address(m, task), m->dr6)) {
		n->missed++;
		return true;
	}
	n->intact++;
	n->wrong += m->dr6 != m->left;
	return true;
}

/* The task ends, and the bystander gets its address. */
static bool dies(struct model *m, int task, struct counts *n)
{
	if (task != VMM || m->in_ioctl[VMM])
		return false;
	m->dead = true;
	if (m->user == VMM)
		m->user = -1;
	return true;
}

static event_fn *const events[] = {
	returns, has_db, enters, moves_in, exits_with_reset, exits_with_other,
	returns_from_l2, dies,
};

/* Try every sequence of @depth more events. */
static void go_on(const struct model *before, unsigned int depth, struct counts *n)
{
	struct model m;
	unsigned int i;
	int task;

	if (!depth)
		return;
	for (i = 0; i < ARRAY_SIZE(events); i++) {
		for (task = 0; task < TASKS; task++) {
			m = *before;
			if (is_alive(&m, task) && events[i](&m, task, n))
				go_on(&m, depth - 1, n);
		}
	}
}

static void any_order_test(struct kunit *test)
{
	struct model m = { .dr6 = OTHER, .left = OTHER, .user = -1 };
	struct counts n = { 0 };

	drcache_returns_reset(&m.returns);
	go_on(&m, DEPTH, &n);
	kunit_info(test, "%lu intact, %lu missed, %lu wrong", n.intact, n.missed, n.wrong);
	KUNIT_EXPECT_EQ(test, 0, n.wrong);
	/* Both outcomes must occur. */
	KUNIT_EXPECT_GT(test, n.intact, 10000);
	KUNIT_EXPECT_GT(test, n.missed, 10000);
}

/* DR6 as @others saw it, DR6 now, and the wanted decision. */
struct decision {
	const char *desc;
	bool same_task;
	u64 others[3], now;
	bool intact;
};

static const struct decision decisions[] = {
	{ "no other returned", true, { }, OTHER, true },
	{ "another task enters the L2", false, { }, OTHER, false },
	{ "one other, the same DR6", true, { OTHER }, OTHER, true },
	{ "one other, another DR6", true, { OTHER }, RESET, false },
	{ "one other, DR6 reset before it returned", true, { RESET }, OTHER, false },
	{ "three others, the same DR6", true, { OTHER, OTHER, OTHER }, OTHER, true },
	{ "the first differs", true, { RESET, OTHER, OTHER }, OTHER, false },
	{ "the second differs", true, { OTHER, RESET, OTHER }, OTHER, false },
	{ "the last differs", true, { OTHER, OTHER, RESET }, OTHER, false },
	{ "DR6 is as the first saw it alone", true, { RESET, OTHER }, RESET, false },
	{ "another task, the same DR6", false, { OTHER }, OTHER, false },
};

KUNIT_ARRAY_PARAM_DESC(decision, decisions, desc);

static void decision_test(struct kunit *test)
{
	const struct task_struct *vmm = (void *)1, *other = (void *)2;
	const struct decision *d = test->param_value;
	struct drcache_returns r;
	unsigned int i;

	drcache_returns_reset(&r);
	drcache_returns_any(&r, d->same_task ? vmm : other, read_model_dr6);
	for (i = 0; i < ARRAY_SIZE(d->others) && d->others[i]; i++) {
		dr6_now = d->others[i];
		drcache_returns_any(&r, (void *)(uintptr_t)(3 + i), read_model_dr6);
	}
	KUNIT_EXPECT_EQ(test, d->intact, drcache_returns_exit(&r, vmm, d->now));
	/* The VMM's task has returned, so earlier returns do not count. */
	KUNIT_EXPECT_TRUE(test, drcache_returns_exit(&r, vmm, RESET));
}

static struct kunit_case returns_cases[] = {
	KUNIT_CASE(any_order_test),
	KUNIT_CASE_PARAM(decision_test, decision_gen_params),
	{}
};

static struct kunit_suite returns_suite = {
	.name = "tdx_drcache_returns",
	.test_cases = returns_cases,
};

kunit_test_suite(returns_suite);
