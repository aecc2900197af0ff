// SPDX-License-Identifier: GPL-2.0
/*
 * Test /dev/mshv of the stand-in from user space: each behaviour of OHCL's host driver
 * that a VMM or a hook can see. Needs tdx_emul and mshv_vtl_emul loaded, and no other
 * program that runs L2s.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <mshv/mshv_vtl.h>

#include "kselftest_harness.h"

#define PAGE		4096
#define SOME		20
#define CODE		0x1000
#define KNOBS		"/sys/module/mshv_vtl_emul/parameters/"
#define EMUL_KNOBS	"/sys/module/tdx_emul/parameters/"

#define REASON_HW_INTERRUPT	1
#define REASON_HLT		12
#define REASON_TIMER		52
#define RAX_NOTHING		((uint64_t)TDX_CLASS_PENDING_INTERRUPT << TDX_CLASS_SHIFT)
#define RAX_INTERRUPT		((uint64_t)TDX_CLASS_L2_EXIT_HOST_ROUTED_ASYNC << 32 | 1)

/* The L2's programs, in real mode. */
static const uint8_t spin[] = { 0xeb, 0xfe };
static const uint8_t hlt_spin[] = { 0xf4, 0xeb, 0xfe };

enum { FAST, PLAY_IDLE, IDLE_THREAD, MODES };

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = write(fd, text, strlen(text));
	close(fd);
	return n < 0 ? -1 : 0;
}

static int read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read(fd, text, size - 1);
	close(fd);
	if (n < 0)
		return -1;
	text[n] = 0;
	return 0;
}

/* Read the number of entries so far in each mode. */
static int read_entries(unsigned long *n)
{
	char text[80];

	if (read_file(KNOBS "entries", text, sizeof(text)))
		return -1;
	return sscanf(text, "%lu %lu %lu", &n[FAST], &n[PLAY_IDLE], &n[IDLE_THREAD]) == 3 ? 0 : -1;
}

static long read_user_returns(void)
{
	char text[40];

	return read_file(KNOBS "user_returns", text, sizeof(text)) ? -1 : atol(text);
}

static bool has_idle_thread(void)
{
	char text[8];

	return !read_file(KNOBS "idle_thread", text, sizeof(text)) && text[0] == 'Y';
}

/* Number of voluntary context switches of this thread. */
static long switches(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nvcsw;
}

/* A CPU's count in a row of /proc/interrupts; -1 if there is no such row. */
static long irq_count(const char *row, unsigned int cpu)
{
	FILE *f = fopen("/proc/interrupts", "re");
	char line[4096], *p;
	long n = -1;

	while (f && n < 0 && fgets(line, sizeof(line), f)) {
		p = line + strspn(line, " ");
		if (strncmp(p, row, strlen(row)))
			continue;
		p = strchr(p, ':') + 1;
		for (unsigned int i = 0; i <= cpu; i++)
			n = strtol(p, &p, 10);
	}
	if (f)
		fclose(f);
	return n;
}

static uint64_t rdtsc(void)
{
	return __builtin_ia32_rdtsc();
}

/* Measure the ticks of the time stamp counter in 10 ms. */
static uint64_t tsc_10ms(void)
{
	uint64_t start = rdtsc();

	usleep(10000);
	return rdtsc() - start;
}

static void set_affinity(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static volatile sig_atomic_t handled;
static void count_signal(int sig)
{
	(void)sig;
	handled++;
}

/**
 * struct l2 - an L2 on the last CPU
 * @mshv: /dev/mshv
 * @vtl: the VTL's file
 * @tick: timer of the calling thread, for enter()
 * @cpu: the CPU
 * @memory: the L2's memory
 * @run: the CPU's run page
 */
struct l2 {
	int mshv, vtl, tick;
	unsigned int cpu;
	uint8_t *memory;
	volatile struct mshv_vtl_run *run;
};

/* Set up an L2, and move the caller to its CPU. */
static void l2_setup(struct __test_metadata *_metadata, struct l2 *self)
{
	struct mshv_vtl_emul_memory mem = { .length = 4 * PAGE };

	write_file(KNOBS "reenter", "0");
	write_file(KNOBS "plant", "0");
	write_file(EMUL_KNOBS "exit_class", "0x1100");
	write_file(EMUL_KNOBS "refuse", "0");
	self->mshv = open("/dev/mshv", O_RDWR | O_CLOEXEC);
	if (self->mshv < 0)
		SKIP(return, "no /dev/mshv");
	self->vtl = ioctl(self->mshv, MSHV_CREATE_VTL, NULL);
	ASSERT_GE(self->vtl, 0);
	self->cpu = get_nprocs() - 1;
	set_affinity(self->cpu);
	self->run = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, self->vtl,
			 (off_t)self->cpu * PAGE);
	ASSERT_NE((void *)self->run, MAP_FAILED);
	self->memory = mmap(NULL, mem.length, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE((void *)self->memory, MAP_FAILED);
	mem.addr = (uintptr_t)self->memory;
	ASSERT_EQ(ioctl(self->vtl, MSHV_VTL_EMUL_SET_MEMORY, &mem), 0);
	memcpy(self->memory + CODE, spin, sizeof(spin));

	memset((void *)self->run, 0, sizeof(*self->run));
	self->run->entry_rcx = 1ull << TDX_ENTRY_VM_SHIFT;
	self->run->l2_enter_guest_state.rip = CODE;
	self->run->l2_enter_guest_state.rflags = 2;
	*(volatile uint16_t *)self->run->fx_state = 0x37f;
	*(volatile uint32_t *)(self->run->fx_state + 24) = 0x1f80;
	self->tick = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	ASSERT_GE(self->tick, 0);
}

static void l2_teardown(struct l2 *self)
{
	write_file(KNOBS "reenter", "0");
	write_file(KNOBS "plant", "0");
	write_file(EMUL_KNOBS "exit_class", "0x1100");
	write_file(EMUL_KNOBS "refuse", "0");
	/* The next VMM inherits the page's contents. */
	if (self->run)
		memset((void *)self->run, 0, sizeof(*self->run));
	close(self->vtl);
	close(self->mshv);
}

FIXTURE(vtl)
{
	struct l2 v;
};

FIXTURE_SETUP(vtl)
{
	l2_setup(_metadata, &self->v);
}

FIXTURE_TEARDOWN(vtl)
{
	l2_teardown(&self->v);
}

/* Enter the L2, with an interrupt here in a millisecond. Returns 0 or the errno. */
static int enter(struct l2 *self)
{
	const struct itimerspec its = { .it_value = { 0, 1000000 } };

	timerfd_settime(self->tick, 0, &its, NULL);
	return ioctl(self->vtl, MSHV_VTL_RETURN_TO_LOWER_VTL) ? errno : 0;
}

/* The mode that this kernel must use when @mode is asked for. */
static unsigned int expected_mode(unsigned int mode)
{
	mode &= 0xf;
	if (!mode || get_nprocs_conf() == 1)
		return FAST;
	return mode == 2 && has_idle_thread() ? IDLE_THREAD : PLAY_IDLE;
}

TEST_F(vtl, extensions)
{
	static const int want[] = { 0, 0, 0, 1, 0 };
	uint32_t cap;

	for (cap = 0; cap < 5; cap++)
		EXPECT_EQ(ioctl(self->v.mshv, MSHV_CHECK_EXTENSION, &cap), want[cap]);
	EXPECT_EQ(ioctl(self->v.mshv, MSHV_CHECK_EXTENSION, &cap), -1);
	EXPECT_EQ(errno, EOPNOTSUPP);
	EXPECT_EQ(ioctl(self->v.mshv, MSHV_VTL_RETURN_TO_LOWER_VTL), -1);
	EXPECT_EQ(errno, ENOTTY);
	EXPECT_EQ(ioctl(self->v.vtl, MSHV_CREATE_VTL), -1);
	EXPECT_EQ(errno, ENOTTY);
}

static sigjmp_buf fault;
static void on_fault(int sig)
{
	siglongjmp(fault, sig);
}

/* Read from @p. Returns the signal that this raises, or 0. */
static int touch(volatile uint8_t *p)
{
	int sig = sigsetjmp(fault, 1);

	if (!sig)
		(void)*p;
	return sig;
}

TEST_F(vtl, run_page_is_mapped_by_faults)
{
	unsigned int cpus = get_nprocs_conf();
	char line[512], start[32];
	volatile uint8_t *p;
	bool found = false, ours = false;
	FILE *f;

	/* Any mapping succeeds. A missing CPU, or another kind of page, raises SIGBUS. */
	signal(SIGBUS, on_fault);
	p = mmap(NULL, (cpus + 1) * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, self->v.vtl, 0);
	ASSERT_NE((void *)p, MAP_FAILED);
	self->v.run->exit_message[0] = 0x5a;
	EXPECT_EQ(p[self->v.cpu * PAGE + offsetof(struct mshv_vtl_run, exit_message)], 0x5a);
	EXPECT_EQ(touch(p + cpus * PAGE), SIGBUS);
	for (off_t kind = 1; kind < 6; kind++) {
		p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->v.vtl, (kind << 16) * PAGE);
		ASSERT_NE((void *)p, MAP_FAILED);
		EXPECT_EQ(touch(p), SIGBUS);
	}

	/* The page must be ordinary memory, so that others can pin it. */
	f = fopen("/proc/self/smaps", "re");
	if (!f)
		SKIP(return, "no /proc/self/smaps");
	snprintf(start, sizeof(start), "%lx-", (unsigned long)self->v.run);
	while (fgets(line, sizeof(line), f)) {
		if (strchr(line, '-') && !strchr(line, ':'))
			ours = false;
		if (!strncmp(line, start, strlen(start)))
			ours = true;
		if (!ours || strncmp(line, "VmFlags:", 8))
			continue;
		found = true;
		ours = false;
		EXPECT_EQ(strstr(line, " io"), NULL);
		EXPECT_EQ(strstr(line, " pf"), NULL);
		EXPECT_EQ(strstr(line, " mm"), NULL);
	}
	fclose(f);
	EXPECT_TRUE(found);
}

TEST_F(vtl, registers_one_at_a_time)
{
	struct hv_register_assoc reg = { .name = HV_X64_REGISTER_DR0, .value = { 0x1234 } };
	struct mshv_vp_registers arg = { .count = 1, .regs_ptr = (uintptr_t)&reg };

	ASSERT_EQ(ioctl(self->v.vtl, MSHV_SET_VP_REGISTERS, &arg), 0);
	reg.value[0] = 0;
	ASSERT_EQ(ioctl(self->v.vtl, MSHV_GET_VP_REGISTERS, &arg), 0);
	EXPECT_EQ(reg.value[0], 0x1234);
	for (arg.count = 0; arg.count < 4; arg.count += 2) {
		EXPECT_EQ(ioctl(self->v.vtl, MSHV_GET_VP_REGISTERS, &arg), -1);
		EXPECT_EQ(errno, EINVAL);
		EXPECT_EQ(ioctl(self->v.vtl, MSHV_SET_VP_REGISTERS, &arg), -1);
		EXPECT_EQ(errno, EINVAL);
	}
	/* DR7 is not shared, and the driver asks no hypervisor. */
	arg.count = 1;
	reg.name = HV_X64_REGISTER_DR6 + 1;
	EXPECT_EQ(ioctl(self->v.vtl, MSHV_GET_VP_REGISTERS, &arg), -1);
	EXPECT_EQ(errno, EINVAL);
}

FIXTURE(mode)
{
	struct l2 v;
};

FIXTURE_VARIANT(mode)
{
	unsigned int enter_mode;
	unsigned int reenter;
};

FIXTURE_VARIANT_ADD(mode, fast) { .enter_mode = 0x00 };
FIXTURE_VARIANT_ADD(mode, play_idle) { .enter_mode = 0x01 };
FIXTURE_VARIANT_ADD(mode, idle_thread) { .enter_mode = 0x02 };
FIXTURE_VARIANT_ADD(mode, any_other) { .enter_mode = 0x07 };
FIXTURE_VARIANT_ADD(mode, fast_0x10) { .enter_mode = 0x10, .reenter = 1 };
FIXTURE_VARIANT_ADD(mode, fast_0x20) { .enter_mode = 0x20, .reenter = 2 };
FIXTURE_VARIANT_ADD(mode, play_idle_0x01) { .enter_mode = 0x01, .reenter = 2 };
FIXTURE_VARIANT_ADD(mode, play_idle_0x21) { .enter_mode = 0x21, .reenter = 1 };
FIXTURE_VARIANT_ADD(mode, idle_thread_0x12) { .enter_mode = 0x12, .reenter = 2 };

FIXTURE_SETUP(mode)
{
	l2_setup(_metadata, &self->v);
}

FIXTURE_TEARDOWN(mode)
{
	l2_teardown(&self->v);
}

/* The low nibble is the mode of every entry of an ioctl; the upper one is ignored. */
TEST_F(mode, each_entry_is_in_the_first)
{
	unsigned int mode = expected_mode(variant->enter_mode), n = SOME * (variant->reenter + 1);
	unsigned long before[MODES], after[MODES];
	char text[8];
	long slept;

	if ((variant->enter_mode & 0xf) == 2 && !has_idle_thread())
		TH_LOG("no idle-thread mode here: play idle");
	snprintf(text, sizeof(text), "%u", variant->reenter);
	ASSERT_EQ(write_file(KNOBS "reenter", text), 0);
	self->v.run->enter_mode = variant->enter_mode;
	ASSERT_EQ(read_entries(before), 0);
	slept = switches();
	for (unsigned int i = 0; i < SOME; i++) {
		ASSERT_EQ(enter(&self->v), 0);
		EXPECT_EQ(self->v.run->exit_info.rax, RAX_INTERRUPT);
	}
	slept = switches() - slept;
	ASSERT_EQ(read_entries(after), 0);
	for (unsigned int i = 0; i < MODES; i++)
		EXPECT_EQ(after[i] - before[i], i == mode ? n : 0);
	/* The VMM's task sleeps while the idle task enters. */
	EXPECT_TRUE(mode == IDLE_THREAD ? slept >= n : slept < SOME / 2);
}

FIXTURE(halted)
{
	struct l2 v;
	uint64_t ms10;
};

FIXTURE_VARIANT(halted)
{
	unsigned int enter_mode;
};

FIXTURE_VARIANT_ADD(halted, fast) { .enter_mode = 0x20 };
FIXTURE_VARIANT_ADD(halted, play_idle) { .enter_mode = 0x01 };
FIXTURE_VARIANT_ADD(halted, idle_thread) { .enter_mode = 0x02 };

FIXTURE_SETUP(halted)
{
	l2_setup(_metadata, &self->v);
	if (_metadata->exit_code)
		return;
	self->ms10 = tsc_10ms();
	self->v.run->enter_mode = variant->enter_mode;
	self->v.run->flags = MSHV_VTL_RUN_FLAG_HALTED;
}

FIXTURE_TEARDOWN(halted)
{
	l2_teardown(&self->v);
}

static void set_deadline(struct l2 *v, uint64_t deadline)
{
	v->run->l2_tsc_deadline.deadline = deadline;
	v->run->l2_tsc_deadline.update = MSHV_VTL_TDX_L2_DEADLINE_UPDATE;
}

TEST_F(halted, no_deadline)
{
	for (unsigned int i = 0; i < SOME; i++) {
		ASSERT_EQ(enter(&self->v), 0);
		EXPECT_EQ(self->v.run->exit_info.rax, RAX_NOTHING);
		EXPECT_EQ(self->v.run->l2_enter_guest_state.rip, CODE);
	}
}

TEST_F(halted, past_deadline)
{
	for (unsigned int i = 0; i < SOME; i++) {
		set_deadline(&self->v, rdtsc() - 1);
		ASSERT_EQ(enter(&self->v), 0);
		EXPECT_EQ(self->v.run->exit_info.rax, REASON_TIMER);
		EXPECT_EQ(self->v.run->l2_tsc_deadline.update, 0);
		EXPECT_EQ(self->v.run->l2_enter_guest_state.rip, CODE);
	}
	/* The deadline has expired, so there is none now. */
	ASSERT_EQ(enter(&self->v), 0);
	EXPECT_EQ(self->v.run->exit_info.rax, RAX_NOTHING);
	/* 0 means no deadline, not one in the past. */
	set_deadline(&self->v, MSHV_VTL_TDX_L2_DEADLINE_DISARMED);
	ASSERT_EQ(enter(&self->v), 0);
	EXPECT_EQ(self->v.run->exit_info.rax, RAX_NOTHING);
}

TEST_F(halted, future_deadline)
{
	uint64_t deadline = rdtsc() + 5 * self->ms10;
	bool other = false;

	set_deadline(&self->v, deadline);
	for (;;) {
		ASSERT_EQ(enter(&self->v), 0);
		if (self->v.run->exit_info.rax != RAX_NOTHING)
			break;
		other = true;
		EXPECT_EQ(self->v.run->l2_tsc_deadline.update, MSHV_VTL_TDX_L2_DEADLINE_UPDATE);
	}
	EXPECT_EQ(self->v.run->exit_info.rax, REASON_TIMER);
	EXPECT_GE(rdtsc(), deadline);
	/* An interrupt before the deadline also ends the halt. */
	EXPECT_TRUE(other);
}

/* A deadline that an entry takes also applies to a later halt. */
TEST_F(halted, deadline_of_an_entry)
{
	self->v.run->flags = 0;
	set_deadline(&self->v, rdtsc() + 1000 * self->ms10);
	ASSERT_EQ(enter(&self->v), 0);
	EXPECT_EQ(self->v.run->exit_info.rax, RAX_INTERRUPT);
	EXPECT_EQ(self->v.run->l2_tsc_deadline.update, 0);
	set_deadline(&self->v, rdtsc() - 1);
	ASSERT_EQ(enter(&self->v), 0);
	self->v.run->flags = MSHV_VTL_RUN_FLAG_HALTED;
	ASSERT_EQ(enter(&self->v), 0);
	EXPECT_EQ(self->v.run->exit_info.rax, REASON_TIMER);
}

TEST_F(halted, cancelled)
{
	self->v.run->cancel = 1;
	EXPECT_EQ(enter(&self->v), EINTR);
}

/* How a helper thread ends another thread's run, once that has entered its L2. */
enum how { BY_KICK, BY_KICK_AND_WAIT, BY_POLL_FILE, BY_SIGNAL, BY_CANCEL_AND_KICK };

struct helper {
	struct l2 *v;
	enum how how;
	pthread_t thread, caller;
	int event;
	unsigned long entries;
	volatile bool returned;
	bool early, failed;
};

static int kick(struct l2 *v, uint64_t flags)
{
	uint64_t mask[128] = { 0 };
	struct mshv_kick_cpus arg = {
		.len = sizeof(mask), .cpu_mask_ptr = (uintptr_t)mask, .flags = flags,
	};

	mask[v->cpu / 64] = 1ull << v->cpu % 64;
	return ioctl(v->vtl, MSHV_VTL_KICK_CPU, &arg) ? errno : 0;
}

static unsigned long all_entries(void)
{
	unsigned long n[MODES] = { 0 };

	read_entries(n);
	return n[FAST] + n[PLAY_IDLE] + n[IDLE_THREAD];
}

static void *end_run(void *arg)
{
	struct helper *h = arg;
	uint64_t one = 1;
	bool failed = false;

	set_affinity(0);
	/* A kick alone causes an exit, but does not end the run. */
	while (all_entries() < h->entries + 10) {
		failed |= kick(h->v, 0);
		usleep(1000);
	}
	h->early = h->returned;
	switch (h->how) {
	case BY_KICK:
		failed |= kick(h->v, MSHV_KICK_CPUS_FLAG_CANCEL_CPU_RUN);
		break;
	case BY_KICK_AND_WAIT:
		failed |= kick(h->v, MSHV_KICK_CPUS_FLAG_CANCEL_CPU_RUN |
			       MSHV_KICK_CPUS_FLAG_WAIT_FOR_CPUS);
		break;
	case BY_POLL_FILE:
		failed |= write(h->event, &one, sizeof(one)) != sizeof(one);
		break;
	case BY_SIGNAL:
		failed |= pthread_kill(h->caller, SIGUSR1);
		break;
	case BY_CANCEL_AND_KICK:
		h->v->run->cancel = 1;
		failed |= kick(h->v, 0);
	}
	h->failed = failed;
	return NULL;
}

FIXTURE(offload)
{
	struct l2 v;
	int event;
};

FIXTURE_VARIANT(offload)
{
	unsigned int enter_mode;
	enum how how;
};

FIXTURE_VARIANT_ADD(offload, kick) { .enter_mode = 0x20, .how = BY_KICK };
FIXTURE_VARIANT_ADD(offload, kick_and_wait) { .enter_mode = 0x20, .how = BY_KICK_AND_WAIT };
FIXTURE_VARIANT_ADD(offload, poll_file) { .enter_mode = 0x20, .how = BY_POLL_FILE };
FIXTURE_VARIANT_ADD(offload, signal) { .enter_mode = 0x20, .how = BY_SIGNAL };
FIXTURE_VARIANT_ADD(offload, cancel) { .enter_mode = 0x20, .how = BY_CANCEL_AND_KICK };
FIXTURE_VARIANT_ADD(offload, play_idle_kick) { .enter_mode = 1, .how = BY_KICK };
FIXTURE_VARIANT_ADD(offload, idle_thread_kick) { .enter_mode = 2, .how = BY_KICK };
FIXTURE_VARIANT_ADD(offload, idle_thread_wait) { .enter_mode = 2, .how = BY_KICK_AND_WAIT };
FIXTURE_VARIANT_ADD(offload, idle_thread_poll_file) { .enter_mode = 2, .how = BY_POLL_FILE };
FIXTURE_VARIANT_ADD(offload, idle_thread_signal) { .enter_mode = 2, .how = BY_SIGNAL };

FIXTURE_SETUP(offload)
{
	struct mshv_vtl_set_poll_file poll;

	l2_setup(_metadata, &self->v);
	if (_metadata->exit_code)
		return;
	if (get_nprocs() < 2)
		SKIP(return, "one CPU: nobody can end the run");
	self->event = eventfd(0, EFD_CLOEXEC);
	ASSERT_GE(self->event, 0);
	poll.cpu = self->v.cpu;
	poll.fd = self->event;
	ASSERT_EQ(ioctl(self->v.vtl, MSHV_VTL_SET_POLL_FILE, &poll), 0);
	signal(SIGUSR1, count_signal);
	self->v.run->enter_mode = variant->enter_mode;
}

FIXTURE_TEARDOWN(offload)
{
	l2_teardown(&self->v);
}

/* Run the L2 until a helper ends the run, after ten entries or halts. */
static int run_until_ended(struct l2 *v, int event, enum how how, struct helper *h)
{
	int ret;

	memset(h, 0, sizeof(*h));
	h->v = v;
	h->how = how;
	h->caller = pthread_self();
	h->event = event;
	h->entries = all_entries();
	if (pthread_create(&h->thread, NULL, end_run, h))
		return -1;
	ret = ioctl(v->vtl, MSHV_VTL_RETURN_TO_LOWER_VTL) ? errno : 0;
	h->returned = true;
	pthread_join(h->thread, NULL);
	return ret;
}

/* Exits on L1's interrupts do not return to user space. */
TEST_F(offload, pending_interrupts)
{
	struct helper h;

	self->v.run->offload_flags = MSHV_VTL_OFFLOAD_FLAG_INTR_INJECT;
	ASSERT_EQ(write_file(EMUL_KNOBS "exit_class", "0x1102"), 0);
	EXPECT_EQ(run_until_ended(&self->v, self->event, variant->how, &h), EINTR);
	EXPECT_FALSE(h.early);
	EXPECT_FALSE(h.failed);
	/* The kernel does not clear cancel. */
	EXPECT_EQ(self->v.run->cancel, variant->how != BY_SIGNAL);
	EXPECT_EQ(handled, variant->how == BY_SIGNAL);
	EXPECT_EQ(self->v.run->l2_enter_guest_state.rip, CODE);
}

/* Refused entries do not return to user space either. */
TEST_F(offload, refused_entries)
{
	struct helper h;

	self->v.run->offload_flags = MSHV_VTL_OFFLOAD_FLAG_INTR_INJECT;
	ASSERT_EQ(write_file(EMUL_KNOBS "refuse", "1"), 0);
	EXPECT_EQ(run_until_ended(&self->v, self->event, variant->how, &h), EINTR);
	EXPECT_FALSE(h.early);
	EXPECT_FALSE(h.failed);
	EXPECT_EQ(self->v.run->exit_info.rax, RAX_NOTHING);
}

/* HLT leads to the halted state, in which the L2 is not entered. */
TEST_F(offload, hlt)
{
	struct helper h;

	memcpy(self->v.memory + CODE, hlt_spin, sizeof(hlt_spin));
	self->v.run->offload_flags = MSHV_VTL_OFFLOAD_FLAG_INTR_INJECT;
	/* An interrupt may come before the HLT. */
	ASSERT_EQ(write_file(EMUL_KNOBS "exit_class", "0x1102"), 0);
	EXPECT_EQ(run_until_ended(&self->v, self->event, variant->how, &h), EINTR);
	EXPECT_FALSE(h.early);
	EXPECT_FALSE(h.failed);
	EXPECT_EQ(self->v.run->exit_info.rax, RAX_NOTHING);
	EXPECT_EQ(self->v.run->flags, MSHV_VTL_RUN_FLAG_HALTED);
	EXPECT_EQ(self->v.run->offload_flags, MSHV_VTL_OFFLOAD_FLAG_INTR_INJECT |
					      MSHV_VTL_OFFLOAD_FLAG_HALT_HLT);
	EXPECT_EQ(self->v.run->l2_enter_guest_state.rip, CODE + 1);

	/* User space ends the halted state. */
	self->v.run->flags = 0;
	self->v.run->cancel = 0;
	self->v.run->offload_flags = 0;
	ASSERT_EQ(write_file(EMUL_KNOBS "exit_class", "0x1100"), 0);
	ASSERT_EQ(enter(&self->v), 0);
	EXPECT_EQ(self->v.run->exit_info.rax, RAX_INTERRUPT);
	EXPECT_EQ(self->v.run->l2_enter_guest_state.rip, CODE + 1);
}

/* A deadline in the halted state returns to user space. */
TEST_F(offload, halted)
{
	struct helper h;

	self->v.run->offload_flags = MSHV_VTL_OFFLOAD_FLAG_INTR_INJECT;
	self->v.run->flags = MSHV_VTL_RUN_FLAG_HALTED;
	EXPECT_EQ(run_until_ended(&self->v, self->event, variant->how, &h), EINTR);
	EXPECT_FALSE(h.early);
	EXPECT_FALSE(h.failed);

	/* User space handles the deadline. */
	self->v.run->cancel = 0;
	self->v.run->l2_tsc_deadline.deadline = rdtsc() + tsc_10ms();
	self->v.run->l2_tsc_deadline.update = MSHV_VTL_TDX_L2_DEADLINE_UPDATE;
	EXPECT_EQ(enter(&self->v), 0);
	EXPECT_EQ(self->v.run->exit_info.rax, REASON_TIMER);
}

/* The deadline also applies to an idle CPU while the VMM sleeps, and changes RAX. */
TEST_F(vtl, deadline_while_the_cpu_idles)
{
	uint64_t ms10 = tsc_10ms();

	if (!has_idle_thread())
		SKIP(return, "not the driver's idle routine");
	ASSERT_EQ(enter(&self->v), 0);
	self->v.run->l2_tsc_deadline.deadline = rdtsc() + 2 * ms10;
	self->v.run->l2_tsc_deadline.update = MSHV_VTL_TDX_L2_DEADLINE_UPDATE;
	EXPECT_EQ(self->v.run->exit_info.rax, RAX_INTERRUPT);
	for (unsigned int i = 0; i < 100 && self->v.run->exit_info.rax == RAX_INTERRUPT; i++)
		usleep(10000);
	EXPECT_EQ(self->v.run->exit_info.rax, REASON_TIMER);
	EXPECT_EQ(self->v.run->l2_tsc_deadline.update, 0);
}

/* Without the flag, each of these exits returns to user space. */
TEST_F(vtl, no_offload_without_the_flag)
{
	self->v.run->offload_flags = (uint8_t)~MSHV_VTL_OFFLOAD_FLAG_INTR_INJECT;
	ASSERT_EQ(write_file(EMUL_KNOBS "exit_class", "0x1102"), 0);
	ASSERT_EQ(enter(&self->v), 0);
	EXPECT_EQ(self->v.run->exit_info.rax,
		  (uint64_t)TDX_CLASS_L2_EXIT_PENDING_INTERRUPT << 32 | REASON_HW_INTERRUPT);
	ASSERT_EQ(write_file(EMUL_KNOBS "exit_class", "0x1100"), 0);
	ASSERT_EQ(write_file(EMUL_KNOBS "refuse", "1"), 0);
	ASSERT_EQ(enter(&self->v), 0);
	EXPECT_EQ(self->v.run->exit_info.rax, RAX_NOTHING);
	ASSERT_EQ(write_file(EMUL_KNOBS "refuse", "0"), 0);

	memcpy(self->v.memory + CODE, hlt_spin, sizeof(hlt_spin));
	do {
		ASSERT_EQ(enter(&self->v), 0);
	} while (self->v.run->exit_info.rax == RAX_INTERRUPT &&
		 self->v.run->l2_enter_guest_state.rip == CODE);
	EXPECT_EQ(self->v.run->exit_info.rax, REASON_HLT);
	EXPECT_EQ(self->v.run->flags, 0);
}

/* Any other exit returns to user space even with the flag. */
TEST_F(vtl, offload_leaves_other_exits)
{
	self->v.run->offload_flags = MSHV_VTL_OFFLOAD_FLAG_INTR_INJECT;
	ASSERT_EQ(enter(&self->v), 0);
	EXPECT_EQ(self->v.run->exit_info.rax, RAX_INTERRUPT);
}

/* The ioctl reports no exit and leaves RAX alone. */
TEST_F(vtl, cancel_before_an_entry)
{
	unsigned long n = all_entries();

	self->v.run->exit_info.rax = 0x1234;
	self->v.run->cancel = 1;
	for (unsigned int mode = 0; mode < MODES; mode++) {
		self->v.run->enter_mode = mode;
		EXPECT_EQ(enter(&self->v), EINTR);
	}
	EXPECT_EQ(self->v.run->exit_info.rax, 0x1234);
	EXPECT_EQ(self->v.run->cancel, 1);
	EXPECT_EQ(all_entries(), n);
}

TEST_F(vtl, kick_interrupts)
{
	long call = irq_count("CAL:", self->v.cpu), resched = irq_count("RES:", self->v.cpu);
	struct mshv_kick_cpus arg = { 0 };
	pid_t busy;

	if (get_nprocs() < 2)
		SKIP(return, "one CPU");
	/* Keep the CPU busy: an idle one that polls needs no interrupt. */
	busy = fork();
	ASSERT_GE(busy, 0);
	while (!busy)
		;
	set_affinity(0);
	usleep(10000);
	for (unsigned int i = 0; i < SOME; i++)
		ASSERT_EQ(kick(&self->v, MSHV_KICK_CPUS_FLAG_WAIT_FOR_CPUS), 0);
	EXPECT_GE(irq_count("CAL:", self->v.cpu) - call, SOME);
	EXPECT_EQ(self->v.run->cancel, 0);
	for (unsigned int i = 0; i < SOME; i++) {
		ASSERT_EQ(kick(&self->v, 0), 0);
		usleep(2000);
	}
	EXPECT_GE(irq_count("RES:", self->v.cpu) - resched, SOME);
	EXPECT_EQ(self->v.run->cancel, 0);
	ASSERT_EQ(kick(&self->v, MSHV_KICK_CPUS_FLAG_CANCEL_CPU_RUN), 0);
	EXPECT_EQ(self->v.run->cancel, 1);
	self->v.run->cancel = 0;
	ASSERT_EQ(kick(&self->v, MSHV_KICK_CPUS_FLAG_CANCEL_CPU_RUN |
			     MSHV_KICK_CPUS_FLAG_WAIT_FOR_CPUS), 0);
	EXPECT_EQ(self->v.run->cancel, 1);
	self->v.run->cancel = 0;

	kill(busy, SIGKILL);
	waitpid(busy, NULL, 0);

	/* A kick skips the caller's own CPU. */
	set_affinity(self->v.cpu);
	ASSERT_EQ(kick(&self->v, MSHV_KICK_CPUS_FLAG_CANCEL_CPU_RUN), 0);
	EXPECT_EQ(self->v.run->cancel, 0);

	EXPECT_EQ(ioctl(self->v.vtl, MSHV_VTL_KICK_CPU, &arg), 0);
	arg.len = 8;
	EXPECT_EQ(ioctl(self->v.vtl, MSHV_VTL_KICK_CPU, &arg), -1);
	EXPECT_EQ(errno, EFAULT);
	EXPECT_EQ(ioctl(self->v.vtl, MSHV_VTL_KICK_CPU, NULL), -1);
	EXPECT_EQ(errno, EFAULT);
}

TEST_F(vtl, poll_file)
{
	struct mshv_vtl_set_poll_file arg = { .cpu = self->v.cpu };
	int first = eventfd(0, EFD_CLOEXEC), second = eventfd(0, EFD_CLOEXEC), ends[2];
	uint64_t one = 1;

	ASSERT_GE(first, 0);
	ASSERT_GE(second, 0);
	arg.fd = first;
	ASSERT_EQ(ioctl(self->v.vtl, MSHV_VTL_SET_POLL_FILE, &arg), 0);
	ASSERT_EQ(write(first, &one, sizeof(one)), sizeof(one));
	EXPECT_EQ(self->v.run->cancel, 1);
	EXPECT_EQ(enter(&self->v), EINTR);
	/* A second file replaces the first. */
	self->v.run->cancel = 0;
	arg.fd = second;
	ASSERT_EQ(ioctl(self->v.vtl, MSHV_VTL_SET_POLL_FILE, &arg), 0);
	ASSERT_EQ(write(first, &one, sizeof(one)), sizeof(one));
	EXPECT_EQ(self->v.run->cancel, 0);
	EXPECT_EQ(enter(&self->v), 0);
	ASSERT_EQ(write(second, &one, sizeof(one)), sizeof(one));
	EXPECT_EQ(self->v.run->cancel, 1);
	self->v.run->cancel = 0;

	arg.fd = 999;
	EXPECT_EQ(ioctl(self->v.vtl, MSHV_VTL_SET_POLL_FILE, &arg), -1);
	EXPECT_EQ(errno, EBADFD);
	arg.fd = self->v.vtl;
	EXPECT_EQ(ioctl(self->v.vtl, MSHV_VTL_SET_POLL_FILE, &arg), -1);
	EXPECT_EQ(errno, EINVAL);
	arg.fd = first;
	arg.cpu = 0xffffffff;
	EXPECT_EQ(ioctl(self->v.vtl, MSHV_VTL_SET_POLL_FILE, &arg), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(ioctl(self->v.vtl, MSHV_VTL_SET_POLL_FILE, NULL), -1);
	EXPECT_EQ(errno, EFAULT);

	/* The driver holds the file, and releases it with the VTL's file. */
	signal(SIGPIPE, SIG_IGN);
	ASSERT_EQ(pipe(ends), 0);
	arg.cpu = self->v.cpu;
	arg.fd = ends[0];
	ASSERT_EQ(ioctl(self->v.vtl, MSHV_VTL_SET_POLL_FILE, &arg), 0);
	close(ends[0]);
	EXPECT_EQ(write(ends[1], &one, sizeof(one)), sizeof(one));
	EXPECT_EQ(self->v.run->cancel, 1);
	self->v.run->cancel = 0;
	munmap((void *)self->v.run, PAGE);
	self->v.run = NULL;
	close(self->v.vtl);
	EXPECT_EQ(write(ends[1], &one, sizeof(one)), -1);
	EXPECT_EQ(errno, EPIPE);
}

/* A file whose wait queue goes away before the file: the signals of a thread that ends. */
static void *poll_own_signals(void *arg)
{
	struct l2 *v = arg;
	struct mshv_vtl_set_poll_file poll = { .cpu = v->cpu };
	pid_t pid = fork();
	sigset_t set;
	int status;

	if (!pid) {
		sigemptyset(&set);
		sigaddset(&set, SIGUSR2);
		sigprocmask(SIG_BLOCK, &set, NULL);
		poll.fd = syscall(SYS_signalfd4, -1, &set, 8, 0);
		if (ioctl(v->vtl, MSHV_VTL_SET_POLL_FILE, &poll))
			_exit(1);
		raise(SIGUSR2);
		_exit(v->run->cancel == 1 ? 0 : 2);
	}
	return waitpid(pid, &status, 0) == pid && !status ? arg : NULL;
}

TEST_F(vtl, poll_file_outlives_its_queue)
{
	struct mshv_vtl_set_poll_file arg = { .cpu = self->v.cpu };

	for (unsigned int i = 0; i < SOME; i++) {
		self->v.run->cancel = 0;
		ASSERT_NE(poll_own_signals(&self->v), NULL);
	}
	arg.fd = eventfd(0, EFD_CLOEXEC);
	EXPECT_EQ(ioctl(self->v.vtl, MSHV_VTL_SET_POLL_FILE, &arg), 0);
}

FIXTURE(exit_info)
{
	struct l2 v;
};

FIXTURE_VARIANT(exit_info)
{
	unsigned int enter_mode;
};

FIXTURE_VARIANT_ADD(exit_info, fast) { .enter_mode = 0 };
FIXTURE_VARIANT_ADD(exit_info, play_idle) { .enter_mode = 1 };
FIXTURE_VARIANT_ADD(exit_info, idle_thread) { .enter_mode = 2 };

FIXTURE_SETUP(exit_info)
{
	l2_setup(_metadata, &self->v);
	if (_metadata->exit_code)
		return;
	self->v.run->enter_mode = variant->enter_mode;
}

FIXTURE_TEARDOWN(exit_info)
{
	l2_teardown(&self->v);
}

/* An error changes RAX and leaves the operands in RCX and RDX. No kernel value leaks. */
TEST_F(exit_info, after_an_error)
{
	volatile struct tdx_vp_enter_regs *info = &self->v.run->exit_info;

	for (unsigned int i = 0; i < SOME; i++) {
		memset((void *)info, 0x55, sizeof(*info));
		self->v.run->entry_rcx = 0;
		ASSERT_EQ(enter(&self->v), 0);
		EXPECT_EQ(info->rax, TDX_STATUS_OPERAND_INVALID | TDX_OPERAND_RCX);
		EXPECT_EQ(info->rcx, 0);
		EXPECT_EQ(info->rdx % PAGE, offsetof(struct mshv_vtl_run, l2_enter_guest_state));
		EXPECT_EQ(info->rsi | info->rdi, 0);
		EXPECT_EQ(info->r8, 0);
		EXPECT_EQ(info->r9, 0);
		EXPECT_EQ(info->r10, 0);
		EXPECT_EQ(info->r11, 0);
		EXPECT_EQ(info->r12, 0);
		EXPECT_EQ(info->r13, 0);
	}
}

/* After an exit on an interrupt, all of these are zero. */
TEST_F(exit_info, after_an_exit)
{
	volatile struct tdx_vp_enter_regs *info = &self->v.run->exit_info;

	for (unsigned int i = 0; i < SOME; i++) {
		memset((void *)info, 0x55, sizeof(*info));
		ASSERT_EQ(enter(&self->v), 0);
		EXPECT_EQ(info->rax, RAX_INTERRUPT);
		EXPECT_EQ(info->rcx | info->rdx, 0);
		EXPECT_EQ(info->r8, 0);
		EXPECT_EQ(info->r10, 0);
		EXPECT_EQ(info->r11 >> 32, 0);
		EXPECT_EQ(info->r12, 0);
		EXPECT_EQ(info->r13, 0);
	}
}

/* The notifier is called once per return from an ioctl that entered, never for a halt. */
TEST_F(exit_info, own_user_return_notifier)
{
	long calls = read_user_returns();

	if (calls < 0)
		SKIP(return, "no user-return notifiers in this kernel");
	for (unsigned int i = 0; i < SOME; i++) {
		ASSERT_EQ(enter(&self->v), 0);
		EXPECT_EQ(read_user_returns(), calls + i + 1);
	}
	ASSERT_EQ(write_file(KNOBS "reenter", "3"), 0);
	calls = read_user_returns();
	ASSERT_EQ(enter(&self->v), 0);
	/* Another task may return to user space here while this one sleeps. */
	calls = read_user_returns() - calls;
	EXPECT_GE(calls, 1);
	EXPECT_TRUE(calls == 1 || expected_mode(variant->enter_mode) == IDLE_THREAD);
	ASSERT_EQ(write_file(KNOBS "reenter", "0"), 0);
	calls = read_user_returns();
	self->v.run->flags = MSHV_VTL_RUN_FLAG_HALTED;
	ASSERT_EQ(enter(&self->v), 0);
	EXPECT_EQ(read_user_returns(), calls);
}

/*
 * After an entry the ioctl returns 0, even if a signal is pending, and the handler runs
 * before the return is seen here. Only a signal before the entry gives EINTR.
 */
TEST_F(exit_info, signals)
{
	const struct itimerval its = { .it_value = { 0, 1000 } };
	unsigned int exits = 0, none = 0;
	sig_atomic_t before;
	unsigned long n;
	int ret;

	signal(SIGALRM, count_signal);
	for (unsigned int i = 0; i < 10000 && exits < 50; i++) {
		before = handled;
		n = all_entries();
		self->v.run->exit_info.rax = 0;
		ASSERT_EQ(setitimer(ITIMER_REAL, &its, NULL), 0);
		ret = ioctl(self->v.vtl, MSHV_VTL_RETURN_TO_LOWER_VTL) ? errno : 0;
		if (ret) {
			ASSERT_EQ(ret, EINTR);
			ASSERT_EQ(all_entries(), n);
			EXPECT_NE(handled, before);
			EXPECT_EQ(self->v.run->exit_info.rax, 0);
			none++;
		} else {
			ASSERT_EQ(all_entries(), n + 1);
			EXPECT_EQ(self->v.run->exit_info.rax, RAX_INTERRUPT);
			exits += handled != before;
		}
		/* Another interrupt may have come first. */
		while (handled == before)
			usleep(100);
	}
	EXPECT_EQ(exits, 50);
	TH_LOG("%u with an exit, %u without", exits, none);
}

/* The fault planted for other tests: DR1 reads as another value than the L2's. */
TEST_F(exit_info, planted_fault)
{
	struct hv_register_assoc reg = { .name = HV_X64_REGISTER_DR0 + 1 };
	struct mshv_vp_registers arg = { .count = 1, .regs_ptr = (uintptr_t)&reg };

	for (int on = 0; on < 2; on++) {
		ASSERT_EQ(write_file(KNOBS "plant", on ? "1" : "0"), 0);
		reg.value[0] = 0x1234;
		ASSERT_EQ(ioctl(self->v.vtl, MSHV_SET_VP_REGISTERS, &arg), 0);
		ASSERT_EQ(enter(&self->v), 0);
		ASSERT_EQ(ioctl(self->v.vtl, MSHV_GET_VP_REGISTERS, &arg), 0);
		EXPECT_EQ(reg.value[0] == 0x1234, !on);
	}
}

/* Two threads on a CPU, one of them waiting for the idle task: both get exits. */
static void *enter_some(void *arg)
{
	struct l2 *v = arg;

	set_affinity(v->cpu);
	for (unsigned int i = 0; i < SOME; i++)
		if (enter(v))
			return NULL;
	return arg;
}

TEST_F(vtl, two_threads_on_a_cpu)
{
	struct l2 other = self->v;
	pthread_t thread;
	void *ret;

	other.tick = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	ASSERT_GE(other.tick, 0);
	self->v.run->enter_mode = MSHV_ENTER_IDLE_THREAD;
	ASSERT_EQ(pthread_create(&thread, NULL, enter_some, &other), 0);
	EXPECT_NE(enter_some(&self->v), NULL);
	ASSERT_EQ(pthread_join(thread, &ret), 0);
	EXPECT_NE(ret, NULL);
}

/* If the idle task gets no time, there is no entry, and a signal ends the wait. */
static void *signal_later(void *arg)
{
	struct helper *h = arg;

	set_affinity(0);
	usleep(200000);
	h->early = all_entries() != h->entries;
	h->failed = pthread_kill(h->caller, SIGUSR1);
	return NULL;
}

TEST_F(vtl, woken_without_an_entry)
{
	struct helper h = { .v = &self->v, .caller = pthread_self() };
	pid_t busy;

	if (get_nprocs() < 2 || !has_idle_thread())
		SKIP(return, "no idle-thread mode, or one CPU");
	signal(SIGUSR1, count_signal);
	self->v.run->enter_mode = MSHV_ENTER_IDLE_THREAD;
	self->v.run->exit_info.rax = 0x1234;
	busy = fork();
	ASSERT_GE(busy, 0);
	while (!busy)
		;
	h.entries = all_entries();
	ASSERT_EQ(pthread_create(&h.thread, NULL, signal_later, &h), 0);
	EXPECT_EQ(ioctl(self->v.vtl, MSHV_VTL_RETURN_TO_LOWER_VTL), -1);
	EXPECT_EQ(errno, EINTR);
	pthread_join(h.thread, NULL);
	EXPECT_FALSE(h.early);
	EXPECT_FALSE(h.failed);
	EXPECT_EQ(handled, 1);
	EXPECT_EQ(all_entries(), h.entries);
	EXPECT_EQ(self->v.run->exit_info.rax, 0x1234);
	kill(busy, SIGKILL);
	waitpid(busy, NULL, 0);
	EXPECT_EQ(enter(&self->v), 0);
	EXPECT_EQ(self->v.run->exit_info.rax, RAX_INTERRUPT);
}

/* A task moved while it waits stays until the exit, and leaves nothing behind. */
static void *move(void *arg)
{
	struct helper *h = arg;
	cpu_set_t set;

	set_affinity(0);
	while (!h->returned) {
		for (unsigned int cpu = 0; cpu < 2; cpu++) {
			CPU_ZERO(&set);
			CPU_SET(cpu, &set);
			h->failed |= pthread_setaffinity_np(h->caller, sizeof(set), &set) != 0;
		}
	}
	return NULL;
}

TEST_F(vtl, moved_while_it_waits)
{
	struct helper h = { .v = &self->v, .caller = pthread_self() };
	volatile struct mshv_vtl_run *first;

	if (get_nprocs() < 2)
		SKIP(return, "one CPU");
	/* The task enters the L2 of the CPU it is on. */
	first = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, self->v.vtl, 0);
	ASSERT_NE((void *)first, MAP_FAILED);
	self->v.run->enter_mode = MSHV_ENTER_IDLE_THREAD;
	memcpy((void *)first, (void *)self->v.run, sizeof(*first));
	memcpy((uint8_t *)first + PAGE, (void *)self->v.run, sizeof(*first));
	ASSERT_EQ(pthread_create(&h.thread, NULL, move, &h), 0);
	for (unsigned int i = 0; i < SOME; i++)
		EXPECT_EQ(enter(&self->v), 0);
	h.returned = true;
	pthread_join(h.thread, NULL);
	EXPECT_FALSE(h.failed);
}

TEST_HARNESS_MAIN
